package binary

import (
	"regexp"
	"strings"
	"unicode"
)

var (
	userinfoOf = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#"]*@`)
	queryOf    = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s?#"]+)[?#][^\s"]*`)
)

// longest is how many bytes of a text are kept.
const longest = 4096

// scrub makes a text safe to show: it cuts user names, passwords, queries and
// fragments out of every URL, where credentials hide, and turns control
// characters and the like, which deceive terminals, into spaces.
func scrub(text string) string {
	if len(text) > longest {
		text = text[:longest] + "..."
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = userinfoOf.ReplaceAllString(text, "$1")
	return queryOf.ReplaceAllString(text, "$1")
}
