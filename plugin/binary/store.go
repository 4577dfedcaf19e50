package binary

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Options adjusts a [Store]. The zero value works.
type Options struct {
	Limits Limits
	// AllowHosts names the only hosts that releases may come from and may
	// redirect to; "*.example.org" is every host below example.org. Empty
	// allows every host.
	AllowHosts []string
	// CA replaces the system's certificate authorities.
	CA *x509.CertPool
	// Env is the environment that gives PATH to look programs up and the Go
	// toolchain its settings; nil takes this process's. Of it the toolchain
	// gets only what it needs.
	Env []string
	// Go is the go command, a path or a name to look up on PATH; empty is "go",
	// or else where it usually lies.
	Go string
	// Log takes what is worth knowing and no error; nil drops it.
	Log *slog.Logger
}

// Limits bounds what a source may cost. A zero field takes the default.
type Limits struct {
	MaxBytes   int64         // of a download, and of what is unpacked from it; default 1 GiB
	MaxFiles   int           // members of an archive; default 10000
	MaxDepth   int           // of folders in an archive; default 32
	Stall      time.Duration // without a single byte; default 30 s
	Timeout    time.Duration // of one acquisition, waiting for others not counted; default 30 min
	Tries      int           // of one URL, where trying again may help; default 4
	Backoff    time.Duration // before the second try, doubling; default 500 ms
	RetryAfter time.Duration // longest wait that a server may ask for; default 30 s
}

// orDefaults fills the zero fields.
func (l Limits) orDefaults() Limits {
	return Limits{
		MaxBytes:   or(l.MaxBytes, 1<<30),
		MaxFiles:   or(l.MaxFiles, 10000),
		MaxDepth:   or(l.MaxDepth, 32),
		Stall:      or(l.Stall, 30*time.Second),
		Timeout:    or(l.Timeout, 30*time.Minute),
		Tries:      or(l.Tries, 4),
		Backoff:    or(l.Backoff, 500*time.Millisecond),
		RetryAfter: or(l.RetryAfter, 30*time.Second),
	}
}

func or[T int | int64 | time.Duration](value, standard T) T {
	if value > 0 {
		return value
	}
	return standard
}

// Installed is an executable that may be run.
type Installed struct {
	Name    string
	Version string
	Path    string // absolute, of the executable
	Digest  string // "sha256:" and the digest of the executable in hexadecimal
	Source  string // where it came from now: store, installed, release or gomodule
	Bytes   int64  // size of the executable
	Cached  bool   // it was in the store already
}

// Store keeps acquired binaries, each version in a folder of its own. It may be
// used by any number of goroutines, and its folder by any number of processes.
type Store struct {
	dir     string
	limits  Limits
	env     []string
	gocmd   []string // where to look, in order
	log     *slog.Logger
	fetcher *fetcher
}

// NewStore returns the store in dir, which is made when it is first needed.
func NewStore(dir string, opts Options) *Store {
	s := &Store{dir: dir, limits: opts.Limits.orDefaults(), env: opts.Env, log: opts.Log}
	if abs, err := filepath.Abs(dir); err == nil {
		s.dir = abs
	}
	if s.env == nil {
		s.env = os.Environ()
	}
	if s.gocmd = []string{"go", usualGo}; opts.Go != "" {
		s.gocmd = []string{opts.Go}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.fetcher = newFetcher(s.limits, opts.AllowHosts, opts.CA)
	return s
}

// Lookup returns the binary if the store has it and it is still what its
// receipt says. It writes nothing. The error is an [*Error]; where there is
// nothing at all it is also [fs.ErrNotExist].
func (s *Store) Lookup(spec Spec) (Installed, error) {
	want, err := resolve(spec)
	if err != nil {
		return Installed{}, err
	}
	return s.lookup(want)
}

// Acquire returns the binary from the store, or else from the first of its
// sources that gives one which is proven to be the right one.
//
// It tells of its progress through the function, which may be nil and is never
// called twice at a time nor after Acquire has returned; reports of the same
// step come at most ten times a second. When no source gives the binary, the
// error is an [*Error] that lists what was tried. When ctx ends first, the
// error is that of ctx.
func (s *Store) Acquire(ctx context.Context, spec Spec, progress func(Progress)) (Installed, error) {
	want, err := resolve(spec)
	if err != nil {
		return Installed{}, err
	}
	got, err := s.lookup(want)
	if err == nil {
		return got, nil
	}
	j := &job{store: s, want: want, report: &reporter{tell: progress}}
	var known *Error
	if errors.As(err, &known) && !errors.Is(err, fs.ErrNotExist) {
		j.report.skipped(FromStore, known)
	}
	got, err = j.run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return Installed{}, fmt.Errorf("acquire %s %s: %w", want.name, want.version, cause)
	}
	return got, err
}

// versionDir is the folder of the wanted version.
func (s *Store) versionDir(want wanted) string {
	version := want.version
	if want.os != runtime.GOOS || want.arch != runtime.GOARCH {
		version += "@" + want.os + "-" + want.arch
	}
	return filepath.Join(s.dir, want.name, version)
}
