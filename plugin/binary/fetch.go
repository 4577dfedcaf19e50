package binary

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	errDeadline = errors.New("the time for one acquisition is over")
	errStall    = errors.New("no byte came for too long")
)

// mostRedirects is how many redirects are followed.
const mostRedirects = 10

// fetcher gets files over HTTP, within limits, from the hosts that are allowed.
type fetcher struct {
	client *http.Client
	limits Limits
	allow  []string
}

func newFetcher(limits Limits, allow []string, ca *x509.CertPool) *fetcher {
	f := &fetcher{limits: limits, allow: allow}
	f.client = &http.Client{
		CheckRedirect: f.redirect,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: limits.Stall, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    limits.Stall,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // the digest is of the file as it is published
			DisableKeepAlives:      true, // nothing of a store stays behind when it is dropped
			ForceAttemptHTTP2:      true,
		},
	}
	return f
}

// permit refuses what may not be asked.
func (f *fetcher) permit(u *url.URL) *Error {
	host := u.Hostname()
	switch {
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(host)):
		return fail(ForbiddenScheme, nil, "%s: only https is allowed, and http to this machine itself", scrub(u.String())).about(u.String())
	case len(f.allow) > 0 && !slices.ContainsFunc(f.allow, func(pattern string) bool { return hostMatches(pattern, host) }):
		return fail(ForbiddenHost, nil, "%s: host %s is not among the allowed ones", scrub(u.String()), host).about(u.String()).
			hint("allow %s in the settings of acquisition", host)
	}
	return nil
}

// redirect decides whether a redirect is followed: not into a loop, not from
// https to plain http, and not from elsewhere into this machine.
func (f *fetcher) redirect(req *http.Request, via []*http.Request) error {
	last := via[len(via)-1].URL
	from, to := scrub(last.String()), scrub(req.URL.String())
	req.Header.Del("Referer") // its query may be a credential
	switch {
	case len(via) >= mostRedirects:
		return fail(RedirectLoop, nil, "%s: more than %d redirects", scrub(via[0].URL.String()), mostRedirects).about(from)
	case req.URL.Scheme == "http" && (last.Scheme == "https" || !isLoopback(req.URL.Hostname())):
		return fail(InsecureRedirect, nil, "%s redirects to plain http: %s", from, to).about(from)
	case isLocal(req.URL.Hostname()) && !isLocal(via[0].URL.Hostname()):
		return fail(ForbiddenHost, nil, "%s redirects into this machine: %s", from, to).about(from)
	case req.URL.User != nil:
		return fail(BadURL, nil, "%s redirects to a URL with a user name: %s", from, to).about(from)
	}
	if err := f.permit(req.URL); err != nil {
		return fail(err.Class, nil, "%s redirects: %s", from, err.Message).about(from).hint("%s", err.Hint)
	}
	return nil
}

// hostMatches reports whether the host is the one of the pattern, or below it
// where the pattern begins with "*.".
func hostMatches(pattern, host string) bool {
	pattern, host = strings.ToLower(pattern), strings.ToLower(host)
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok && strings.HasPrefix(suffix, ".") {
		return strings.HasSuffix(host, suffix)
	}
	return pattern == host
}

// isLoopback reports whether the host can only be this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// isLocal reports whether the host is this machine or its link.
func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return isLoopback(host) || strings.HasSuffix(strings.ToLower(host), ".localhost") ||
		ip != nil && (ip.IsLinkLocalUnicast() || ip.IsUnspecified())
}

// read gets a small file.
func (f *fetcher) read(ctx context.Context, rawURL string, most int64) ([]byte, error) {
	var text bytes.Buffer
	err := f.get(ctx, rawURL, fetchTo{most: most, open: func() (io.Writer, error) {
		text.Reset()
		return &text, nil
	}})
	return text.Bytes(), err
}

// fetchTo says where the body of an answer goes.
type fetchTo struct {
	most  int64                     // bytes that are taken
	open  func() (io.Writer, error) // begins anew, at every try
	seen  func(done, total int64)   // progress; may be nil
	retry func(try int, why error)  // is told of every further try; may be nil
}

// get gets the file, trying again where that may help. Every error is an
// [*Error] that names the URL.
func (f *fetcher) get(ctx context.Context, rawURL string, to fetchTo) error {
	pause := f.limits.Backoff
	for try := 1; ; try++ {
		err := f.try(ctx, rawURL, to)
		if err == nil {
			return nil
		}
		if try >= f.limits.Tries || !err.again || ctx.Err() != nil {
			return err.about(rawURL)
		}
		if to.retry != nil {
			to.retry(try+1, err.Error)
		}
		wait := pause + rand.N(pause/2+1)
		select {
		case <-ctx.Done():
			return err.about(rawURL)
		case <-time.After(max(wait, err.after)):
		}
		pause *= 2
	}
}

