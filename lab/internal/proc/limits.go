//go:build linux

package proc

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"golang.org/x/sys/unix"
)

// rlimits are the resource limits that an action may have, by name.
var rlimits = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "memlock": unix.RLIMIT_MEMLOCK, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "stack": unix.RLIMIT_STACK,
}

// startLimited is startProcess for an action with limits, which hold from the
// first instruction of its program on.
//
// Umask and no_new_privs are inherited from the thread that forks, so it is one
// that does nothing else and then ends. Resource limits belong to the process:
// it is stopped by the kernel at the beginning of the program, gets them, and
// is let go.
func startLimited(path string, argv []string, dir string, env []string, files []*os.File, limits plugin.Limits) (pid, pidfd int, err error) {
	attr := &syscall.SysProcAttr{Ptrace: len(limits.Rlimits) > 0}
	if attr.Credential, err = credential(limits); err != nil {
		return 0, 0, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err = restrain(limits); err != nil {
			return
		}
		if pid, pidfd, err = startProcess(path, argv, dir, env, files, attr); err == nil && attr.Ptrace {
			err = limitStopped(pid, limits)
		}
	}()
	<-done
	return pid, pidfd, err
}

// restrain gives this thread what its children inherit.
func restrain(limits plugin.Limits) error {
	if limits.Umask != "" {
		mask, err := strconv.ParseInt(limits.Umask, 8, 32)
		if err != nil {
			return fmt.Errorf("umask %q: %w", limits.Umask, err)
		}
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // from the other threads
			return fmt.Errorf("umask of its own: %w", err)
		}
		unix.Umask(int(mask))
	}
	if limits.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no_new_privs: %w", err)
		}
	}
	return nil
}

// limitStopped gives a child that is stopped at the beginning of its program
// its limits, and lets it go. Only the thread that started it can.
func limitStopped(pid int, limits plugin.Limits) error {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the program to begin: %w", err)
		}
	}
	if !status.Stopped() {
		return errors.New("the program ended before it began")
	}
	for name, value := range limits.Rlimits {
		limit := unix.Rlimit{Cur: uint64(value), Max: uint64(value)}
		if value < 0 {
			limit = unix.Rlimit{Cur: math.MaxUint64, Max: math.MaxUint64}
		}
		if err := unix.Prlimit(pid, rlimits[name], &limit, nil); err != nil {
			return fmt.Errorf("limit %s to %d: %w", name, value, err)
		}
	}
	if err := unix.PtraceDetach(pid); err != nil {
		return fmt.Errorf("let the program begin: %w", err)
	}
	return nil
}

// credential is who the process is, nil for who the supervisor is.
func credential(limits plugin.Limits) (*syscall.Credential, error) {
	if limits.User == "" && limits.Group == "" {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("user and group can only be chosen where the supervisor runs as root")
	}
	c := &syscall.Credential{}
	if limits.User != "" {
		u, err := user.Lookup(limits.User)
		if err != nil {
			return nil, err
		}
		groups, err := u.GroupIds()
		if err != nil {
			return nil, err
		}
		if c.Uid, err = number(u.Uid); err != nil {
			return nil, err
		}
		if c.Gid, err = number(u.Gid); err != nil {
			return nil, err
		}
		for _, g := range groups {
			gid, err := number(g)
			if err != nil {
				return nil, err
			}
			c.Groups = append(c.Groups, gid)
		}
	}
	if limits.Group == "" {
		return c, nil
	}
	g, err := user.LookupGroup(limits.Group)
	if err != nil {
		return nil, err
	}
	c.Gid, err = number(g.Gid)
	return c, err
}

func number(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	return uint32(n), err
}

// spared is how much later than others keeper and supervisor end when memory
// runs out, where they may say so: they can free none.
const spared = -500

// spare has the kernel end this process late.
func spare() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(spared)), 0) // only root may
}

// shareOfMemory says how early the kernel ends the process when memory runs
// out. That the supervisor is spared is not for its children.
func shareOfMemory(pid int, limits plugin.Limits) error {
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil || !strings.HasPrefix(string(own), "-") && limits.OOMScoreAdj == 0 {
		return err
	}
	path := "/proc/" + strconv.Itoa(pid) + "/oom_score_adj"
	if err := os.WriteFile(path, []byte(strconv.Itoa(limits.OOMScoreAdj)), 0); err != nil {
		return fmt.Errorf("oom_score_adj %d: %w", limits.OOMScoreAdj, err)
	}
	return nil
}
