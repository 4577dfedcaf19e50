//go:build linux

package proc

import (
	"context"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
)

// How an action is probed.
const (
	probeEager   = 25 * time.Millisecond  // until it is ready for the first time, but
	eagerTime    = 3 * time.Second        // so long at most, from then on
	probePatient = 250 * time.Millisecond // until it is ready
	probeSteady  = time.Second            // once it has been
	probeTimeout = 2 * time.Second        // of one look
	probeMisses  = 3                      // in a row make it not ready
)

// probe looks from now on whether the unit's process is ready.
func (s *supervisor) probe(ctx context.Context, u *unit) {
	u.stopProbes = func() {}
	if u.proc.file == nil {
		return
	}
	probes := u.record.Spec.Ready
	if len(probes) == 0 {
		if !u.oneshot() {
			s.isReady(u, u.proc, nil)
		}
		return
	}
	ctx, u.stopProbes = context.WithCancel(ctx)
	proc := u.proc
	s.others.Go(func() {
		p := prober{probes: probes, pid: proc.PID}
		p.run(ctx, func(err error) {
			s.post(func(context.Context) { s.isReady(u, proc, err) })
		})
	})
}

func (u *unit) stopProbing() {
	if u.stopProbes != nil {
		u.stopProbes()
	}
}

// isReady takes note of what the probes of a process found; nil is that they
// pass.
func (s *supervisor) isReady(u *unit, proc *process, err error) {
	if u.proc != proc {
		return // that process has ended
	}
	was := u.ready
	if u.ready = err == nil; !u.ready {
		u.probed = err.Error()
		if was {
			s.tell(u, u.State, u.State, "not ready: "+u.probed)
		}
		return
	}
	missed := u.probed != ""
	u.probed = ""
	if was {
		return
	}
	u.readySince = time.Now()
	if !u.EverReady {
		u.EverReady, u.dirty = true, true
	} else if missed && u.State == plugin.Running {
		s.tell(u, u.State, u.State, "ready")
	}
	if u.State == plugin.Starting {
		s.move(u, plugin.Running, "")
	}
}

// prober looks at one process.
type prober struct {
	probes []ready.Probe
	pid    int

	once   bool // it has been ready
	misses int  // in a row
}

// run reports what it finds, whenever that changes, until ctx ends.
func (p *prober) run(ctx context.Context, report func(error)) {
	began := time.Now()
	said := "nothing"
	for {
		err := p.look(ctx)
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
			p.misses++
		} else {
			p.once, p.misses = true, 0
		}
		tolerated := err != nil && p.once && p.misses < probeMisses
		if text != said && !tolerated {
			said = text
			report(err)
		}
		pause := probeSteady
		if !p.once {
			pause = probeEager
			if time.Since(began) > eagerTime {
				pause = probePatient
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// look checks all probes once and returns what the first that fails says.
func (p *prober) look(ctx context.Context) error {
	for _, probe := range p.probes {
		one, cancel := context.WithTimeout(ctx, probeTimeout)
		err := probe.Check(one, p.pid)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
