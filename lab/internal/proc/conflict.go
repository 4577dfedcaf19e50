//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"golang.org/x/sys/unix"
)

// How long a process that is in the way gets.
const (
	otherGrace = 5 * time.Second // to end after its stop signal
	otherEnd   = time.Second     // to be gone after it was killed
)

// other is a process that is in the way of an action.
type other struct {
	pid   int
	ticks uint64
	what  string // it has, for people
}

func (o *other) Error() string {
	if o.pid == 0 {
		return o.what + " is held by a process of another user"
	}
	return fmt.Sprintf("%s is held by PID %d (%s)", o.what, o.pid, program(o.pid))
}

// mostOthers is how many are ended for one start: who comes back as often is
// kept by somebody, and has to be named.
const mostOthers = 8

// clearWay finds out whether anybody is in the way of the action, and ends who
// is where the action says so. Processes of services are never ended for others.
func clearWay(ctx context.Context, a plugin.Action) error {
	for ended := 0; ; ended++ {
		found, err := inTheWay(ctx, a)
		if found == nil || err != nil {
			return err
		}
		if !a.KillOther || found.pid == 0 || ended == mostOthers {
			return found
		}
		if job := jobOf(found.pid); job != "" {
			return fmt.Errorf("%w, of another service: it is not killed", found)
		}
		if err := found.end(ctx); err != nil {
			return fmt.Errorf("%w: %w", found, err)
		}
	}
}

// inTheWay returns the first process that has what the action needs for
// itself; nil when there is none.
func inTheWay(ctx context.Context, a plugin.Action) (*other, error) {
	for _, socket := range a.Sockets {
		network, address, _ := strings.Cut(socket, ":")
		pid, held, err := socketHolder(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if held {
			return newOther(pid, network+" "+address), nil
		}
	}
	if a.Singleton {
		return sameProgram(a.Command[0])
	}
	return nil, nil
}

func newOther(pid int, what string) *other {
	o := &other{pid: pid, what: what}
	if s, err := readStat(pid); err == nil {
		o.ticks = s.ticks
	}
	return o
}

// socketHolder returns who has the socket, 0 when the kernel does not tell us.
func socketHolder(ctx context.Context, network, address string) (pid int, held bool, err error) {
	if network == "unix" {
		return listener(ctx, address)
	}
	port, err := strconv.Atoi(address)
	if err != nil {
		return 0, false, err
	}
	holder, held, err := ready.PortHolder(ctx, network, port)
	return holder.PID, held, err
}

// listener returns who listens on the Unix socket, as the kernel tells one who
// connects. A file that nobody listens on is nobody's.
func listener(ctx context.Context, path string) (pid int, held bool, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, true, err
	}
	var asked error
	err = raw.Control(func(fd uintptr) {
		var from *unix.Ucred
		if from, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); asked == nil {
			pid = int(from.Pid)
		}
	})
	return pid, true, errors.Join(err, asked)
}

// sameProgram returns a process of this user that runs the very file.
func sameProgram(path string) (*other, error) {
	want, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	all, err := stats()
	if err != nil {
		return nil, err
	}
	for pid, st := range all {
		exe := "/proc/" + strconv.Itoa(pid) + "/exe"
		if info, err := os.Stat(exe); err == nil && os.SameFile(info, want) && pid != os.Getpid() && st.state != 'Z' {
			return &other{pid: pid, ticks: st.ticks, what: path}, nil
		}
	}
	return nil, nil
}

// end asks the process to end, and kills it when it does not.
func (o *other) end(ctx context.Context) error {
	for _, step := range []struct {
		signal   syscall.Signal
		patience time.Duration
	}{{syscall.SIGTERM, otherGrace}, {syscall.SIGKILL, otherEnd}} {
		if err := signalExactly(o.pid, o.ticks, step.signal); err != nil {
			return ignoreGone(err)
		}
		for deadline := time.Now().Add(step.patience); time.Now().Before(deadline); {
			if s, err := readStat(o.pid); err != nil || s.ticks != o.ticks || s.state == 'Z' {
				return nil
			}
			if !sleep(ctx, 5*time.Millisecond) {
				return ctx.Err()
			}
		}
	}
	return errors.New("it cannot be killed")
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
