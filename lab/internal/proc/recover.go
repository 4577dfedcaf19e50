//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// recover takes up what the store says and what of it still runs.
func (s *supervisor) recover(ctx context.Context) error {
	regs, records, leave, err := s.store.load(ctx)
	if err != nil {
		return err
	}
	s.services = make(map[string]*service, len(regs))
	for _, r := range regs {
		svc := &service{registration: r}
		svc.register(r.Spec)
		svc.Deleting, svc.dirty = r.Deleting, false
		s.services[r.Spec.Name] = svc
	}
	if s.leave = leave; leave != nil && (s.fresh || leave.Boot != s.boot) {
		s.leave, s.leaveChanged = nil, true
	}
	// First everything as it was recorded, then what has become of it: what is
	// found out is written at once, and must not meet a half-read model.
	var units []*unit
	for _, r := range records {
		if u := s.place(r); u != nil {
			units = append(units, u)
		}
	}
	for _, u := range units {
		if err := s.takeUp(ctx, u); err != nil {
			return fmt.Errorf("take up action %s of %s: %w", u.Action, u.Service, err)
		}
	}
	return s.files.exits().tidy(0, s.awaited())
}

// place puts a record where it belongs in the model.
func (s *supervisor) place(r record) *unit {
	svc := s.services[r.Service]
	if svc == nil { // a service goes together with its jobs
		s.log.Error("job of no service, forget it", "service", r.Service, "action", r.Action, "pid", r.PID)
		s.dropped = append(s.dropped, key{r.Service, r.Action})
		return nil
	}
	u := svc.unit(r.Action)
	if u == nil { // no longer registered, but not yet known to have ended
		u = &unit{svc: svc}
		svc.units = append(svc.units, u)
	}
	u.record, u.dirty = r, false
	return u
}

// takeUp finds out what has become of the unit's process.
func (s *supervisor) takeUp(ctx context.Context, u *unit) error {
	switch {
	case u.Boot != s.boot:
		s.afterBoot(u)
		return nil
	case u.Spawning:
		return s.findSpawned(ctx, u)
	case u.PID == 0:
		return nil
	}
	return s.adopt(ctx, u)
}

// adopt takes hold of the process that the unit is recorded to have. One that
// has ended is taken for a process of which the end is to be learned.
func (s *supervisor) adopt(ctx context.Context, u *unit) error {
	proc, err := adopt(u.identity, u.ID, s.survey)
	if errors.Is(err, errGone) {
		proc, err = gone(u.identity, u.ID, s.survey), nil
	}
	if err != nil {
		return err
	}
	u.proc = proc
	s.begin(ctx, u)
	return nil
}

// afterBoot takes up an action of which nothing can run: the machine has been
// started since.
func (s *supervisor) afterBoot(u *unit) {
	if u.Boot == "" {
		return // it has never run
	}
	if u.PID != 0 {
		u.Ended, u.ExitCode, u.Signal = time.Now(), nil, ""
	}
	u.identity, u.Spawning, u.StopSent, u.dirty = identity{}, false, time.Time{}, true
	s.rest(u)
}

// findSpawned finds the process of a job that was about to be forked when the
// supervisor died, by the job's ID in its environment. Whatever was forked has
// also been executed by now, or else the lock of the dead supervisor would
// still be held. When there is none the action is started again.
func (s *supervisor) findSpawned(ctx context.Context, u *unit) error {
	u.Spawning, u.dirty = false, true
	seen, err := s.survey.since(time.Now())
	if err != nil {
		return err
	}
	var leader *stat
	for pid, job := range seen.jobs {
		st := seen.stats[pid]
		if job == u.ID && st.session == pid && (leader == nil || st.ticks < leader.ticks) {
			leader = &st
		}
	}
	if leader == nil {
		gone(u.identity, u.ID, s.survey).sweep(ctx) // it may have come and gone, leaving others
		return nil
	}
	u.PID, u.Ticks = leader.pid, leader.ticks
	return s.adopt(ctx, u)
}

// awaited returns the processes whose end the keeper may have to note.
func (s *supervisor) awaited() []identity {
	var ids []identity
	for _, svc := range s.services {
		for _, u := range svc.units {
			if u.proc != nil {
				ids = append(ids, u.identity)
			}
		}
	}
	return ids
}

// tidy removes the notes that are older than age, but those of the processes
// given.
func (dir exits) tidy(age time.Duration, keep []identity) error {
	entries, err := os.ReadDir(string(dir))
	if err != nil {
		return fmt.Errorf("tidy notes of exits: %w", err)
	}
	var names []string
	for _, id := range keep {
		names = append(names, dir.file(id), dir.file(id)+partial)
	}
	for _, e := range entries {
		path := string(dir) + "/" + e.Name()
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < age || slices.Contains(names, path) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("tidy notes of exits: %w", err)
		}
	}
	return nil
}
