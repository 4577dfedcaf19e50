package binary_test

import (
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
)

// Whatever a checksum file holds, an answer is a digest that stands in the
// file, in a line that ends with the name.
func FuzzChecksumFile(f *testing.F) {
	digest := strings.Repeat("0123456789abcdef", 4)
	for _, seed := range []string{
		digest + "  tool\n", digest + " *tool\r\n", "\xef\xbb\xbf" + digest + "\ttool", "SHA256 (tool) = " + digest,
		digest, digest + digest + "  d/tool\n", digest[:40] + "  tool\n", "# comment\n\n", "<html>", `\` + digest + "  to\\nol",
		digest + "  tool\n" + strings.ToUpper(digest) + "  tool\n",
	} {
		f.Add([]byte(seed), "tool")
	}
	form := regexp.MustCompile(`^([0-9a-f]{64}|[0-9a-f]{128})$`)
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		algorithm, got, err := binary.FindChecksum(text, name)
		if err != nil {
			return
		}
		if !form.MatchString(got) || algorithm != map[int]string{64: "sha256", 128: "sha512"}[len(got)] {
			t.Fatalf("%s %q is no digest", algorithm, got)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimPrefix(strings.TrimRight(line, " \t\r\n"), "\xef\xbb\xbf")
			if strings.Contains(strings.ToLower(line), got) && (strings.EqualFold(line, got) || strings.Contains(line, name)) {
				return
			}
		}
		t.Fatalf("%q is in no line for %q", got, name)
	})
}

// A name that is taken for safe stays inside, and shows as what it is.
func FuzzMemberName(f *testing.F) {
	for _, seed := range []string{"tool", "./a/b/", "..", "a/../b", "/etc", `a\b`, "C:x", "", ".", "a//b", "\x1b", "a/..", "..a", "a\u202eb", "\xff"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, name, target string) {
		if binary.UnsafeName(name) != "" {
			return
		}
		if !filepath.IsLocal(name) || !filepath.IsLocal(path.Clean(name)) {
			t.Fatalf("%q leads out", name)
		}
		if strings.ContainsFunc(name, unicode.IsControl) {
			t.Fatalf("%q holds control characters", name)
		}
		if !binary.LeadsOut(path.Clean(name), target) && !filepath.IsLocal(path.Join(path.Dir(path.Clean(name)), target)) {
			t.Fatalf("the link %q to %q leads out", name, target)
		}
	})
}

// What is shown holds no credentials and does nothing to a terminal.
func FuzzScrub(f *testing.F) {
	for _, seed := range []string{"https://h/x", "a\nb", "http://h?x#y", "é\x1b[2J", "https://a@b@c/d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const secret = "hunter2-hunter2"
		got := binary.Scrub(text[:min(len(text), 1000)] + " https://user:" + secret + "@host/path?token=" + secret)
		if strings.Contains(got, secret) {
			t.Fatalf("the secret is still in %q", got)
		}
		if strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("control characters in %q", got)
		}
	})
}
