//go:build linux

package proc

import (
	"context"
	"fmt"
	"slices"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// reconcile compares for every action what is wanted with what is, takes the
// next steps, and writes down what came of it. Running it once more changes
// nothing.
func (s *supervisor) reconcile(ctx context.Context) {
	s.next, s.pass = time.Time{}, time.Now()
	for again := true; again; { // what one step did may be what another waited for
		again = false
		s.stays = s.staying()
		for _, svc := range s.sorted() {
			again = s.settle(svc) || again
			for _, u := range svc.units {
				again = s.step(ctx, u) || again
			}
		}
	}
	if s.leave != nil && !slices.ContainsFunc(s.sorted(), (*service).alive) {
		s.forcedOut = s.leave.Force
		s.leave, s.leaveChanged, s.ended = nil, true, true
	}
	_ = s.flush(ctx) // kept in storeError, and tried again
}

// settle does what concerns a service as a whole. It reports whether it
// changed anything.
func (s *supervisor) settle(svc *service) bool {
	changed := false
	units := slices.DeleteFunc(slices.Clone(svc.units), func(u *unit) bool {
		if u.spec != nil || u.proc != nil {
			return false
		}
		s.move(u, plugin.Inactive, "registered no more")
		s.dropped = append(s.dropped, u.key())
		changed = true
		return true
	})
	svc.units = units
	svc.held = s.held(svc, time.Now())
	if svc.alive() {
		return changed
	}
	if svc.Deleting {
		for _, u := range svc.units {
			s.move(u, plugin.Inactive, "service deleted")
			s.dropped = append(s.dropped, u.key())
		}
		s.forgotten = append(s.forgotten, svc.Spec.Name)
		delete(s.services, svc.Spec.Name)
		return true
	}
	if svc.Cycling && s.leave == nil {
		svc.Cycling, svc.dirty = false, true
		s.startAnew(svc)
		return true
	}
	return changed
}

// startAnew makes every action of a service without processes start from the
// beginning.
func (s *supervisor) startAnew(svc *service) {
	for _, u := range svc.units {
		s.await(u)
	}
}

// await makes an action without a process start as soon as what it depends on
// allows, with its row of failures forgotten.
func (s *supervisor) await(u *unit) {
	u.Restarts, u.Streak, u.NextTry, u.Why, u.dirty = 0, 0, time.Time{}, "", true
	s.move(u, plugin.WaitingDeps, "")
}

// step takes the next step for one action. It reports whether it changed what
// others may wait for.
func (s *supervisor) step(ctx context.Context, u *unit) bool {
	before := u.State
	down := s.isDown(u.svc) || u.spec == nil
	switch {
	case u.proc != nil && (down || u.condemned() || u.superseded()):
		s.stop(ctx, u)
	case u.proc != nil:
		s.attend(u)
	case down:
		s.rest(u)
	case u.svc.Wanted == plugin.WantIgnore:
		// what is down stays as it is
	default:
		s.raise(ctx, u)
	}
	return u.State != before
}

// condemned reports whether the process ends even if it is wanted again: its
// stop cannot be taken back.
func (u *unit) condemned() bool {
	return !u.StopSent.IsZero() || u.killed != "" && u.State == plugin.Stopping
}

// rest leaves an action that is down, and shall be, at rest.
func (s *supervisor) rest(u *unit) {
	if u.State != plugin.Inactive {
		u.Why, u.NextTry, u.dirty = "", time.Time{}, true
		s.move(u, plugin.Inactive, "")
	}
}

// raise starts an action that is down and shall not be, when its time has come.
func (s *supervisor) raise(ctx context.Context, u *unit) {
	switch u.State {
	case plugin.Succeeded, plugin.Failed:
		if !u.outdated() {
			return // until somebody starts the service
		}
		s.await(u)
	case plugin.Restarting:
		if time.Now().Before(u.NextTry) {
			s.lookAt(u.NextTry)
			return
		}
		s.move(u, plugin.WaitingDeps, "")
	case plugin.WaitingDeps:
	default: // new to a service that is wanted, or just started with it
		s.await(u)
	}
	if blocked := u.blocked(time.Now()); blocked != "" {
		s.move(u, plugin.WaitingDeps, blocked)
		return
	}
	if s.clear(ctx, u) {
		s.spawn(ctx, u)
	}
}

// clear reports whether nobody is in the way of the action, as it has looked.
// It looks beside the loop, and comes back.
func (s *supervisor) clear(ctx context.Context, u *unit) bool {
	spec := u.spec
	if u.clear || len(spec.Sockets) == 0 && !spec.Singleton {
		u.clear = false // it holds for this once
		return true
	}
	if u.looking {
		return false
	}
	u.looking = true
	s.others.Go(func() {
		err := clearWay(ctx, *spec)
		s.post(func(context.Context) {
			u.looking = false
			if u.spec != spec {
				return // what is registered by now is looked at anew
			}
			u.clear = err == nil
			if err != nil && u.proc == nil && u.State == plugin.WaitingDeps {
				u.record.Spec = *spec // that was tried
				s.failed(u, err.Error())
			}
		})
	})
	return false
}

// attend looks after an action that runs and shall.
func (s *supervisor) attend(u *unit) {
	state := plugin.Starting
	if u.EverReady || u.oneshot() {
		state = plugin.Running
	}
	s.move(u, state, "")
	now := time.Now()
	if limit, why := u.limit(); limit > 0 && u.killed == "" {
		deadline := u.Started.Add(limit)
		if now.Before(deadline) {
			s.lookAt(deadline)
		} else {
			s.kill(u, fmt.Sprintf("%s within %s", why, limit))
		}
	}
	if u.Streak > 0 && u.ready {
		stable := u.readySince.Add(stabilityPeriod(u.record.Spec))
		if now.Before(stable) {
			s.lookAt(stable)
		} else {
			u.Streak, u.dirty = 0, true
		}
	}
}

// limit is how long the process may take, and for what; zero when it has time.
func (u *unit) limit() (time.Duration, string) {
	spec := u.record.Spec
	switch {
	case u.oneshot():
		return ms(spec.TimeoutMS, 0), "did not end"
	case !u.EverReady:
		return ms(spec.StartTimeoutMS, 0), "was not ready"
	}
	return 0, ""
}

// stop takes the next step toward the end of a process that shall not be: the
// one stop signal once those that depend on it have gone, and force where
// waiting is over.
func (s *supervisor) stop(ctx context.Context, u *unit) {
	s.move(u, plugin.Stopping, "asked to stop")
	if u.killed != "" || len(u.svc.dependents(u)) > 0 && u.StopSent.IsZero() {
		return
	}
	spec, now := u.record.Spec, time.Now()
	if u.StopSent.IsZero() {
		if spec.Drain && !u.EverReady {
			s.kill(u, "stopped before it was ever ready")
			return
		}
		if may := u.Started.Add(stopDelay(spec)); now.Before(may) {
			s.lookAt(may)
			return
		}
		if !s.sendStop(ctx, u, now) {
			return
		}
	}
	since := u.StopSent
	if force := s.forced(u.svc); !force.IsZero() {
		if force.After(since) {
			since = force
		}
	} else if spec.Drain {
		return
	}
	if deadline := since.Add(stopTimeout(spec)); now.Before(deadline) {
		s.lookAt(deadline)
	} else {
		s.kill(u, fmt.Sprintf("did not stop within %s", stopTimeout(spec)))
	}
}

// sendStop sends the one stop signal. It is on disk that it was sent before it is:
// a supervisor that dies in between may have sent none, but none sends two.
// Only force does not wait for the disk.
func (s *supervisor) sendStop(ctx context.Context, u *unit, now time.Time) bool {
	u.StopSent, u.dirty = now, true
	if s.flush(ctx) != nil && s.forced(u.svc).IsZero() {
		u.StopSent = time.Time{}
		return false
	}
	u.proc.look(s.pass)
	signal, _ := stopSignal(u.record.Spec) // validated when it was registered
	if err := u.proc.signal(signal); err != nil {
		s.log.Error("send stop signal", "service", u.Service, "action", u.Action, "pid", u.PID, "error", err)
	}
	return true
}

// kill ends the process and all it started.
func (s *supervisor) kill(u *unit, why string) {
	u.killed = why
	s.others.Go(u.proc.kill)
}
