//go:build linux

package proc

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// retryStore is how long the supervisor waits before it tries again to write
// what the store did not take.
const retryStore = time.Second

// supervisor owns the model. Only the goroutine of run touches its fields;
// whoever else wants something sends it a message.
type supervisor struct {
	cfg    Config
	log    *slog.Logger
	files  layout
	store  *store
	boot   string
	keeper int // its PID
	survey *survey
	began  time.Time
	notify *os.File // where processes say that they are ready

	inbox   chan func(context.Context)
	stopped chan struct{}  // closed when run has returned: nobody reads the inbox any more
	others  sync.WaitGroup // goroutines that look after processes
	news    *news          // tells streams that there are events
	output  *news          // tells streams that there is output
	scribe  *scribe

	services  map[string]*service
	fresh     bool            // somebody has just started the keeper: an unfinished shutdown is over
	leave     *leaving        // everything is to go down; nil: no
	stays     map[string]bool // while leaving: services whose turn has not come yet
	end       error           // why run returns, set when it shall
	ended     bool
	forcedOut bool       // it ends because everything was stopped by force
	orphans   []*process // held for the keeper that this process may become

	pass         time.Time  // when the last reconcile began
	next         time.Time  // when to look again at the latest; zero: only when told
	forgotten    []string   // services to delete from the store
	dropped      []key      // jobs to delete from the store
	over         []*process // that have ended, which is not written down yet
	pending      []event    // to be logged
	leaveChanged bool
	storeError   error // of the last write; nil: all is on disk
}

// run takes up what the last supervisor left, calls up, and handles messages
// until ctx ends or the supervisor is to end.
func (s *supervisor) run(ctx context.Context, up func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.letGo()
	defer cancel()
	if err := s.recover(ctx); err != nil {
		return err
	}
	s.reconcile(ctx)
	up()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.flush(ctx)
		case message := <-s.inbox:
			message(ctx)
		case <-timer.C:
		}
		s.reconcile(ctx)
		if s.ended {
			return errors.Join(s.end, s.lastFlush(ctx))
		}
		timer.Reset(s.untilNext())
	}
}

// letGo lets go of all processes, which go on, and waits for the goroutines
// that looked after them. It keeps a hold of those that are no children of this
// process, for the keeper that it may become.
func (s *supervisor) letGo() {
	close(s.stopped)
	for _, svc := range s.services {
		for _, u := range svc.units {
			if u.proc != nil {
				u.stopProbing()
				if !u.proc.own && u.proc.file != nil {
					if p, err := u.proc.again(); err == nil {
						s.orphans = append(s.orphans, p)
					}
				}
				u.proc.close()
			}
		}
	}
	s.others.Wait()
}

// untilNext is how long run may wait for a message.
func (s *supervisor) untilNext() time.Duration {
	if s.next.IsZero() {
		return time.Hour
	}
	return max(time.Until(s.next), 0)
}

// lookAt makes run look again at that moment, or earlier.
func (s *supervisor) lookAt(t time.Time) {
	if s.next.IsZero() || t.Before(s.next) {
		s.next = t
	}
}

// post sends run a message. After run has returned it is dropped: what it
// would have said is found again by the next supervisor.
func (s *supervisor) post(message func(context.Context)) {
	select {
	case s.inbox <- message:
	case <-s.stopped:
	}
}

// errEnding answers calls that come too late.
var errEnding = errors.New("the supervisor is ending")

// do has run call fn, write down what it changed, and do what follows from it.
// What cannot be written down is taken back and is the error: a call that
// failed has changed nothing, and nothing comes of it later.
func (s *supervisor) do(ctx context.Context, fn func() error) error {
	return s.send(ctx, func(life context.Context, done chan<- error) {
		takeBack := s.remember()
		err := fn()
		if err == nil {
			err = s.flush(life)
		}
		if err != nil {
			takeBack()
		}
		done <- err
	})
}

// insist is do for what has to happen even where it cannot be written down: it
// is done, and forgotten if the supervisor dies before it is on disk.
func (s *supervisor) insist(ctx context.Context, fn func() error) error {
	return s.send(ctx, func(life context.Context, done chan<- error) {
		err := fn()
		_ = s.flush(life) // kept in storeError, and tried again
		done <- err
	})
}

// ask has run call fn, which only looks.
func (s *supervisor) ask(ctx context.Context, fn func() error) error {
	return s.send(ctx, func(_ context.Context, done chan<- error) { done <- fn() })
}

