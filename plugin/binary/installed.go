package binary

import (
	"os"
	"path/filepath"
	"strings"
)

// installed looks for a copy that is on the machine already. It counts when
// its digest is the pinned one, and is used where it lies.
func (j *job) installed(source Source) (Installed, error) {
	path := j.store.which(source.Path)
	if path == "" {
		return Installed{}, absent(fail(NotFound, nil, "no executable %s on this machine", source.Path))
	}
	if source.SHA256 == "" {
		return Installed{}, absent(fail(ChecksumMissing, nil, "%s is not considered: no sha256 is pinned for it", path))
	}
	j.report.say(Progress{Source: KindInstalled, Step: StepVerify, Detail: path})
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Installed{}, absent(ioError(err, "resolve the links of an installed copy"))
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return Installed{}, absent(ioError(err, "open %s", filepath.Dir(path)))
	}
	defer root.Close()
	digest, size, err := digestFile(root, filepath.Base(path))
	if err != nil {
		return Installed{}, absent(ioError(err, "read %s", path))
	}
	if digest != source.SHA256 {
		return Installed{}, absent(fail(ChecksumMismatch, nil, "%s has digest %s, wanted is %s", path, digest, source.SHA256))
	}
	return Installed{
		Name: j.want.name, Version: j.want.version, Source: KindInstalled,
		Path: path, Digest: "sha256:" + digest, Bytes: size,
	}, nil
}

// absent marks an error as saying little about the binary.
func absent(e *Error) *Error {
	e.minor = true
	return e
}

// which returns the absolute path of an executable file, given as that or as a
// name to look up on PATH; empty where there is none. The relative folders that
// PATH may hold mean another thing in every folder and are left out.
func (s *Store) which(name string) string {
	candidates := []string{name}
	if !filepath.IsAbs(name) {
		candidates = nil
		for _, dir := range filepath.SplitList(s.getenv("PATH")) {
			if filepath.IsAbs(dir) {
				candidates = append(candidates, filepath.Join(dir, name))
			}
		}
	}
	for _, path := range candidates {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// getenv returns the last value of a variable in the store's environment.
func (s *Store) getenv(name string) string {
	value := ""
	for _, entry := range s.env {
		if key, v, _ := strings.Cut(entry, "="); key == name {
			value = v
		}
	}
	return value
}
