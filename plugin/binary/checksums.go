package binary

import (
	"bytes"
	"encoding/hex"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"
)

// mostChecksums is how large a checksum file may be.
const mostChecksums = 1 << 20

// checksum is what a checksum file says of a file.
type checksum struct {
	algorithm string // "sha256" or "sha512"
	digest    string // in lower-case hexadecimal
}

// bsdLine is a line as BSD tools write it: SHA256 (name) = digest.
var bsdLine = regexp.MustCompile(`^([A-Za-z0-9/-]+) \((.+)\) = ([0-9A-Fa-f]+)$`)

// findChecksum returns what a checksum file says of the named file.
//
// Lines are "digest name", with a star before the name of a binary file, or as
// BSD tools write them; blank lines and comments may stand in between. Anything
// else makes the whole file malformed: half-read checksums prove nothing. A name
// must match exactly; only when none does, a name in a folder counts by its
// last element. A file that is nothing but a digest speaks of the only file it
// was published beside. Two different digests for one file are ambiguous.
func findChecksum(text []byte, name string) (checksum, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(text) || bytes.ContainsRune(text, 0) {
		return checksum{}, fail(ChecksumMalformed, nil, "the checksum file is no text")
	}
	if isMarkup(text) {
		return checksum{}, fail(ChecksumMalformed, nil, "the checksum file is a web page")
	}
	exact, inFolder := map[string][]string{}, map[string][]string{}
	lines, bare := 0, ""
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		lines++
		digest, of, ok := splitLine(line)
		if !ok {
			return checksum{}, fail(ChecksumMalformed, nil, "line %d of the checksum file is malformed", i+1)
		}
		algorithm := algorithmOf(digest)
		switch {
		case of == "":
			bare = digest
		case strings.TrimPrefix(of, "./") == name:
			exact[algorithm] = append(exact[algorithm], digest)
		case path.Base(of) == name:
			inFolder[algorithm] = append(inFolder[algorithm], digest)
		}
	}
	if bare != "" {
		if lines > 1 {
			return checksum{}, fail(ChecksumMalformed, nil, "the checksum file holds a digest without a name among others")
		}
		exact[algorithmOf(bare)] = []string{bare}
	}
	if len(exact) > 0 {
		return strongest(exact, name)
	}
	return strongest(inFolder, name)
}

// splitLine returns what a line says; no name where it is a digest alone.
func splitLine(line string) (digest, name string, ok bool) {
	if m := bsdLine.FindStringSubmatch(line); m != nil {
		digest, name = strings.ToLower(m[3]), m[2]
		says := strings.ToLower(strings.ReplaceAll(m[1], "-", ""))
		if known := algorithmOf(digest); known != "" && known != says {
			return "", "", false
		}
	} else {
		end := strings.IndexAny(line+" ", " \t")
		digest = strings.ToLower(line[:end])
		name = strings.TrimPrefix(strings.TrimLeft(line[end:], " \t"), "*")
	}
	raw, err := hex.DecodeString(digest)
	if err != nil || len(raw) < 4 || strings.HasPrefix(line, `\`) || scrub(name) != name {
		return "", "", false
	}
	return digest, name, true
}

// algorithmOf tells the algorithm by the length of the digest; empty where it
// is none that proves something.
func algorithmOf(digest string) string {
	switch len(digest) {
	case 64:
		return "sha256"
	case 128:
		return "sha512"
	}
	return ""
}

// strongest returns the digest of the strongest algorithm that was found.
func strongest(found map[string][]string, name string) (checksum, error) {
	for _, algorithm := range []string{"sha512", "sha256"} {
		digests := found[algorithm]
		for _, d := range digests {
			if d != digests[0] {
				return checksum{}, fail(ChecksumAmbiguous, nil, "the checksum file has different digests for %s", name)
			}
		}
		if len(digests) > 0 {
			return checksum{algorithm, digests[0]}, nil
		}
	}
	if len(found[""]) > 0 {
		return checksum{}, fail(WeakChecksum, nil, "the checksum file has only a weak digest for %s", name)
	}
	return checksum{}, fail(ChecksumMissing, nil, "the checksum file has no line for %s", name)
}

// isMarkup reports whether the text begins like a web page, which servers send
// in place of a file.
func isMarkup(text []byte) bool {
	start := bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(text[:min(len(text), 512)], []byte("\xef\xbb\xbf"))))
	for _, tag := range []string{"<!doctype", "<html", "<head", "<?xml", "<!--"} {
		if bytes.HasPrefix(start, []byte(tag)) {
			return true
		}
	}
	return false
}
