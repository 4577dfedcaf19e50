//go:build linux

package proc

import (
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The variables by which keeper and supervisor tell each other who they are.
// None reaches the processes of an action.
const (
	keeperVariable = "HERO_PROC_KEEPER"      // to a supervisor: the PID of its keeper
	freshVariable  = "HERO_PROC_FRESH"       // to a supervisor: the keeper was started by somebody, who wants things to run
	lockVariable   = "HERO_PROC_KEEPER_LOCK" // across an execve: the descriptor of the keeper's lock
	orphanVariable = "HERO_PROC_ORPHANS"     // across an execve: the orphans that are held
	socketVariable = "HERO_PROC_NOTIFY"      // to a supervisor, and across an execve: the descriptor of the socket that processes notify
)

// take returns the value of one of these variables and removes it.
func take(variable string) string {
	value := os.Getenv(variable)
	_ = os.Unsetenv(variable) // fails for no name of ours
	return value
}

// environment is that of this process without what concerned only itself.
func environment(more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{keeperVariable, freshVariable, lockVariable, orphanVariable, socketVariable, jobVariable}, name)
	})
	return append(env, more...)
}

// shieldChildren makes sure that nothing this process got from its parent goes
// on to children: no open file, no ignored signal. An ignored signal survives
// fork and exec and would make a child deaf to it, a handled one does not; so
// what is ignored is handled, by doing nothing. The function returned undoes
// the handling.
func shieldChildren() (undo func(), err error) {
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("keep inherited files from children: %w", err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("read ignored signals: %w", err)
	}
	nobody := make(chan os.Signal, 1) // full or not, what does not fit is dropped
	drop := []os.Signal{syscall.SIGHUP, syscall.SIGPIPE}
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			if err != nil {
				return nil, fmt.Errorf("read ignored signals: %w", err)
			}
			for i := range 64 {
				if bits&(1<<i) != 0 {
					drop = append(drop, syscall.Signal(i+1))
				}
			}
		}
	}
	signal.Notify(nobody, drop...)
	return func() { signal.Stop(nobody) }, nil
}

// startProcess starts a program as the leader of a session and group of its
// own, with no signal blocked, and returns it with a pidfd. Attr says what
// else is special about it.
func startProcess(path string, argv []string, dir string, env []string, files []*os.File, attr *syscall.SysProcAttr) (pid, pidfd int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var none, before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, &before); err != nil {
		return 0, 0, fmt.Errorf("unblock signals: %w", err)
	}
	fd := -1
	attr.Setsid, attr.PidFD = true, &fd
	p, err := os.StartProcess(path, argv, &os.ProcAttr{
		Dir: dir, Env: env, Files: files, Sys: attr,
	})
	if restore := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); restore != nil && err == nil {
		err = fmt.Errorf("block signals again: %w", restore)
	}
	if err != nil {
		return 0, 0, err
	}
	pid = p.Pid
	if err := p.Release(); err != nil {
		return pid, fd, fmt.Errorf("release handle of PID %d: %w", pid, err)
	}
	if fd < 0 {
		fd, err = unix.PidfdOpen(pid, 0) // it is our child and cannot have been reaped
	}
	return pid, fd, err
}

// executable is the program to run for cfg: whatever is at its path now, and
// should that have gone, the one that runs already.
func executable(cfg Config) string {
	if _, err := os.Stat(cfg.Command[0]); err != nil {
		return "/proc/self/exe"
	}
	return cfg.Command[0]
}

// becomeKeeper replaces the program of this process by the keeper, which goes
// on with the lock, the socket and the orphans. It returns only if that cannot
// be done.
func becomeKeeper(cfg Config, lock *lockFile, notify *os.File, orphans []*process) error {
	words, undo := handOn(orphans)
	defer undo()
	handed := environment(orphanVariable + "=" + words)
	for variable, f := range map[string]*os.File{lockVariable: lock.f, socketVariable: notify} {
		fd := f.Fd()
		if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("hand on %s: %w", f.Name(), err)
		}
		defer unix.CloseOnExec(int(fd))
		handed = append(handed, variable+"="+strconv.Itoa(int(fd)))
	}
	return fmt.Errorf("become the keeper: %w", syscall.Exec(executable(cfg), cfg.Command, handed))
}

// handedSocket is the socket that processes notify, from whoever had it before;
// or a new one where nobody had.
func handedSocket(path string) (*os.File, error) {
	fd, err := strconv.Atoi(take(socketVariable))
	if err != nil {
		return listenNotify(path)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), path), nil
}
