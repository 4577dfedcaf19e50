//go:build linux

package proc

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errGone says that the process is not there any more.
var errGone = errors.New("process has gone")

// How long the end of a process is looked into.
const (
	learnTime = 3 * time.Second        // how an adopted oneshot ended, where much hangs on it
	hurryTime = 300 * time.Millisecond // how any other did, which has to be replaced
	noteTime  = 100 * time.Millisecond // how one that had gone before it could be held, of which there is a note or nothing
	sweepTime = 5 * time.Second        // until all it left behind has gone
)

// process is the leader of an action's session, and through it all that the
// action started. Its methods may be called by many goroutines.
type process struct {
	identity
	job  string   // ID of the job, in the environment of all it started
	own  bool     // a child of this process, which has to reap it
	file *os.File // the pidfd; nil: it had gone before it could be had

	survey *survey // of all that runs

	mu   sync.Mutex
	seen map[int]uint64 // PIDs and starts of what belonged to it when last looked at
}

// adopt takes hold of a process that another supervisor started; errGone when
// it is not there any more.
func adopt(id identity, job string, survey *survey) (*process, error) {
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, errGone
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	p := hold(id, job, fd, survey)
	// Looked at while the descriptor holds the process: the PID cannot have
	// passed to another in between.
	if s, err := readStat(id.PID); err != nil || s.ticks != id.Ticks {
		p.close()
		return nil, errGone
	}
	return p, nil
}

// gone stands for a process that ended while there was no supervisor.
func gone(id identity, job string, survey *survey) *process {
	return &process{identity: id, job: job, survey: survey}
}

func hold(id identity, job string, fd int, survey *survey) *process {
	if survey != nil {
		survey.hold(id.PID, true)
	}
	return &process{identity: id, job: job, survey: survey, file: os.NewFile(uintptr(fd), "pidfd")}
}

// wait blocks until the process has ended, true, or close is called, false.
// It costs a goroutine but no thread: the descriptor is in the poller of the
// runtime, as a connection would be.
func (p *process) wait() bool {
	if p.file == nil {
		return true
	}
	conn, err := p.file.SyscallConn()
	if err != nil {
		return false
	}
	return conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return err == nil && n == 1
	}) == nil
}

// close lets go of the process, which goes on.
func (p *process) close() {
	if p.file == nil {
		return
	}
	if p.survey != nil {
		p.survey.hold(p.PID, false)
	}
	_ = p.file.Close() // nothing was written
}

// signal sends the leader a signal; nothing where it has ended.
func (p *process) signal(s syscall.Signal) error {
	if p.file == nil {
		return nil
	}
	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return os.NewSyscallError("pidfd_send_signal", sent)
}

// ending finds out how the process, which has ended, did so. Of a child the
// kernel keeps it until reap is called. Of another's child it is noted by the
// keeper, or told by the kernel (from Linux 6.15 on) to who holds a pidfd. What
// cannot be learned within patience is not known.
func (p *process) ending(ctx context.Context, notes exits, patience time.Duration) ending {
	if p.own {
		_, e, _ := peek(p.PID) // without a PID it is the zero ending, which says "not known"
		return e
	}
	if p.file == nil {
		patience = noteTime
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if e, ok := notes.read(p.identity); ok {
			return e
		}
		if p.file != nil {
			if e, ok := p.told(); ok {
				return e
			}
			if e, ok := p.unreaped(); ok {
				return e
			}
		}
		select {
		case <-ctx.Done():
			return ending{}
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// told asks the kernel, which answers once the process has been reaped.
func (p *process) told() (e ending, ok bool) {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return ending{}, false
	}
	err = conn.Control(func(fd uintptr) {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if unix.IoctlPidfdInfo(int(fd), &info) == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			e, ok = endingOf(syscall.WaitStatus(info.Exit_code)), true
		}
	})
	return e, ok && err == nil
}

// unreaped looks at the process while its parent has not reaped it yet, which
// may never be. To who may not know the kernel shows a zero: that is an answer
// only where it shows the process's account of I/O, which the same may read.
func (p *process) unreaped() (e ending, ok bool) {
	s, err := readStat(p.PID)
	if err != nil || s.ticks != p.Ticks || s.state != 'Z' {
		return ending{}, false
	}
	if s.status == 0 {
		if _, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/io"); err != nil {
			return ending{}, false
		}
	}
	return endingOf(s.status), true
}
