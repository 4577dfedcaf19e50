package jetstream

import (
	"errors"
	"strings"
	"unicode/utf8"
)

var (
	errNotEscaped = errors.New("a percent sign is not followed by two hexadecimal digits")
	errNotUTF8    = errors.New("it is not UTF-8")
	errNotURI     = errors.New("it is no URI")
	errNotTime    = errors.New("it is no time")
)

const hexDigits = "0123456789ABCDEF"

// plain reports whether the byte stands for itself in a header. The space is
// not among them: header values are trimmed on their way.
func plain(c byte) bool { return c > ' ' && c <= '~' && c != '"' && c != '%' }

// escape writes a value so that a header carries it byte by byte, line breaks
// included.
func escape(s string) string {
	special := 0
	for i := range len(s) {
		if !plain(s[i]) {
			special++
		}
	}
	if special == 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 2*special)
	for i := range len(s) {
		c := s[i]
		if plain(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&0xf])
	}
	return b.String()
}

// unescape reads what escape wrote. Overlong and otherwise invalid UTF-8 is an
// error.
func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		if !utf8.ValidString(s) {
			return "", errNotUTF8
		}
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errNotEscaped
		}
		high, low := nibble(s[i+1]), nibble(s[i+2])
		if high < 0 || low < 0 {
			return "", errNotEscaped
		}
		b = append(b, byte(high<<4|low))
		i += 2
	}
	if !utf8.Valid(b) {
		return "", errNotUTF8
	}
	return string(b), nil
}

func nibble(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
