package binary

import (
	"context"
	"net/http"
	"net/url"
)

// FindChecksum is findChecksum for the fuzzer.
func FindChecksum(text []byte, name string) (algorithm, digest string, err error) {
	sum, err := findChecksum(text, name)
	return sum.algorithm, sum.digest, err
}

// UnsafeName is unsafeName for the fuzzer.
func UnsafeName(name string) string { return unsafeName(name) }

// LeadsOut is leadsOut for the fuzzer.
func LeadsOut(name, target string) bool { return leadsOut(name, target) }

// Scrub is scrub for the fuzzer.
func Scrub(text string) string { return scrub(text) }

// ExplainBuild is what is made of the output of a failed build.
func ExplainBuild(output string, err error) error {
	o := &buildOutput{report: &reporter{}}
	if _, err := o.Write([]byte(output)); err != nil {
		return err
	}
	return o.explain(context.Background(), err, "example.org/tool@v1.0.0")
}

// Redirect is what is decided about a redirect.
func Redirect(from, to string) error {
	a, err := url.Parse(from)
	if err != nil {
		return err
	}
	b, err := url.Parse(to)
	if err != nil {
		return err
	}
	f := newFetcher(Limits{}.orDefaults(), nil, nil)
	return f.redirect(&http.Request{URL: b, Header: http.Header{}}, []*http.Request{{URL: a}})
}