// tryError is an error of one try.
type tryError struct {
	*Error
	again bool          // trying again may help
	after time.Duration // but not sooner
}

// try asks once.
func (f *fetcher) try(ctx context.Context, rawURL string, to fetchTo) *tryError {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(f.limits.Stall, func() { cancel(errStall) })
	defer watch.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return &tryError{Error: fail(BadURL, nil, "%s is not a URL", scrub(rawURL))}
	}
	if err := f.permit(req.URL); err != nil {
		return &tryError{Error: err}
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "lab")
	resp, err := f.client.Do(req)
	if err != nil {
		return f.trouble(ctx, rawURL, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return f.refusal(rawURL, resp)
	}
	if resp.ContentLength > to.most {
		return &tryError{Error: fail(LimitExceeded, nil, "%s has %d bytes, allowed are %d", scrub(rawURL), resp.ContentLength, to.most)}
	}
	out, err := to.open()
	if err != nil {
		return f.trouble(ctx, rawURL, err)
	}
	err = copyBody(out, resp, to, func() { watch.Reset(f.limits.Stall) })
	if err != nil {
		return f.trouble(ctx, rawURL, err)
	}
	return nil
}

// copyBody copies the body of an answer, calling alive at every byte that came.
func copyBody(out io.Writer, resp *http.Response, to fetchTo, alive func()) error {
	buffer := make([]byte, 128<<10)
	for done := int64(0); ; {
		n, err := resp.Body.Read(buffer)
		if n > 0 {
			alive()
			done += int64(n)
			if done > to.most {
				return fail(LimitExceeded, nil, "%s has more than the allowed %d bytes", scrub(resp.Request.URL.String()), to.most)
			}
			if _, err := out.Write(buffer[:n]); err != nil {
				return ioError(err, "write a download")
			}
			if to.seen != nil {
				to.seen(done, max(resp.ContentLength, 0))
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", done, err)
		}
	}
}

// trouble says what an error of the connection means.
func (f *fetcher) trouble(ctx context.Context, rawURL string, err error) *tryError {
	var known *Error
	var wrapped *url.Error
	if errors.As(err, &known) {
		return &tryError{Error: known}
	}
	if errors.As(err, &wrapped) {
		err = wrapped.Err // the rest repeats method and URL
	}
	e := &tryError{again: true}
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errStall):
		e.Error = fail(Timeout, nil, "GET %s: no byte for %v", scrub(rawURL), f.limits.Stall)
	case errors.Is(cause, errDeadline), errors.Is(cause, context.DeadlineExceeded):
		e.Error = fail(Timeout, cause, "GET %s", scrub(rawURL))
	case isTLS(err):
		e.Error, e.again = fail(TLSError, err, "GET %s", scrub(rawURL)), false
		e.hint("check this machine's clock and its certificate authorities")
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Error = fail(Truncated, err, "GET %s", scrub(rawURL))
	default:
		e.Error = fail(NetworkError, err, "GET %s", scrub(rawURL))
		var dns *net.DNSError
		e.again = !errors.As(err, &dns) || !dns.IsNotFound
	}
	if u, err := url.Parse(rawURL); err == nil {
		e.hint("give this machine access to %s (https_proxy is honoured)", u.Host)
	}
	return e
}

func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert)
}

// refusal says what an answer other than success means.
func (f *fetcher) refusal(rawURL string, resp *http.Response) *tryError {
	text := fmt.Sprintf("GET %s: %s", scrub(rawURL), resp.Status)
	if at := resp.Request.URL.String(); at != rawURL {
		text += " from " + scrub(at)
	}
	after := retryAfter(resp.Header, time.Now())
	limited := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusForbidden &&
		(after > 0 || resp.Header.Get("X-RateLimit-Remaining") == "0")
	switch {
	case limited:
		e := fail(RateLimited, nil, "%s: asked too often", text).hint("wait a while and try again")
		if after > f.limits.RetryAfter {
			e.Hint = "try again in " + after.Round(time.Second).String()
		}
		return &tryError{Error: e, again: after <= f.limits.RetryAfter, after: after}
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return &tryError{Error: fail(NotFound, nil, "%s", text).hint("check the version: the publisher has no such file")}
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusRequestTimeout:
		return &tryError{Error: fail(HTTPError, nil, "%s", text).hint("try again later"), again: after <= f.limits.RetryAfter, after: after}
	}
	return &tryError{Error: fail(HTTPError, nil, "%s", text)}
}

// retryAfter returns how long the server wants to be left alone.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), 1<<20)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
