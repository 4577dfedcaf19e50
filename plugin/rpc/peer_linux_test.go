package rpc_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/matryer/is"
	"golang.org/x/sys/unix"
)

// TestStrangersAreTurnedAway has another user find the modes of socket and
// folder loosened. Only root can be another user.
func TestStrangersAreTurnedAway(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	dir, err := os.MkdirTemp("", "rpc")
	is.NoErr(err)
	t.Cleanup(func() { is.NoErr(os.RemoveAll(dir)) })
	is.NoErr(os.Chmod(dir, 0o777))
	socket := filepath.Join(dir, "rpc.sock")
	l, err := rpc.Listen(socket)
	is.NoErr(err)
	defer l.Close()
	is.NoErr(os.Chmod(socket, 0o666))
	accepted := make(chan int)
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
			accepted <- n
		}
	}()
	if os.Geteuid() == 0 {
		is.NoErr(dialAs(65534, socket)) // it is closed before it gets anywhere
	}
	is.NoErr(dialAs(os.Geteuid(), socket))
	is.Equal(<-accepted, 0)
}

// dialAs connects to the socket as that user, and lets go again.
func dialAs(uid int, socket string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0))
		if errno != 0 {
			done <- errno
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
		}
		done <- err
	}()
	return <-done
}
