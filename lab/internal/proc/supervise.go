//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// predecessorTime is how long a supervisor waits for the last one to go.
	predecessorTime = 10 * time.Second
	// tidyEvery is how often notes of exits are looked at.
	tidyEvery = time.Minute
	// noteAge is how long the keeper's note of an exit is kept that nobody
	// seems to ask for.
	noteAge = time.Minute
)

// errOrphaned ends a supervisor whose keeper has died.
var errOrphaned = errors.New("the keeper has died")

// Supervise is the supervisor, which only a keeper starts. It runs until ctx
// ends or the process gets SIGTERM or SIGINT, which leave the processes of the
// services alone, or until system.shutdown has stopped them all; then it
// returns nil. Its caller exits with [ExitCode] of what it returns.
//
// When its keeper dies Supervise does not return: it replaces the program of
// this process by that of the keeper. All it started are its children still.
func Supervise(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	keeper, err := strconv.Atoi(take(keeperVariable))
	if err != nil {
		return fmt.Errorf("%w: only a keeper starts it", ErrBroken)
	}
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		return fmt.Errorf("%w: the kernel gives no pidfd: %w", ErrBroken, err)
	} else if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close pidfd: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	undo, err := shieldChildren()
	if err != nil {
		return err
	}
	defer undo()
	files, err := prepare(cfg.Paths)
	if err != nil {
		return err
	}
	s := &supervisor{
		cfg: cfg, log: cfg.Log.With("process", "supervisor"), files: files, began: time.Now(),
		fresh: take(freshVariable) != "", keeper: keeper, survey: &survey{self: os.Getpid(), keeper: keeper, held: map[int]bool{}},
		inbox: make(chan func(context.Context)), stopped: make(chan struct{}), news: new(news), output: new(news),
	}
	if s.notify, err = handedSocket(files.notify()); err != nil {
		return err
	}
	defer s.notify.Close()
	if s.boot, err = bootID(); err != nil {
		return err
	}
	err = s.alone(ctx)
	if err == nil || errors.Is(err, ErrBroken) || os.Getppid() == keeper {
		return err
	}
	return errors.Join(err, s.takeOver(ctx)) // whatever ended it, nobody else would start another
}

// alone runs the supervisor once it is the only one.
func (s *supervisor) alone(ctx context.Context) (err error) {
	only, err := lock(ctx, s.files.supervisorLock(), predecessorTime)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for the last supervisor to end: %w", err)
	}
	defer func() { err = errors.Join(err, only.release()) }()
	if s.store, err = openStore(ctx, s.files.store(), s.files.keys()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.store.close()) }()
	if s.scribe, err = newScribe(s.files.logs(), s.cfg.LogCap, s.output, s.log); err != nil {
		return err
	}

	life, end := context.WithCancel(ctx)
	defer end()
	group, life := errgroup.WithContext(life)
	group.Go(func() error {
		defer end()
		return s.run(life, func() {
			group.Go(func() error { return s.api().Serve(life, s.cfg.Paths.Socket(Name), nil) })
			group.Go(func() error { return s.watchKeeper(life) })
			group.Go(func() error { return s.hear(life) })
			group.Go(func() error { return s.scribe.run(life) })
			group.Go(func() error { s.tidy(life); return nil })
		})
	})
	return group.Wait()
}

// watchKeeper waits for the death of the keeper.
func (s *supervisor) watchKeeper(ctx context.Context) error {
	fd, err := unix.PidfdOpen(s.keeper, unix.PIDFD_NONBLOCK)
	if os.Getppid() != s.keeper || errors.Is(err, unix.ESRCH) {
		s.orphaned()
		if err == nil {
			return unix.Close(fd) // of a stranger that has the PID by now
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch the keeper: %w", err)
	}
	parent := hold(identity{PID: s.keeper}, "", fd, nil)
	defer context.AfterFunc(ctx, parent.close)()
	if parent.wait() {
		s.orphaned()
	}
	return nil
}

// takeOver makes this process, whose keeper has died, the keeper; unless there
// is a new one already, which has its own supervisor waiting.
func (s *supervisor) takeOver(ctx context.Context) error {
	lock, err := lock(ctx, s.files.keeperLock(), lockPatience) // somebody may just be looking whether it is held
	if errors.Is(err, errLocked) {
		s.log.Warn("keeper died, another is there already")
		return nil
	}
	if err != nil {
		return err
	}
	s.log.Warn("keeper died, take its place")
	return errors.Join(becomeKeeper(s.cfg, lock, s.notify, s.orphans), lock.release())
}

// tidy keeps the notes of exits few until ctx ends.
func (s *supervisor) tidy(ctx context.Context) {
	for sleep(ctx, tidyEvery) {
		var keep []identity
		if s.ask(ctx, func() error { keep = s.awaited(); return nil }) != nil {
			return
		}
		if err := s.files.exits().tidy(noteAge, keep); err != nil {
			s.log.Warn("tidy up", "error", err)
		}
	}
}