// remember returns what takes back whatever is changed from now on of services
// and their actions.
func (s *supervisor) remember() (takeBack func()) {
	services, leave, leaveChanged := maps.Clone(s.services), s.leave, s.leaveChanged
	forgotten, dropped, pending := len(s.forgotten), len(s.dropped), len(s.pending)
	before := make(map[*service]service, len(services))
	units := map[*unit]unit{}
	for _, svc := range services {
		saved := *svc
		saved.units = slices.Clone(svc.units)
		before[svc] = saved
		for _, u := range svc.units {
			units[u] = *u
		}
	}
	return func() {
		s.services, s.leave, s.leaveChanged = services, leave, leaveChanged
		s.forgotten, s.dropped, s.pending = s.forgotten[:forgotten], s.dropped[:dropped], s.pending[:pending]
		for svc, saved := range before {
			*svc = saved
		}
		for u, saved := range units {
			*u = saved
		}
	}
}

// send sends run a message, and returns what it says when it is done.
func (s *supervisor) send(ctx context.Context, fn func(life context.Context, done chan<- error)) error {
	done := make(chan error, 1)
	message := func(life context.Context) { fn(life, done) }
	select {
	case s.inbox <- message:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return errEnding
	}
	select {
	case err := <-done:
		return err
	case <-s.stopped:
		select {
		case err := <-done:
			return err
		default:
			return errEnding
		}
	}
}

// move changes the state of a unit and logs that.
func (s *supervisor) move(u *unit, state, reason string) {
	if u.State == state {
		return
	}
	s.tell(u, u.State, state, reason)
	u.State, u.dirty = state, true
}

// tell logs an event of the unit.
func (s *supervisor) tell(u *unit, from, to, reason string) {
	e := events.JobState{Service: u.Service, Action: u.Action, From: from, To: to, Reason: reason}
	if u.proc != nil {
		e.PID = u.PID
	} else if !u.Ended.IsZero() {
		e.ExitCode, e.Signal = u.ExitCode, u.Signal
	}
	s.pending = append(s.pending, event{time.Now(), e})
}

// flush writes what has changed. What the store does not take stays to be
// written, and is tried again.
func (s *supervisor) flush(ctx context.Context) error {
	b := s.changes()
	if b.empty() && s.storeError == nil {
		return nil
	}
	if err := s.store.write(context.WithoutCancel(ctx), b); err != nil {
		if s.storeError == nil {
			s.log.Error("write store, try again", "error", err)
		}
		s.storeError = err
		s.lookAt(time.Now().Add(retryStore))
		return err
	}
	s.storeError = nil
	for name := range b.services {
		if svc := s.services[name]; svc != nil {
			svc.dirty = false
		}
	}
	for k := range b.jobs {
		if svc := s.services[k.service]; svc != nil && svc.unit(k.action) != nil {
			svc.unit(k.action).dirty = false
		}
	}
	s.forgotten, s.dropped, s.pending, s.leaveChanged = nil, nil, nil, false
	s.forget()
	if len(b.events) > 0 {
		s.news.spread()
	}
	return nil
}

// lastFlush is that of a supervisor which ends. Where everything was stopped by
// force, the store is no reason to start it again.
func (s *supervisor) lastFlush(ctx context.Context) error {
	if err := s.flush(ctx); err != nil && !s.forcedOut {
		return err
	}
	return nil
}

// changes is what the store does not know yet.
func (s *supervisor) changes() batch {
	b := batch{services: map[string]*registration{}, jobs: map[key]*record{}, events: s.pending}
	for _, name := range s.forgotten {
		b.services[name] = nil
	}
	for _, k := range s.dropped {
		b.jobs[k] = nil
	}
	for name, svc := range s.services {
		if svc.dirty {
			b.services[name] = &svc.registration
		}
		for _, u := range svc.units {
			if u.dirty {
				b.jobs[u.key()] = &u.record
			}
		}
	}
	if s.leaveChanged {
		b.leaving = &s.leave
	}
	return b
}

// sorted returns the services by name.
func (s *supervisor) sorted() []*service {
	list := make([]*service, 0, len(s.services))
	for _, name := range slices.Sorted(maps.Keys(s.services)) {
		list = append(list, s.services[name])
	}
	return list
}

// isDown reports whether the service is not to run now, whatever is wanted of
// it in the long run.
func (s *supervisor) isDown(svc *service) bool {
	if svc.Wanted == plugin.WantStop || svc.Deleting || svc.Cycling {
		return true
	}
	return s.leave != nil && !s.stays[svc.Spec.Name]
}

// forced is since when the service may not drain, zero when it may.
func (s *supervisor) forced(svc *service) time.Time {
	if s.leave != nil && s.leave.Force && svc.ForcedAt.IsZero() {
		return s.leave.At
	}
	return svc.ForcedAt
}
