//go:build linux

package proc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// exited takes note of the end of the unit's process, of which nothing is left
// but those stray PIDs that would not go.
func (s *supervisor) exited(ctx context.Context, u *unit, how ending, stray []int) {
	proc := u.proc
	u.stopProbing()
	if err := s.files.log(u.Service, u.Action).endLine(); err != nil {
		s.log.Warn("last line of output", "service", u.Service, "action", u.Action, "error", err)
	}
	u.proc, u.ready, u.probed, u.dirty = nil, false, "", true
	u.Ended, u.ExitCode, u.Signal = time.Now(), nil, ""
	if how.Signal != 0 {
		u.Signal = signalName(how.Signal)
	} else if how.Known {
		u.ExitCode = &how.Code
	}
	if len(stray) > 0 {
		s.log.Error("processes of an action cannot be killed", "service", u.Service, "action", u.Action, "pids", stray)
	}
	s.conclude(ctx, u, how)
	u.PID, u.Ticks, u.killed = 0, 0, ""
	s.over = append(s.over, proc)
}

// forget lets the kernel and the keeper forget the processes of which is
// written down how they ended.
func (s *supervisor) forget() {
	for _, proc := range s.over {
		if proc.own {
			reap(proc.PID)
		} else if err := s.files.exits().remove(proc.identity); err != nil {
			s.log.Warn("remove note of an exit", "error", err)
		}
		proc.close()
	}
	s.over = nil
}

// conclude decides what the end of the process means.
func (s *supervisor) conclude(ctx context.Context, u *unit, how ending) {
	succeeded := how == ending{Known: true}
	switch {
	case s.isDown(u.svc) || u.spec == nil:
		s.rest(u)
	case u.State == plugin.Stopping: // it was asked to end, and is wanted again by now
		s.await(u)
	case u.record.Spec.Kind == plugin.Oneshot && succeeded && u.killed == "":
		u.Why, u.Streak = "", 0
		s.move(u, plugin.Succeeded, "")
	default:
		s.failed(u, s.reason(ctx, u, how))
	}
}

// reason says why the end of the process is a failure, in its own last words.
func (s *supervisor) reason(ctx context.Context, u *unit, how ending) string {
	why := how.String()
	switch {
	case u.killed != "":
		why = u.killed + ", " + why
	case how.Known && how.Code == 0 && how.Signal == 0:
		why += " though it should run"
	}
	values, err := s.store.secretValues(ctx)
	if err != nil {
		return why // without the values nothing it wrote may be shown
	}
	why = redact(why, values)
	if said := s.files.log(u.Service, u.Action).lastLine(u.LogFrom, values); said != "" {
		why += ": " + said
	}
	return why
}

// failed takes note that the action has failed and decides when it is tried
// again: at once at first, then after a pause that doubles.
func (s *supervisor) failed(u *unit, why string) {
	spec := u.record.Spec
	if u.spec != nil {
		spec = *u.spec
	}
	u.Why, u.dirty = why, true
	policy := spec.Restart
	if policy == "" && spec.Kind == plugin.Oneshot {
		policy = plugin.RestartNever
	}
	switch {
	case policy == plugin.RestartNever || u.svc.Wanted == plugin.WantIgnore:
		s.move(u, plugin.Failed, why)
		return
	case spec.MaxRestarts > 0 && u.Streak >= spec.MaxRestarts:
		u.Why = fmt.Sprintf("%s (given up after %d restarts)", why, u.Streak)
		s.move(u, plugin.Failed, u.Why)
		return
	}
	u.NextTry = time.Now().Add(backoff(u.Streak, restartDelay(spec), restartDelayMax(spec)))
	u.Streak++
	u.Restarts++
	s.lookAt(u.NextTry)
	s.move(u, plugin.Restarting, why)
}

// backoff is the pause before the restart that follows so many in a row. It
// varies by a tenth, so that what failed together does not come back together.
func backoff(before int, delay, most time.Duration) time.Duration {
	if before == 0 {
		return 0
	}
	for range min(before-1, 62) {
		if delay >= most {
			break
		}
		delay *= 2
	}
	delay = min(delay, most)
	return delay + time.Duration((rand.Float64()-0.5)*0.2*float64(delay))
}
