package binary_test

import (
	"context"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/matryer/is"
)

// pinned is the spec of a bare executable behind a URL.
func pinned(url string, content []byte) binary.Spec {
	return binary.Spec{Name: "tool", Version: "1.0.0", Sources: []binary.Source{
		{Kind: binary.KindRelease, URLs: []string{url}, SHA256: sha256Of(content)},
	}}
}

// acquire acquires into a fresh store and checks that nothing half done stays.
func acquire(t *testing.T, opts binary.Options, spec binary.Spec) (binary.Installed, error) {
	t.Helper()
	dir := t.TempDir()
	got, err := binary.NewStore(dir, opts).Acquire(t.Context(), spec, nil)
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left in the store: %v", left)
	}
	if _, lookupErr := binary.NewStore(dir, opts).Lookup(spec); err != nil && lookupErr == nil {
		t.Errorf("in the store although acquiring it failed: %v", err)
	}
	return got, err
}

func TestWhatServersDoWrong(t *testing.T) {
	t.Parallel()
	script := []byte("#!/bin/sh\necho works >&2\n")
	impatient := quick
	impatient.Stall, impatient.Tries = 100*time.Millisecond, 1
	late := quick
	late.Timeout, late.Tries = 200*time.Millisecond, 1
	small := quick
	small.MaxBytes = 1000
	hang := func(req *http.Request) { <-req.Context().Done() }
	cases := map[string]struct {
		limits binary.Limits
		serve  http.HandlerFunc
		class  binary.Class
		asked  int
	}{
		"404": {quick, http.NotFound, binary.NotFound, 1},
		"410": {quick, status(http.StatusGone), binary.NotFound, 1},
		"401": {quick, status(http.StatusUnauthorized), binary.HTTPError, 1},
		"403": {quick, status(http.StatusForbidden), binary.HTTPError, 1},
		"403 that is a rate limit": {quick, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.WriteHeader(http.StatusForbidden)
		}, binary.RateLimited, 3},
		"429": {quick, status(http.StatusTooManyRequests), binary.RateLimited, 3},
		"429 for long": {quick, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}, binary.RateLimited, 1},
		"500":               {quick, status(http.StatusInternalServerError), binary.HTTPError, 3},
		"204":               {quick, status(http.StatusNoContent), binary.HTTPError, 1},
		"206":               {quick, status(http.StatusPartialContent), binary.HTTPError, 1},
		"304":               {quick, status(http.StatusNotModified), binary.HTTPError, 1},
		"empty":             {quick, status(http.StatusOK), binary.BadContent, 1},
		"another":           {quick, answer("#!/bin/sh\necho worm\n"), binary.ChecksumMismatch, 1},
		"web page with 200": {quick, answer("\n<!DOCTYPE html><html>rate limited</html>"), binary.BadContent, 1},
		"truncated": {quick, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(script[:10])
		}, binary.Truncated, 3},
		"connection cut": {quick, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, binary.NetworkError, 3},
		"stall before":   {impatient, func(_ http.ResponseWriter, req *http.Request) { hang(req) }, binary.Timeout, 1},
		"stall in the body": {impatient, func(w http.ResponseWriter, req *http.Request) {
			_, _ = w.Write(script[:10])
			w.(http.Flusher).Flush()
			hang(req)
		}, binary.Timeout, 1},
		"slow drip": {late, func(w http.ResponseWriter, req *http.Request) {
			for req.Context().Err() == nil {
				_, _ = w.Write([]byte("x"))
				w.(http.Flusher).Flush()
				<-time.After(10 * time.Millisecond)
			}
		}, binary.Timeout, 1},
		"endless": {small, func(w http.ResponseWriter, req *http.Request) {
			for req.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1000))
			}
		}, binary.LimitExceeded, 1},
		"announced too long": {small, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000000")
			w.WriteHeader(http.StatusOK)
		}, binary.LimitExceeded, 1},
		"redirect loop": {quick, func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "/tool", http.StatusFound)
		}, binary.RedirectLoop, 10},
		"redirect to a file":         {quick, redirect("file:///etc/passwd"), binary.ForbiddenScheme, 1},
		"redirect to plain http":     {quick, redirect("http://example.invalid/tool"), binary.InsecureRedirect, 1},
		"redirect with a password":   {quick, redirect("https://me:hunter2@example.invalid/tool"), binary.BadURL, 1},
		"redirect without a place":   {quick, status(http.StatusFound), binary.HTTPError, 1},
		"headers that are too large": {quick, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 200<<10)) }, binary.NetworkError, 3},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			upstream := newReleases(t)
			upstream.serve("/tool", c.serve)
			_, err := acquire(t, binary.Options{Limits: c.limits}, pinned(upstream.URL+"/tool?token=hunter2", script))
			known := wantClass(t, err, c.class)
			is.True(strings.Contains(known.Message, upstream.URL+"/tool")) // it says which URL
			is.True(!strings.Contains(known.Message+known.URL+known.Hint, "hunter2"))
			is.Equal(upstream.count("/tool"), c.asked)
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

