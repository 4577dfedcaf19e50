//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How a keeper behaves toward others.
const (
	lockPatience = time.Second     // for the lock of a keeper that is about to end
	leaveTime    = 5 * time.Second // for a supervisor that was asked to end
	retryMax     = time.Second     // between two starts of a supervisor that dies
	settled      = time.Second     // a supervisor that lived so long died by accident
)

// Keep keeps one supervisor of the installation alive until ctx ends or the
// process gets SIGTERM or SIGINT; then it has the supervisor end too. The
// processes of the services go on in any case: only system.shutdown stops them.
//
// It returns nil when the supervisor was asked to end, [ErrRunning] when there
// is a keeper already, and [ErrBroken] when the supervisor says that no new
// start would help.
func Keep(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)

	k := keeper{cfg: cfg, log: cfg.Log.With("process", "keeper"), fresh: true}
	var err error
	if k.files, err = prepare(cfg.Paths); err != nil {
		return err
	}
	if err := k.takeLock(ctx); err != nil {
		return err
	}
	defer k.lock.release()
	if k.notify, err = handedSocket(k.files.notify()); err != nil {
		return err
	}
	defer func() { _ = errors.Join(k.notify.Close(), os.Remove(k.files.notify())) }() // at worst the next keeper replaces it
	undo, err := shieldChildren()
	if err != nil {
		return err
	}
	defer undo()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become child subreaper: %w", err)
	}
	spare()
	if k.boot, err = bootID(); err != nil {
		return err
	}
	k.orphans = &orphans{log: k.log, notes: k.files.exits(), held: map[*process]bool{}}
	defer k.orphans.letGo()
	if err := k.orphans.take(ctx, take(orphanVariable), k.boot, cfg.Paths.Root); err != nil {
		return err
	}
	return k.run(ctx, ended)
}

// keeper keeps one supervisor alive.
type keeper struct {
	cfg    Config
	log    *slog.Logger
	files  layout
	lock   *lockFile
	notify *os.File // what processes notify, for the supervisor to read
	boot   string
	fresh  bool // somebody has just started it: what went before is over

	orphans *orphans

	supervisor int // its PID; 0 while there is none
	started    time.Time
	deaths     int // in a row
}

// takeLock takes the keeper's lock, or takes it over from the process this one
// was before its execve.
func (k *keeper) takeLock(ctx context.Context) (err error) {
	path := k.files.keeperLock()
	if fd, atoi := strconv.Atoi(take(lockVariable)); atoi == nil {
		k.fresh = false
		k.lock, err = inherited(fd, path)
		return err
	}
	k.lock, err = lock(ctx, path, lockPatience)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("%w: %w", ErrRunning, err)
	}
	return err
}

func (k *keeper) run(ctx context.Context, ended <-chan os.Signal) error {
	asked := ctx.Done()
	again := time.NewTimer(0) // the first look reaps what ended before, and starts the supervisor
	defer again.Stop()
	var giveUp <-chan time.Time
	for {
		select {
		case <-asked:
			if k.supervisor == 0 {
				return nil
			}
			asked, giveUp = nil, time.After(leaveTime)
			k.signal(syscall.SIGTERM)
		case <-giveUp:
			k.log.Error("supervisor does not end, kill it", "pid", k.supervisor)
			k.signal(syscall.SIGKILL)
			giveUp = nil
		case <-ended:
		case <-again.C:
		}
		code, dead := k.reapAll()
		if dead {
			done, err := k.answer(code, ctx.Err() != nil)
			if done {
				return err
			}
			again.Reset(k.delay())
			continue
		}
		if k.supervisor == 0 && ctx.Err() == nil && !k.start() {
			again.Reset(k.delay())
		}
	}
}

// answer does what the end of the supervisor asks for. It reports whether the
// keeper ends as well.
func (k *keeper) answer(e ending, leaving bool) (done bool, err error) {
	switch {
	case e == ending{Known: true, Code: codeEnded} || leaving:
		return true, nil
	case e == ending{Known: true, Code: codeBroken}:
		return true, fmt.Errorf("%w: see what it said", ErrBroken)
	case e == ending{Known: true, Code: codeRestart}:
		err := becomeKeeper(k.cfg, k.lock, k.notify, k.orphans.list())
		k.log.Error("go on as I am", "error", err)
		k.deaths = 0
	default:
		if time.Since(k.started) > settled {
			k.deaths = 0
		}
		k.deaths++
		k.log.Warn("supervisor died, start another", "pid", k.supervisor, "ending", e.String())
	}
	k.supervisor, k.fresh = 0, false
	return false, nil
}

// delay is how long to wait before the next start.
func (k *keeper) delay() time.Duration {
	if k.deaths <= 1 {
		return 0
	}
	return min(10*time.Millisecond<<min(k.deaths-1, 10), retryMax)
}

// start starts the supervisor, out of reach of signals to this one's group.
func (k *keeper) start() bool {
	env := environment(keeperVariable+"="+strconv.Itoa(os.Getpid()), socketVariable+"=3")
	if k.fresh {
		env = append(env, freshVariable+"=1")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		k.log.Error("start supervisor", "error", err)
		k.deaths++
		return false
	}
	defer null.Close()
	argv := append(slices.Clone(k.cfg.Command), SuperviseFlag)
	pid, pidfd, err := startProcess(executable(k.cfg), argv, "", env, []*os.File{null, os.Stdout, os.Stderr, k.notify}, new(syscall.SysProcAttr))
	if err != nil {
		discard(pid)
		k.log.Error("start supervisor", "error", err)
		k.deaths++
		return false
	}
	_ = unix.Close(pidfd) // it is a child: its PID is good until it is reaped
	k.supervisor, k.started = pid, time.Now()
	k.log.Debug("supervisor started", "pid", pid)
	return true
}

func (k *keeper) signal(s syscall.Signal) {
	if k.supervisor != 0 {
		_ = syscall.Kill(k.supervisor, s) // our child, not reaped: at worst it is a zombie
	}
}

// reapAll reaps every child that has ended, after noting how the ones that a
// supervisor may ask for did. It reports the end of the supervisor itself.
func (k *keeper) reapAll() (supervisor ending, dead bool) {
	for {
		pid, e, err := peek(0)
		if err != nil || pid == 0 {
			return supervisor, dead
		}
		if pid == k.supervisor {
			supervisor, dead = e, true
		} else if s, err := readStat(pid); err == nil && s.session == pid { // as every job does
			if err := k.files.exits().write(identity{k.boot, pid, s.ticks}, e); err != nil {
				k.log.Error("note how a process ended", "pid", pid, "ending", e.String(), "error", err)
			}
		}
		reap(pid)
	}
}
