package proc

import (
	"regexp"
	"slices"
	"strings"
)

// blot stands in place of what must not be read.
const blot = "[redacted]"

// shortest is the length in bytes from which on a stored value is blotted out
// wherever it appears: a shorter one would take ordinary words with it.
const shortest = 4

var (
	token  = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{4,}(\.[A-Za-z0-9_-]*)*`)
	bearer = regexp.MustCompile(`(?i)\b(bearer\s+|access_token=)[^\s&"'\\]+`)
	escape = regexp.MustCompile("\x1b" + `(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])`)
)

// redact blots out of text everything that looks like a token, and the values
// given, which are ordered by [secretValues].
func redact(text string, values []string) string {
	for _, v := range values {
		text = strings.ReplaceAll(text, v, blot)
	}
	text = token.ReplaceAllString(text, blot)
	return bearer.ReplaceAllString(text, "${1}"+blot)
}

// secretValues returns what redact has to look for, from the values in the
// secret store: each line of each, longest first, so that a value that is part
// of another leaves nothing of it.
func secretValues(stored []string) []string {
	var values []string
	for _, v := range stored {
		for line := range strings.Lines(v) {
			if line = strings.TrimSpace(line); len(line) >= shortest {
				values = append(values, line)
			}
		}
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(values)
}

// plain returns line without colours and other control characters.
func plain(line string) string {
	line = escape.ReplaceAllString(line, "")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', r == 0x7f, 0x80 <= r && r < 0xa0, r == 0x2028, r == 0x2029:
			return -1
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
}