func TestATroubleThatPassesIsSurvived(t *testing.T) {
	t.Parallel()
	script := []byte("#!/bin/sh\necho works >&2\n")
	for name, first := range map[string]http.HandlerFunc{
		"503": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"429": status(http.StatusTooManyRequests),
		"cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"truncated": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("something else"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			upstream := newReleases(t)
			var asked atomic.Int64
			upstream.serve("/tool", func(w http.ResponseWriter, req *http.Request) {
				if asked.Add(1) < 3 {
					first(w, req)
					return
				}
				_, _ = w.Write(script)
			})
			got, err := acquire(t, binary.Options{Limits: quick}, pinned(upstream.URL+"/tool", script))
			is.NoErr(err)
			is.Equal(got.Digest, "sha256:"+sha256Of(script))
			is.Equal(asked.Load(), int64(3))
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	script := []byte("#!/bin/sh\n")
	upstream := newReleases(t)
	var first time.Time
	upstream.serve("/tool", func(w http.ResponseWriter, _ *http.Request) {
		if first.IsZero() {
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		if waited := time.Since(first); waited < time.Second {
			t.Errorf("asked again after %v", waited)
		}
		_, _ = w.Write(script)
	})
	_, err := acquire(t, binary.Options{Limits: quick}, pinned(upstream.URL+"/tool", script))
	is.NoErr(err)
}

func TestTheNextURLIsTried(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	script := []byte("#!/bin/sh\n")
	upstream := newReleases(t)
	upstream.put("/worm", []byte("#!/bin/worm\n"))
	upstream.put("/tool", script)
	spec := pinned(upstream.URL+"/none", script)
	spec.Sources[0].URLs = append(spec.Sources[0].URLs, upstream.URL+"/worm", upstream.URL+"/tool")
	var skipped []string
	_, err := binary.NewStore(t.TempDir(), binary.Options{Limits: quick}).Acquire(t.Context(), spec, func(p binary.Progress) {
		if p.Step == binary.StepSkipped {
			skipped = append(skipped, p.Detail)
		}
	})
	is.NoErr(err)
	is.Equal(len(skipped), 2)
}

func TestOnlyAllowedHostsAreAsked(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	script := []byte("#!/bin/sh\n")
	upstream, other := newReleases(t), newReleases(t)
	upstream.put("/tool", script)
	spec := pinned(upstream.URL+"/tool", script)

	_, err := acquire(t, binary.Options{Limits: quick, AllowHosts: []string{"example.org", "*.example.net"}}, spec)
	known := wantClass(t, err, binary.ForbiddenHost)
	is.True(strings.Contains(known.Hint, "127.0.0.1"))
	is.Equal(upstream.total.Load(), int64(0))

	_, err = acquire(t, binary.Options{Limits: quick, AllowHosts: []string{"127.0.0.1"}}, spec)
	is.NoErr(err)

	upstream.serve("/tool", redirect(strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/tool"))
	_, err = acquire(t, binary.Options{Limits: quick, AllowHosts: []string{"127.0.0.1"}}, spec)
	wantClass(t, err, binary.ForbiddenHost)
	is.Equal(other.total.Load(), int64(0))
}

func TestWhereRedirectsMayLead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		class    binary.Class
	}{
		{"https://github.example/x", "https://assets.example/x?token=1", ""},
		{"http://127.0.0.1:1/x", "http://localhost:2/x", ""},
		{"http://127.0.0.1:1/x", "https://assets.example/x", ""},
		{"https://github.example/x", "http://assets.example/x", binary.InsecureRedirect},
		{"https://github.example/x", "http://127.0.0.1/x", binary.InsecureRedirect},
		{"https://github.example/x", "https://127.0.0.1/x", binary.ForbiddenHost},
		{"https://github.example/x", "https://[::1]/x", binary.ForbiddenHost},
		{"https://github.example/x", "https://localhost/x", binary.ForbiddenHost},
		{"https://github.example/x", "https://169.254.169.254/latest", binary.ForbiddenHost},
		{"https://github.example/x", "https://0.0.0.0/x", binary.ForbiddenHost},
		{"https://github.example/x", "ftp://assets.example/x", binary.ForbiddenScheme},
	} {
		err := binary.Redirect(c.from, c.to)
		if c.class != "" {
			wantClass(t, err, c.class)
		} else if err != nil {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
}

// Only silence is a stall: what comes slowly, but comes, is waited for.
func TestASlowDownloadIsNoStall(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	script := []byte("#!/bin/sh\necho works >&2\n")
	upstream := newReleases(t)
	upstream.serve("/tool", func(w http.ResponseWriter, _ *http.Request) {
		for i := range script {
			_, _ = w.Write(script[i : i+1])
			w.(http.Flusher).Flush()
			<-time.After(60 * time.Millisecond)
		}
	})
	limits := quick
	limits.Stall, limits.Tries = time.Second, 1 // the whole takes longer
	_, err := acquire(t, binary.Options{Limits: limits}, pinned(upstream.URL+"/tool", script))
	is.NoErr(err)
}

func TestHTTPSIsVerifiedAndNotLeft(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	script := []byte("#!/bin/sh\n")
	plain := newReleases(t)
	plain.put("/tool", script)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/down" {
			http.Redirect(w, req, plain.URL+"/tool", http.StatusFound)
			return
		}
		_, _ = w.Write(script)
	}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it is going to be refused
	secure.StartTLS()
	defer secure.Close()

	_, err := acquire(t, binary.Options{Limits: quick}, pinned(secure.URL+"/tool", script))
	wantClass(t, err, binary.TLSError)

	authorities := x509.NewCertPool()
	authorities.AddCert(secure.Certificate())
	_, err = acquire(t, binary.Options{Limits: quick, CA: authorities}, pinned(secure.URL+"/tool", script))
	is.NoErr(err)

	_, err = acquire(t, binary.Options{Limits: quick, CA: authorities}, pinned(secure.URL+"/down", script))
	wantClass(t, err, binary.InsecureRedirect)
	is.Equal(plain.total.Load(), int64(0))
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	address := l.Addr().String()
	is.NoErr(l.Close())
	_, err = acquire(t, binary.Options{Limits: quick}, pinned("http://"+address+"/tool", nil))
	known := wantClass(t, err, binary.NetworkError)
	is.True(strings.Contains(known.Hint, "give this machine access to "+address))
	is.Equal(known.URL, "http://"+address+"/tool")
}

func TestCancelledWhileItDownloads(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	ctx, cancel := context.WithCancel(t.Context())
	upstream.serve("/tool", func(w http.ResponseWriter, req *http.Request) {
		_, _ = w.Write([]byte("#!"))
		w.(http.Flusher).Flush()
		cancel()
		<-req.Context().Done()
	})
	dir := t.TempDir()
	_, err := binary.NewStore(dir, binary.Options{Limits: quick}).Acquire(ctx, pinned(upstream.URL+"/tool", nil), nil)
	is.True(errors.Is(err, context.Canceled))
	is.Equal(len(leftovers(t, dir)), 0)
}

func TestWhatChecksumFilesSay(t *testing.T) {
	t.Parallel()
	script := []byte("#!/bin/sh\n")
	right, wrong := sha256Of(script), sha256Of([]byte("worm"))
	long := sha512.Sum512(script)
	sha512 := hex.EncodeToString(long[:])
	ok := binary.Class("")
	cases := map[string]struct {
		text  string
		class binary.Class
	}{
		"plain":                      {right + "  tool\n", ok},
		"binary mark":                {right + " *tool\n", ok},
		"one space":                  {right + " tool\n", ok},
		"tab":                        {right + "\ttool\n", ok},
		"no newline at the end":      {right + "  tool", ok},
		"CRLF":                       {wrong + "  other\r\n" + right + "  tool\r\n", ok},
		"BOM":                        {"\xef\xbb\xbf" + right + "  tool\n", ok},
		"upper case":                 {strings.ToUpper(right) + "  tool\n", ok},
		"dot slash":                  {right + "  ./tool\n", ok},
		"in a folder":                {right + "  dist/tool\n", ok},
		"exact before in a folder":   {wrong + "  old/tool\n" + right + "  tool\n", ok},
		"BSD":                        {"SHA256 (tool) = " + right + "\n", ok},
		"SHA-512":                    {sha512 + "  tool\n", ok},
		"the stronger counts":        {right + "  tool\n" + sha512 + "  tool\n", ok},
		"bare digest":                {right + "\n", ok},
		"comment and blank lines":    {"# published\n\n" + right + "  tool\n\n", ok},
		"weak beside strong":         {right[:40] + "  tool\n" + right + "  tool\n", ok},
		"twice the same":             {right + "  tool\n" + right + "  tool\n", ok},
		"similar names":              {wrong + "  tool.sig\n" + wrong + "  my-tool\n" + wrong + "  toolbox\n" + right + "  tool\n", ok},
		"mismatch":                   {wrong + "  tool\n", binary.ChecksumMismatch},
		"stronger mismatch":          {right + "  tool\n" + strings.Repeat("0", 128) + "  tool\n", binary.ChecksumMismatch},
		"only similar names":         {right + "  tool.sig\n" + right + "  my-tool\n" + right + "  TOOL\n", binary.ChecksumMissing},
		"empty":                      {"", binary.ChecksumMissing},
		"conflict":                   {right + "  tool\n" + wrong + "  tool\n", binary.ChecksumAmbiguous},
		"conflict in folders":        {right + "  a/tool\n" + wrong + "  b/tool\n", binary.ChecksumAmbiguous},
		"MD5":                        {right[:32] + "  tool\n", binary.WeakChecksum},
		"SHA-1":                      {right[:40] + "  tool\n", binary.WeakChecksum},
		"not hexadecimal":            {"z" + right[1:] + "  tool\n", binary.ChecksumMalformed},
		"odd":                        {right[1:] + "  tool\n", binary.ChecksumMalformed},
		"web page":                   {"<html>rate limited</html>", binary.ChecksumMalformed},
		"a malformed line elsewhere": {right + "  tool\nsomething went wrong\n", binary.ChecksumMalformed},
		"a digest among others":      {right + "\n" + right + "  tool\n", binary.ChecksumMalformed},
		"escaped":                    {`\` + right + "  tool\n", binary.ChecksumMalformed},
		"control characters":         {right + "  to\x1bol\n", binary.ChecksumMalformed},
		"UTF-16":                     {"\xff\xfea\x00", binary.ChecksumMalformed},
		"BSD, wrong algorithm":       {"MD5 (tool) = " + right + "\n", binary.ChecksumMalformed},
		"too large":                  {strings.Repeat("# a comment\n", 100000), binary.LimitExceeded},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			upstream := newReleases(t)
			upstream.put("/tool", script)
			upstream.put("/sums", []byte(c.text))
			spec := pinned(upstream.URL+"/tool", script)
			spec.Sources[0].SHA256, spec.Sources[0].ChecksumsURL = "", upstream.URL+"/sums"
			_, err := acquire(t, binary.Options{Limits: quick}, spec)
			if c.class == ok {
				is.NoErr(err)
				return
			}
			wantClass(t, err, c.class)
		})
	}
}

func TestPinsCountMoreThanTheChecksumFile(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	script := []byte("#!/bin/sh\n")
	upstream := newReleases(t)
	upstream.put("/tool", script)
	upstream.put("/sums", []byte(sha256Of(script)+"  tool\n"))
	spec := pinned(upstream.URL+"/tool", script)
	spec.Sources[0].ChecksumsURL = upstream.URL + "/sums"
	_, err := acquire(t, binary.Options{Limits: quick}, spec)
	is.NoErr(err)
	is.Equal(upstream.count("/sums"), 0)

	spec.Sources[0].SHA512 = strings.Repeat("0", 128) // both pins must hold
	_, err = acquire(t, binary.Options{Limits: quick}, spec)
	wantClass(t, err, binary.ChecksumMismatch)
}

func TestWordsOfThePublisher(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	content := gzipped(t, tarball(t, regular("tool-2.0.0-mac-x86_64/bin/tool", []byte("#!/bin/sh\n"))))
	upstream.put("/v2.0.0/tool-2.0.0-mac-x86_64.tar.gz", content)
	spec := pinned(upstream.URL+"/v{version}/{name}-{version}-{os}-{arch}.tar.gz", content)
	spec.Version, spec.OS, spec.Arch, spec.Executable = "2.0.0", "darwin", "amd64", "{name}-{version}-{os}-{arch}/bin/tool"
	spec.Words = binary.Words{OS: map[string]string{"darwin": "mac"}, Arch: map[string]string{"amd64": "x86_64"}}
	_, err := acquire(t, binary.Options{Limits: quick}, spec)
	is.NoErr(err)

	spec.Executable = "bin/{name}" // the archive's only folder may be left out
	got, err := acquire(t, binary.Options{Limits: quick}, spec)
	is.NoErr(err)
	is.True(strings.HasSuffix(got.Path, "/tool/2.0.0@darwin-amd64/bin/tool"))
}
