//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"golang.org/x/sys/unix"
)

// notifyVariable tells a process where it may say that it is ready, as the
// protocol of sd_notify has it.
const notifyVariable = "NOTIFY_SOCKET"

// listenNotify makes the socket on which the processes say that they are
// ready. It belongs to the keeper, who never reads it: what is said while there
// is no supervisor waits in it for the next. The kernel adds who says it.
func listenNotify(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		if gone := os.Remove(path); !errors.Is(gone, os.ErrNotExist) {
			err = gone // a dead keeper's: the caller holds the keeper's lock
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), f.Close())
	}
	return f, nil
}

// hear takes what the processes say until ctx ends.
func (s *supervisor) hear(ctx context.Context) error {
	fd, err := unix.FcntlInt(s.notify.Fd(), unix.F_DUPFD_CLOEXEC, 0) // the socket itself outlives this supervisor
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return fmt.Errorf("listen to what processes say: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "notify")
	defer context.AfterFunc(ctx, func() { _ = socket.Close() })() // wakes the read below
	conn, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("listen to what processes say: %w", err)
	}
	text, control := make([]byte, 4096), make([]byte, 256)
	for {
		var n, oob int
		var received error
		err := conn.Read(func(fd uintptr) bool {
			n, oob, _, _, received = unix.Recvmsg(int(fd), text, control, unix.MSG_CMSG_CLOEXEC)
			return !errors.Is(received, unix.EAGAIN)
		})
		if err != nil {
			return nil // closed
		}
		if received == nil {
			s.heard(string(text[:n]), control[:oob])
		}
	}
}

// heard finds out who said the text and has run take note of it. Files that
// came along are closed: that is what their sender waits for.
func (s *supervisor) heard(text string, control []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	var from stat
	for _, m := range messages {
		if sender, err := unix.ParseUnixCredentials(&m); err == nil {
			from, _ = readStat(int(sender.Pid)) // who has gone meanwhile is nobody's
		}
		fds, _ := unix.ParseUnixRights(&m) // none in any other message
		for _, fd := range fds {
			defer unix.Close(fd)
		}
	}
	if from.pid == 0 {
		return
	}
	job := jobOf(from.pid)
	s.post(func(ctx context.Context) { s.noted(ctx, from.session, job, text) })
}

// noted takes note of what a process of the session, or of the job, has said.
func (s *supervisor) noted(ctx context.Context, session int, job, text string) {
	u := s.speaker(session, job)
	if u == nil {
		return
	}
	for line := range strings.Lines(text) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); {
		case name == "READY" && value == "1":
			u.Notified, u.dirty = true, true
			u.notified()
		case name == "STATUS":
			u.said = s.fit(ctx, value)
		}
	}
}

// speaker is the unit whose process may say that it is ready.
func (s *supervisor) speaker(session int, job string) *unit {
	for _, svc := range s.services {
		for _, u := range svc.units {
			if u.proc != nil && (u.PID == session || u.ID == job) && notifies(u.record.Spec) {
				return u
			}
		}
	}
	return nil
}

// notifies reports whether the action says by itself when it is ready.
func notifies(a plugin.Action) bool {
	return slices.ContainsFunc(a.Ready, func(p ready.Probe) bool { return p.Notify })
}
