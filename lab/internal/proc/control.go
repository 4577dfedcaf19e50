//go:build linux

package proc

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// canStart refuses to start what is about to go.
func (s *supervisor) canStart(svc *service) error {
	if s.leave != nil {
		return procclient.ErrShuttingDown
	}
	if svc.Deleting {
		return fmt.Errorf("service %s is being deleted: %w", svc.Spec.Name, plugin.ErrNotFound)
	}
	return nil
}

func (s *supervisor) startService(ctx context.Context, p procclient.Name) (bool, error) {
	return s.change(ctx, p.Name, s.start)
}

// start starts a service, and before it those that it requires and that nobody
// has stopped.
func (s *supervisor) start(svc *service) error {
	if err := s.canStart(svc); err != nil {
		return err
	}
	for _, name := range svc.Spec.Requires {
		if other := s.services[name]; other != nil && other.Wanted == plugin.WantIgnore {
			if err := s.start(other); err != nil {
				return err
			}
		}
	}
	if svc.Wanted != plugin.WantStart || !svc.ForcedAt.IsZero() {
		svc.Wanted, svc.ForcedAt, svc.dirty = plugin.WantStart, time.Time{}, true
	}
	if svc.Cycling {
		return nil // it is on its way down, to be started anew
	}
	if !svc.alive() {
		s.startAnew(svc)
		return nil
	}
	for _, u := range svc.units {
		if u.proc == nil && u.State != plugin.Succeeded {
			s.await(u)
		}
	}
	return nil
}

func (s *supervisor) stopService(ctx context.Context, p procclient.Stop) (bool, error) {
	change := s.change
	if p.Force {
		change = s.changeAnyway
	}
	return change(ctx, p.Name, func(svc *service) error {
		s.wantDown(svc, p.Force)
		return nil
	})
}

func (s *supervisor) deleteService(ctx context.Context, p procclient.Stop) (bool, error) {
	return s.change(ctx, p.Name, func(svc *service) error {
		s.wantDown(svc, p.Force)
		svc.Deleting = true
		return nil
	})
}

// wantDown records that the service is not wanted, and with force that from
// now on it may not drain.
func (s *supervisor) wantDown(svc *service, force bool) {
	svc.Wanted, svc.Cycling, svc.dirty = plugin.WantStop, false, true
	if force && svc.ForcedAt.IsZero() {
		svc.ForcedAt = time.Now()
	}
}

func (s *supervisor) restartService(ctx context.Context, p procclient.Name) (bool, error) {
	return s.change(ctx, p.Name, func(svc *service) error {
		if err := s.canStart(svc); err != nil {
			return err
		}
		svc.Wanted, svc.Cycling, svc.ForcedAt, svc.dirty = plugin.WantStart, true, time.Time{}, true
		return nil
	})
}

// ignoreService leaves a service to itself: what runs goes on and is not
// restarted when it ends.
func (s *supervisor) ignoreService(ctx context.Context, p procclient.Name) (bool, error) {
	return s.change(ctx, p.Name, func(svc *service) error {
		svc.Wanted, svc.Cycling, svc.dirty = plugin.WantIgnore, false, true
		return nil
	})
}

func (s *supervisor) killService(ctx context.Context, p procclient.ActionName) (bool, error) {
	return s.changeBy(ctx, s.ask, p.Service, func(svc *service) error { // what is wanted stays
		found := p.Action == ""
		for _, u := range svc.units {
			if p.Action != "" && u.Action != p.Action {
				continue
			}
			found = true
			if u.proc != nil {
				s.kill(u, "killed on request")
			}
		}
		if !found {
			return fmt.Errorf("action %s of service %s: %w", p.Action, p.Service, plugin.ErrNotFound)
		}
		return nil
	})
}

func (s *supervisor) info(ctx context.Context) (info procclient.Info, err error) {
	err = s.ask(ctx, func() error {
		info = procclient.Info{
			PID: os.Getpid(), KeeperPID: s.keeper, Version: s.cfg.Version,
			Socket: s.cfg.Paths.Socket(Name), StartedAt: s.began, Leaving: s.leave != nil,
			Trouble: s.trouble(),
		}
		return nil
	})
	return info, answer(err)
}

// trouble is what keeps the supervisor from writing down what it does.
func (s *supervisor) trouble() string {
	if s.storeError == nil {
		return ""
	}
	return fmt.Sprintf("%s: nothing can be started, stopped or registered until it is mended; force stops", s.storeError)
}

// shutdown makes everything go down; once it is, the supervisor ends.
func (s *supervisor) shutdown(ctx context.Context, p procclient.Shutdown) (bool, error) {
	do := s.do
	if p.Force {
		do = s.insist
	}
	err := do(ctx, func() error {
		if s.leave != nil && (s.leave.Force || !p.Force) {
			return nil // it is under way
		}
		s.leave = &leaving{Force: p.Force, Last: slices.Clone(p.Last), At: time.Now(), Boot: s.boot}
		s.leaveChanged = true
		return nil
	})
	return err == nil, answer(err)
}

// restart makes place for a new supervisor, under a keeper that has replaced
// its program as well.
func (s *supervisor) restart(ctx context.Context) (bool, error) {
	err := s.ask(ctx, func() error {
		s.end, s.ended = ErrRestart, true
		return nil
	})
	return err == nil, answer(err)
}

// orphaned makes the supervisor end in order to become the keeper.
func (s *supervisor) orphaned() {
	s.post(func(context.Context) { s.end, s.ended = errOrphaned, true })
}
