package binary

import (
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// The kinds of sources.
const (
	KindInstalled = "installed" // on the machine already
	KindRelease   = "release"   // one file behind a URL
	KindGoModule  = "gomodule"  // built from a Go module
)

// Spec says which binary is wanted and where it may be had. Its fields are the
// keys of a manifest's [binary] table.
//
// The executable, the URLs and the checksum URL may hold the placeholders
// {name}, {version}, {os} and {arch}.
type Spec struct {
	Name       string   `mapstructure:"name"`
	Version    string   `mapstructure:"version"`    // an exact one
	Executable string   `mapstructure:"executable"` // path inside the archive, or below its only folder; default the name
	OS         string   `mapstructure:"os"`         // as Go names it; default this machine's
	Arch       string   `mapstructure:"arch"`       // as Go names it; default this machine's
	Words      Words    `mapstructure:"words"`
	Sources    []Source `mapstructure:"source"` // tried in order
}

// Words says how the publisher names what Go names otherwise, for the
// placeholders {os} and {arch}: darwin is mac, amd64 is x86_64.
type Words struct {
	OS   map[string]string `mapstructure:"os"`
	Arch map[string]string `mapstructure:"arch"`
}

// Source is one place to have the binary from. Which fields count depends on
// the kind.
type Source struct {
	Kind string `mapstructure:"kind"` // installed, release or gomodule

	// Of a release: the file, the first URL that works, and what proves it.
	// A pinned digest counts more than the checksum file.
	URLs         []string `mapstructure:"urls"`
	Format       string   `mapstructure:"format"` // tar.gz, tar.bz2, zip, gz or raw; default by the name
	SHA256       string   `mapstructure:"sha256"` // in hexadecimal; of an installed copy: of the executable
	SHA512       string   `mapstructure:"sha512"`
	ChecksumsURL string   `mapstructure:"checksums_url"`

	// Of a gomodule: the module's path, and the package's as an import path or
	// relative to the module ("./cmd/server"); default the module's root.
	Module  string `mapstructure:"module"`
	Package string `mapstructure:"package"`

	// Of an installed copy: an absolute path, or a name to look up on PATH.
	Path string `mapstructure:"path"`
}

// wanted is a spec that was checked, with every placeholder filled in.
type wanted struct {
	name, version string
	os, arch      string
	executable    string // slash-separated, below the version's folder
	sources       []Source
}

var (
	nameForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$`)
	wordForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)
	platform    = regexp.MustCompile(`^[a-z0-9]{1,16}$`)
	placeholder = regexp.MustCompile(`\{[^{}]*\}`)
	sha256Form  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	sha512Form  = regexp.MustCompile(`^[0-9a-f]{128}$`)
)

// CheckVersion refuses what is not an exact version, with an [*Error] of class
// [BadVersion].
func CheckVersion(version string) error {
	if !versionForm.MatchString(version) {
		return fail(BadVersion, nil, "%q is not an exact version", version).hint("name one exact version, such as 1.2.3")
	}
	if strings.EqualFold(version, "latest") {
		return fail(BadVersion, nil, "%q changes its meaning from day to day", version).hint("name one exact version, such as 1.2.3")
	}
	return nil
}

// resolve checks the spec and fills in defaults and placeholders.
func resolve(spec Spec) (wanted, error) {
	w := wanted{name: spec.Name, version: spec.Version, os: spec.OS, arch: spec.Arch}
	if w.os == "" {
		w.os = runtime.GOOS
	}
	if w.arch == "" {
		w.arch = runtime.GOARCH
	}
	switch {
	case !nameForm.MatchString(w.name):
		return w, fail(BadVersion, nil, "name %q of the binary: wanted are letters, digits, dots, dashes, underscores, beginning with a letter or digit", w.name)
	case !platform.MatchString(w.os) || !platform.MatchString(w.arch):
		return w, fail(WrongArch, nil, "%q on %q is no platform that Go knows", w.arch, w.os)
	}
	if err := CheckVersion(w.version); err != nil {
		return w, err
	}
	fill, err := filler(w, spec.Words)
	if err != nil {
		return w, err
	}
	if w.executable, err = executable(spec.Executable, w.name, fill); err != nil {
		return w, err
	}
	for _, source := range spec.Sources {
		source, err := source.resolve(fill)
		if err != nil {
			return w, err
		}
		w.sources = append(w.sources, source)
	}
	return w, nil
}

// filler returns the function that fills placeholders in; it returns what it
// cannot fill.
func filler(w wanted, words Words) (func(string) (filled, unknown string), error) {
	system, arch := w.os, w.arch
	if word, ok := words.OS[w.os]; ok {
		system = word
	}
	if word, ok := words.Arch[w.arch]; ok {
		arch = word
	}
	for _, word := range []string{system, arch} {
		if !wordForm.MatchString(word) {
			return nil, fail(BadURL, nil, "word %q for a platform cannot be part of a name", word)
		}
	}
	known := map[string]string{"{name}": w.name, "{version}": w.version, "{os}": system, "{arch}": arch}
	return func(text string) (string, string) {
		var unknown string
		filled := placeholder.ReplaceAllStringFunc(text, func(p string) string {
			value, ok := known[p]
			if !ok && unknown == "" {
				unknown = p
			}
			return value
		})
		if i := strings.IndexAny(filled, "{}"); i >= 0 && unknown == "" {
			unknown = filled[i : i+1]
		}
		return filled, unknown
	}, nil
}

const placeholders = "placeholders are {name}, {version}, {os} and {arch}"

// executable checks the path of the executable below the version's folder.
func executable(given, name string, fill func(string) (string, string)) (string, error) {
	if given == "" {
		given = name
	}
	filled, unknown := fill(given)
	if unknown != "" {
		return "", fail(UnsafePath, nil, "unknown %s in executable %q", unknown, given).hint(placeholders)
	}
	clean := path.Clean(filled)
	if reason := unsafeName(filled); reason != "" {
		return "", fail(UnsafePath, nil, "executable %q %s", filled, reason)
	}
	if clean == "." || clean == receiptFile {
		return "", fail(UnsafePath, nil, "executable %q names no file", filled)
	}
	return clean, nil
}

// resolve checks the source and fills its placeholders in.
func (s Source) resolve(fill func(string) (string, string)) (Source, error) {
	s.SHA256, s.SHA512 = strings.ToLower(s.SHA256), strings.ToLower(s.SHA512)
	if s.SHA256 != "" && !sha256Form.MatchString(s.SHA256) {
		return s, fail(ChecksumMalformed, nil, "sha256 %q of source %s is not 64 hexadecimal digits", s.SHA256, s.Kind)
	}
	if s.SHA512 != "" && !sha512Form.MatchString(s.SHA512) {
		return s, fail(ChecksumMalformed, nil, "sha512 %q of source %s is not 128 hexadecimal digits", s.SHA512, s.Kind)
	}
	switch s.Kind {
	case KindInstalled:
		return s, s.checkInstalled()
	case KindRelease:
		return s.resolveRelease(fill)
	case KindGoModule:
		return s, s.checkModule()
	}
	return s, fail(BadContent, nil, "unknown kind of source %q", s.Kind).hint("kinds are %s, %s and %s", KindInstalled, KindRelease, KindGoModule)
}

func (s Source) checkInstalled() error {
	if s.Path == "" || !filepath.IsAbs(s.Path) && strings.ContainsRune(s.Path, filepath.Separator) {
		return fail(UnsafePath, nil, "path %q of source %s is neither absolute nor a bare name", s.Path, s.Kind)
	}
	return nil
}

func (s Source) resolveRelease(fill func(string) (string, string)) (Source, error) {
	if len(s.URLs) == 0 {
		return s, fail(BadURL, nil, "source %s has no urls", s.Kind)
	}
	var err error
	urls := make([]string, len(s.URLs))
	for i, u := range s.URLs {
		if urls[i], err = resolveURL(u, fill); err != nil {
			return s, err
		}
	}
	s.URLs = urls
	if s.ChecksumsURL != "" {
		s.ChecksumsURL, err = resolveURL(s.ChecksumsURL, fill)
	}
	return s, err
}

// resolveURL fills in a URL and checks its form. Whether its host may be asked
// is for the fetcher to decide.
func resolveURL(raw string, fill func(string) (string, string)) (string, error) {
	filled, unknown := fill(raw)
	if unknown != "" {
		return "", fail(BadURL, nil, "unknown %s in %s", unknown, raw).about(raw).hint(placeholders)
	}
	u, err := url.Parse(filled)
	switch {
	case err != nil || strings.ContainsFunc(filled, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return "", fail(BadURL, nil, "%s is not a URL", filled).about(filled)
	case u.Scheme != "https" && u.Scheme != "http":
		return "", fail(ForbiddenScheme, nil, "%s is neither https nor http", filled).about(filled)
	case u.Hostname() == "":
		return "", fail(BadURL, nil, "%s has no host", filled).about(filled)
	case u.User != nil:
		return "", fail(BadURL, nil, "%s holds a user name", filled).about(filled).hint("credentials do not belong in a URL")
	}
	return filled, nil
}
