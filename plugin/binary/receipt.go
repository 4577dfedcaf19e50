package binary

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// receiptFile lies beside what was unpacked; no archive may bring one.
const receiptFile = "receipt.json"

// receiptSchema changes when older receipts cannot be trusted any more.
const receiptSchema = 1

// receipt says what a folder of the store holds and how that was proven.
type receipt struct {
	Schema     int       `json:"schema"`
	Name       string    `json:"name"`
	Version    string    `json:"version"`
	OS         string    `json:"os"`
	Arch       string    `json:"arch"`
	Executable string    `json:"executable"`
	SHA256     string    `json:"sha256"` // of the executable
	Bytes      int64     `json:"bytes"`  // size of the executable
	Source     string    `json:"source"`
	URL        string    `json:"url,omitempty"`         // of the release
	FileSHA256 string    `json:"file_sha256,omitempty"` // of the release's file
	FileSHA512 string    `json:"file_sha512,omitempty"`
	Module     string    `json:"module,omitempty"` // path@version
	Sum        string    `json:"sum,omitempty"`    // of the module, as the checksum database has it
	Proof      string    `json:"proof"`            // what the file was verified against
	AcquiredAt time.Time `json:"acquired_at"`
}

// lookup returns the wanted version if the store has it intact.
func (s *Store) lookup(want wanted) (Installed, error) {
	dir := s.versionDir(want)
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Installed{}, fail(NotFound, err, "%s %s is not in the store", want.name, want.version)
	}
	if err != nil {
		return Installed{}, ioError(err, "open %s", dir)
	}
	defer root.Close()
	have, err := readReceipt(root)
	if err != nil {
		return Installed{}, fail(ChecksumMissing, nil, "%s has no valid receipt: %v", dir, err)
	}
	if !have.covers(want) {
		return Installed{}, fail(ChecksumMismatch, nil, "the receipt in %s is of something else", dir)
	}
	digest, size, err := digestFile(root, have.Executable)
	if err != nil {
		return Installed{}, fail(MissingBinary, nil, "%s is damaged: %v", dir, err)
	}
	if digest != have.SHA256 || size != have.Bytes {
		return Installed{}, fail(ChecksumMismatch, nil, "%s in %s is not what was installed: digest %s, in the receipt %s", have.Executable, dir, digest, have.SHA256)
	}
	got := s.installed(want, have, FromStore)
	got.Cached = true
	return got, nil
}

// installed describes what the receipt is of.
func (s *Store) installed(want wanted, r receipt, source string) Installed {
	return Installed{
		Name: want.name, Version: want.version, Source: source,
		Path:   filepath.Join(s.versionDir(want), filepath.FromSlash(r.Executable)),
		Digest: "sha256:" + r.SHA256, Bytes: r.Bytes,
	}
}

// covers reports whether the receipt is of what is wanted. What came from a
// release must be a file that is still pinned, if any is: a changed pin means
// that the old file is not trusted any more.
func (r receipt) covers(want wanted) bool {
	if r.Schema != receiptSchema || r.Name != want.name || r.Version != want.version ||
		r.OS != want.os || r.Arch != want.arch || r.Executable != want.executable {
		return false
	}
	pinned := slices.DeleteFunc(slices.Clone(want.sources), func(s Source) bool {
		return s.Kind != KindRelease || s.SHA256 == "" && s.SHA512 == ""
	})
	if r.Source != KindRelease || len(pinned) == 0 {
		return true
	}
	return slices.ContainsFunc(pinned, func(s Source) bool {
		return (s.SHA256 == "" || s.SHA256 == r.FileSHA256) && (s.SHA512 == "" || s.SHA512 == r.FileSHA512)
	})
}

// readReceipt reads the receipt strictly.
func readReceipt(root *os.Root) (receipt, error) {
	var r receipt
	file, err := root.Open(receiptFile)
	if err != nil {
		return r, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 64<<10))
	if err != nil {
		return r, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return r, decoder.Decode(&r)
}

// digestFile returns digest and size of an executable file below root.
func digestFile(root *os.Root, name string) (digest string, size int64, err error) {
	info, err := root.Stat(name) // before it is opened: opening a pipe would wait
	if err != nil {
		return "", 0, err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", 0, errors.New(name + " is not an executable file")
	}
	file, err := root.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	hash := sha256.New()
	size, err = io.Copy(hash, file)
	return hex.EncodeToString(hash.Sum(nil)), size, err
}
