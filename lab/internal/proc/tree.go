//go:build linux

package proc

import (
	"context"
	"maps"
	"slices"
	"syscall"
	"time"
)

// members returns PID and start of all that belongs to the process and runs, at
// the given moment or later, the leader included: its group and session,
// whatever carries the job's name in its environment, what was seen to belong
// to it before, and the descendants of all these.
//
// Of a process that had gone before it could be held, the numbers of group and
// session prove nothing any more: then only the environment counts.
func (p *process) members(since time.Time) (map[int]uint64, error) {
	scene, err := p.survey.since(since)
	if err != nil {
		return nil, err
	}
	all := scene.stats
	leader, exists := all[p.PID]
	if exists && leader.ticks != p.Ticks {
		exists = false
	}
	// While the group or session has members its number is not given away. So
	// if another has our PID now, then whoever is in a group or session of
	// that number is not ours.
	_, taken := all[p.PID]
	trust := p.file != nil && (exists || !taken)

	p.mu.Lock()
	seen := maps.Clone(p.seen)
	p.mu.Unlock()
	mine := make(map[int]uint64)
	for pid, s := range all {
		ticks, before := seen[pid]
		switch {
		case s.ticks < p.Ticks:
		case pid == p.PID && exists,
			before && ticks == s.ticks,
			trust && (s.group == p.PID || s.session == p.PID),
			p.job != "" && scene.jobs[pid] == p.job:
			mine[pid] = s.ticks
		}
	}
	p.addDescendants(mine, all)
	maps.DeleteFunc(mine, func(pid int, _ uint64) bool {
		return all[pid].state == 'Z' || all[pid].state == 'X' || p.survey.spares(pid)
	})
	p.mu.Lock()
	p.seen = mine
	p.mu.Unlock()
	return maps.Clone(mine), nil
}

// addDescendants adds to mine the children of what is in it, and theirs.
func (p *process) addDescendants(mine map[int]uint64, all map[int]stat) {
	for grown := true; grown; {
		grown = false
		for pid, s := range all {
			if _, have := mine[pid]; have {
				continue
			}
			if _, ok := mine[s.parent]; ok && !p.survey.spares(s.parent) {
				mine[pid], grown = s.ticks, true
			}
		}
	}
}

// look notes what belongs to the process, so that it is known later, when the
// leader has ended and parents can no longer be told. What was seen at the given
// moment or later will do.
func (p *process) look(since time.Time) { _, _ = p.members(since) } // without /proc nothing is noted

// kill ends all that belongs to the process at once, the leader included.
// What is started meanwhile is left to sweep, once the leader has ended.
func (p *process) kill() {
	members, err := p.members(time.Now())
	if err != nil {
		members = nil
	}
	if s, err := readStat(p.PID); err == nil && s.ticks == p.Ticks && p.file != nil {
		_ = syscall.Kill(-p.PID, syscall.SIGKILL) // the whole group at one moment; what is missed comes next
	}
	for pid, ticks := range members {
		_ = signalExactly(pid, ticks, syscall.SIGKILL) // what has ended meanwhile is no loss
	}
	_ = p.signal(syscall.SIGKILL) // likewise
}

// sweep kills what the ended process has left behind, until nothing is left or
// it has taken too long; it returns the PIDs of what would not go.
func (p *process) sweep(ctx context.Context) []int {
	if p.own && p.survey.clear() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		members, err := p.members(time.Now())
		if err == nil {
			delete(members, p.PID)
			if len(members) == 0 {
				return nil
			}
			for pid, ticks := range members {
				_ = signalExactly(pid, ticks, syscall.SIGKILL) // what has ended meanwhile is no loss
			}
		}
		select {
		case <-ctx.Done():
			return slices.Sorted(maps.Keys(members))
		case <-time.After(pause):
		}
	}
}
