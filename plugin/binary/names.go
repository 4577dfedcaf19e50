package binary

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The longest names that every file system takes.
const (
	longestElement = 255
	longestPath    = 1024
)

// unsafeName says what is wrong with the name of a member of an archive; empty
// where it is a relative path that stays inside and shows as what it is.
func unsafeName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > longestPath:
		return "is too long"
	case !utf8.ValidString(name):
		return "is not UTF-8"
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }):
		return "holds control characters"
	case strings.Contains(name, `\`):
		return "holds a backslash"
	case strings.HasPrefix(name, "/"):
		return "is absolute"
	case len(name) >= 2 && name[1] == ':' && unicode.IsLetter(rune(name[0])):
		return "begins with a drive letter"
	}
	for _, element := range strings.Split(name, "/") {
		if element == ".." {
			return "leads out of the folder"
		}
		if len(element) > longestElement {
			return "is too long"
		}
	}
	return ""
}

// leadsOut reports whether a symbolic link of that name and target leads out
// of the folder that names are relative to.
func leadsOut(name, target string) bool {
	if target == "" || path.IsAbs(target) || strings.ContainsAny(target, "\\\x00") || len(target) > longestPath {
		return true
	}
	resolved := path.Join(path.Dir(name), target)
	return resolved == ".." || strings.HasPrefix(resolved, "../")
}
