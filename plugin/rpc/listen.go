package rpc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

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
// Should somebody remove the socket, its owner makes it anew within a second.
func Listen(path string) (net.Listener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	l := &listener{path: path}
	if err := l.own(); err != nil {
		return nil, err
	}
	if err := l.bind(); err != nil {
		return nil, errors.Join(err, l.lock.Close())
	}
	return l, nil
}

// CheckPath refuses a path that is too long for the address of a socket.
func CheckPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("socket path %s has %d bytes, the system allows %d: choose a shorter --root or HERO_SOCKET_DIR", path, len(path), maxPath)
	}
	return nil
}

// lookEvery is how often an owner looks whether its socket is there.
const lookEvery = time.Second

// listener removes its socket while it still holds the lock, so that it never
// removes a successor's.
type listener struct {
	path string

	mu     sync.Mutex
	lock   *flock.Flock
	socket *net.UnixListener
	bound  os.FileInfo // the file of the socket
	held   os.FileInfo // the file of the lock
	closed bool
}

// own takes the lock.
func (l *listener) own() error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return fmt.Errorf("make folder of socket: %w", err)
	}
	lock := flock.New(l.path+".lock", flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	held, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock socket %s: %w", l.path, err)
	}
	if !held {
		return errors.Join(&OwnedError{Path: l.path, PID: readPID(lock.Path())}, lock.Close())
	}
	if err := os.WriteFile(lock.Path(), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return errors.Join(fmt.Errorf("note owner of socket: %w", err), lock.Close())
	}
	info, err := os.Lstat(lock.Path())
	if err != nil {
		return errors.Join(fmt.Errorf("lock socket %s: %w", l.path, err), lock.Close())
	}
	l.lock, l.held = lock, info
	return nil
}

// bind makes the socket, in place of what is there; the lock is held.
func (l *listener) bind() error {
	if err := os.Remove(l.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace socket: %w", err)
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen on %s: %w", l.path, err)
	}
	socket.SetUnlinkOnClose(false)
	err = os.Chmod(l.path, 0o600)
	if err == nil {
		l.bound, err = os.Lstat(l.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("listen on %s: %w", l.path, err), socket.Close())
	}
	l.socket = socket
	return nil
}

// Accept takes in connections of this user, and of root. Others are closed: the
// modes of socket and folder keep them away, unless somebody loosened those.
func (l *listener) Accept() (net.Conn, error) {
	for {
		socket, err := l.present()
		if err != nil {
			return nil, err
		}
		conn, err := socket.AcceptUnix()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if trusted(conn) {
			return conn, nil
		}
		_ = conn.Close() // nothing was said
	}
}

// present is the socket, made anew if somebody has removed it, which waits for
// one caller until it is time to look again. Where the lock has gone as well
// and another process has it by now, the socket is that one's.
func (l *listener) present() (*net.UnixListener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	if !isFile(l.path, l.bound) {
		if !isFile(l.lock.Path(), l.held) {
			old := l.lock
			if err := l.own(); err != nil {
				return nil, err
			}
			_ = old.Close() // of a file that has no name any more
		}
		old := l.socket
		if err := l.bind(); err != nil {
			return nil, err
		}
		_ = old.Close() // nobody can find it
	}
	return l.socket, l.socket.SetDeadline(time.Now().Add(lookEvery))
}

// isFile reports whether it is that file which is at the path.
func isFile(path string, file os.FileInfo) bool {
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(now, file)
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

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
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	err := l.socket.Close()
	if isFile(l.path, l.bound) {
		err = errors.Join(err, os.Remove(l.path))
	}
	return errors.Join(err, l.lock.Close())
}

func readPID(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}
