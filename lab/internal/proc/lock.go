//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errLocked says that another process holds the lock.
var errLocked = errors.New("locked")

// lockFile is an exclusive lock that lives as long as the process that took
// it, or the one it became by execve when the descriptor was handed on.
//
// A child between fork and exec has a copy of the descriptor. So who gets the
// lock of a dead supervisor knows that all it was starting has been started.
type lockFile struct{ f *os.File }

// lock takes the lock at path, waiting for it at most for patience. When
// another process keeps it, the error wraps errLocked.
func lock(ctx context.Context, path string, patience time.Duration) (*lockFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	give := time.After(patience)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return owned(f)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-give:
			pid, _ := io.ReadAll(io.LimitReader(f, 32))
			return nil, errors.Join(fmt.Errorf("%w by PID %s", errLocked, strings.TrimSpace(string(pid))), f.Close())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// inherited is the lock that this process held before its execve.
func inherited(fd int, path string) (*lockFile, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return owned(f)
}

// owned notes in the file, for people and messages, who holds it.
func owned(f *os.File) (*lockFile, error) {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("note owner of lock: %w", err), f.Close())
	}
	return &lockFile{f}, nil
}

func (l *lockFile) release() error { return l.f.Close() }
