package binary

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// What lies beside the versions in the folder of a name. No version begins
// with a dot.
const (
	lockFile      = ".lock"     // held by who works on the name
	buildLock     = ".build"    // held by a build, which may outlive who started it
	stagingPrefix = ".staging-" // what is not a version yet
	stalePrefix   = ".stale-"   // what is a version no more
)

// patience is the time between two looks at a lock.
const patience = 25 * time.Millisecond

// job is one acquisition.
type job struct {
	store  *Store
	want   wanted
	report *reporter
	tried  []attempt
}

// skip notes why the source was passed over.
func (j *job) skip(source string, err error) {
	var known *Error
	if !errors.As(err, &known) {
		known = fail(IOError, err, "%s", j.want.name)
	}
	j.tried = append(j.tried, attempt{source, known})
	j.report.skipped(source, known)
}

// run tries the sources in order. The lock is taken before the first one that
// writes; whoever had it may have left what is wanted.
func (j *job) run(ctx context.Context) (Installed, error) {
	sources := j.want.sources
	for len(sources) > 0 && sources[0].Kind == KindInstalled {
		got, err := j.installed(sources[0])
		if err == nil {
			return got, nil
		}
		j.skip(KindInstalled, err)
		sources = sources[1:]
	}
	if len(sources) == 0 {
		return Installed{}, exhausted(j.want, j.tried)
	}
	unlock, err := j.lock(ctx)
	if err != nil {
		return Installed{}, err
	}
	defer unlock()
	if got, err := j.store.lookup(j.want); err == nil {
		return got, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, j.store.limits.Timeout, errDeadline)
	defer cancel()
	if err := j.sweep(ctx); err != nil {
		return Installed{}, err
	}
	for _, source := range sources {
		got, err := j.try(ctx, source)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil || isFatal(err) {
			break
		}
	}
	return Installed{}, exhausted(j.want, j.tried)
}

// isFatal reports whether no other source can do better: the disk is at fault.
func isFatal(err error) bool {
	var known *Error
	return errors.As(err, &known) && known.Class == IOError && !known.minor
}

// try asks one source, and notes why in vain.
func (j *job) try(ctx context.Context, source Source) (Installed, error) {
	switch source.Kind {
	case KindInstalled:
		got, err := j.installed(source)
		if err != nil {
			j.skip(source.Kind, err)
		}
		return got, err
	case KindRelease:
		return j.release(ctx, source)
	default:
		got, err := j.staged(func(s *staging) (receipt, error) { return j.gomodule(ctx, source, s) })
		if err != nil {
			j.skip(source.Kind, err)
		}
		return got, err
	}
}

// nameDir is the folder of all versions of the binary.
func (j *job) nameDir() string { return filepath.Join(j.store.dir, j.want.name) }

// lock makes this job the only one of all processes that works on the name.
func (j *job) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(j.nameDir(), 0o755); err != nil {
		return nil, ioError(err, "make %s", j.nameDir())
	}
	return j.await(ctx, lockFile)
}

// await waits for a lock file in the folder of the name.
func (j *job) await(ctx context.Context, name string) (unlock func(), err error) {
	path := filepath.Join(j.nameDir(), name)
	lock := flock.New(path)
	held, err := lock.TryLock()
	if err == nil && !held {
		j.report.say(Progress{Source: FromStore, Step: StepResolve, Detail: "another one gets " + j.want.name + " just now: waiting"})
		held, err = lock.TryLockContext(ctx, patience)
	}
	switch {
	case ctx.Err() != nil:
		_ = lock.Close() // it is not held, or released by this
		return nil, fail(Timeout, context.Cause(ctx), "wait for lock %s", path)
	case err != nil || !held:
		_ = lock.Close()
		return nil, ioError(err, "lock %s", path)
	}
	return func() {
		if err := lock.Close(); err != nil {
			j.store.log.Warn("unlock", "path", path, "error", err)
		}
	}, nil
}

// sweep removes what dead processes left. A build may outlive the process that
// started it by a little; it holds a lock of its own, so nothing is removed
// under its hands.
func (j *job) sweep(ctx context.Context) error {
	dir := j.nameDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ioError(err, "read %s", dir)
	}
	var left []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagingPrefix) || strings.HasPrefix(e.Name(), stalePrefix) {
			left = append(left, filepath.Join(dir, e.Name()))
		}
	}
	if len(left) == 0 {
		return nil
	}
	release, err := j.await(ctx, buildLock)
	if err != nil {
		return err
	}
	defer release()
	for _, path := range left {
		j.store.log.Info("remove what an interrupted acquisition left", "path", path)
		if err := os.RemoveAll(path); err != nil {
			return ioError(err, "remove %s", path)
		}
	}
	return nil
}

// ioError returns an error of the disk, with a hint that fits it.
func ioError(cause error, format string, args ...any) *Error {
	e := fail(IOError, cause, format, args...)
	var at *fs.PathError
	if errors.As(cause, &at) {
		e.hint("make room at, or allow writing to, %s", at.Path)
	}
	return e.hint("make room in the store's folder and allow writing to it")
}
