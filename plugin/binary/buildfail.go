package binary

import (
	"context"
	"regexp"
	"strings"
)

// buildTrouble tells by what the toolchain writes why a build failed. The
// first that matches counts.
var buildTrouble = []struct {
	says  *regexp.Regexp
	class Class
	hint  string
}{
	{regexp.MustCompile(`(?i)checksum mismatch|SECURITY ERROR|invalid signature`), ChecksumMismatch, "somebody replaced the module on its way here: empty the module cache and look at GOPROXY"},
	{regexp.MustCompile(`(?i)no space left on device|read-only file system|disk quota exceeded|file too large`), IOError, "make room on the disk, also for Go's caches"},
	{regexp.MustCompile(`(?i)permission denied`), IOError, "allow writing to Go's caches (GOCACHE, GOMODCACHE)"},
	{regexp.MustCompile(`replace directives|exclude directives|must not contain directives`), BadVersion, "this version cannot be installed as a Go module: choose one whose go.mod replaces nothing"},
	{regexp.MustCompile(`requires go( >=)? ?[0-9.]+|toolchain not available`), BadVersion, "install a newer Go, or set GOTOOLCHAIN=auto"},
	{regexp.MustCompile(`GOPROXY=off|GOPROXY list is not the empty string`), NetworkError, "set GOPROXY to a module proxy"},
	{regexp.MustCompile(`(?i)x509:|certificate|tls:`), TLSError, "check this machine's clock and its certificate authorities"},
	{regexp.MustCompile(`(?i)dial tcp|no such host|connection refused|connection reset|i/o timeout|network is unreachable|proxyconnect|unexpected EOF`), NetworkError, "give this machine access to a Go module proxy (GOPROXY, https_proxy) and to the checksum database"},
	{regexp.MustCompile(`429 Too Many|Too Many Requests`), RateLimited, "wait a while and try again"},
	{regexp.MustCompile(`404 Not Found|410 Gone|unknown revision|no matching versions|not found|does not contain package|no required module`), NotFound, "check module, package and version"},
	{regexp.MustCompile(`403 Forbidden|40[0-9] |50[0-9] `), HTTPError, "ask who runs the module proxy (GOPROXY)"},
	{regexp.MustCompile(`is not a main package|not a command`), MissingBinary, "name a package that is a program"},
}

// How much of a failed build's output goes into the error.
const (
	tellingLines = 5
	tellingBytes = 800
)

// explain says why the build failed.
func (o *buildOutput) explain(ctx context.Context, err error, pkg string) error {
	if len(o.partial) > 0 {
		o.line(string(o.partial))
	}
	if cause := context.Cause(ctx); cause != nil {
		return fail(Timeout, cause, "go install %s", pkg)
	}
	all := strings.Join(o.lines, "\n")
	e := fail(BadContent, nil, "go install %s: %s", pkg, o.telling(err))
	for _, t := range buildTrouble {
		if t.says.MatchString(all) {
			e.Class = t.class
			e.hint("%s", t.hint)
			break
		}
	}
	e.Err = err
	return e
}

// telling returns the last lines of the output, shortened; that it failed is
// all there is to say when there are none.
func (o *buildOutput) telling(err error) string {
	if len(o.lines) == 0 {
		return err.Error()
	}
	text := strings.Join(o.lines[max(0, len(o.lines)-tellingLines):], " ")
	if len(text) > tellingBytes {
		text = "..." + text[len(text)-tellingBytes:]
	}
	return text
}
