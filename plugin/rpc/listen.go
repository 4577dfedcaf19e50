package rpc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// maxPath is what a Unix socket address holds on Linux, without its final zero.
const maxPath = 107

// OwnedError says that another process, which is alive, owns the socket.
type OwnedError struct {
	Path string
	PID  int // 0 when it could not be read
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("socket %s is owned by PID %d, which is alive", e.Path, e.PID)
}

// Listen owns the Unix socket at path and listens on it, for this user only:
// the kernel says who calls.
//
// Ownership is a file lock beside the socket that lives exactly as long as the
// process: only its holder removes what a dead owner left, so the socket of a
// living owner is never taken. Where one lives, the error is an [*OwnedError].
func Listen(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("socket path %s has %d bytes, the system allows %d: choose a shorter --root or HERO_SOCKET_DIR", path, len(path), maxPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of socket: %w", err)
	}
	lock := flock.New(path+".lock", flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock socket %s: %w", path, err)
	}
	if !held {
		return nil, errors.Join(&OwnedError{Path: path, PID: readPID(lock.Path())}, lock.Close())
	}
	l, err := bind(path, lock.Path())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), lock.Close())
	}
	return &listener{UnixListener: l, path: path, lock: lock}, nil
}

// bind replaces what a dead owner left; the caller holds the lock.
func bind(path, lock string) (*net.UnixListener, error) {
	if err := os.WriteFile(lock, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, os.Chmod(path, 0o600)
}

func readPID(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// listener removes its socket while it still holds the lock, so that it never
// removes a successor's.
type listener struct {
	*net.UnixListener
	path string
	lock *flock.Flock
}

// Accept takes in connections of this user, and of root. Others are closed: the
// modes of socket and folder keep them away, unless somebody loosened those.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if trusted(conn) {
			return conn, nil
		}
		_ = conn.Close() // nothing was said
	}
}

// trusted asks the kernel who is at the other end.
func trusted(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var uid int
	var asked error
	err = raw.Control(func(fd uintptr) { uid, asked = peer(int(fd)) })
	return err == nil && asked == nil && (uid == os.Geteuid() || uid == 0)
}

func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	if rm := os.Remove(l.path); !errors.Is(rm, os.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return errors.Join(err, l.lock.Close())
}
