//go:build linux

package proc

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
)

// How often an action is looked at that is not ready yet.
const (
	probeEager   = 25 * time.Millisecond  // at first, but
	eagerTime    = 3 * time.Second        // so long at most, from then on
	probePatient = 250 * time.Millisecond // so often
)

// probe looks from now on whether the unit's process is ready.
func (s *supervisor) probe(ctx context.Context, u *unit) {
	u.stopProbes, u.notified = func() {}, func() {}
	if u.proc.file == nil {
		return
	}
	ctx, u.stopProbes = context.WithCancel(ctx)
	u.watchHealth = func() { s.watchHealth(ctx, u) }
	proc := u.proc
	if probes := u.record.Spec.Ready; len(probes) > 0 {
		p := s.prober(u, probes)
		u.notified = p.notify
		s.others.Go(func() {
			p.run(ctx, func(err error) { s.post(func(ctx context.Context) { s.isReady(ctx, u, proc, err) }) })
		})
	} else if !u.oneshot() {
		s.isReady(ctx, u, proc, nil)
	}
	if u.EverReady && len(u.record.Spec.Ready) > 0 { // else it has just been found ready
		u.watchHealth()
	}
}

// watchHealth looks from now on, until ctx ends, whether the unit's process is
// healthy.
func (s *supervisor) watchHealth(ctx context.Context, u *unit) {
	probes, proc := u.record.Spec.Health, u.proc
	if len(probes) == 0 {
		return
	}
	p := s.prober(u, probes)
	p.ready = true // it is not unhealthy before it has failed so often
	s.others.Go(func() {
		p.run(ctx, func(err error) { s.post(func(ctx context.Context) { s.isHealthy(ctx, u, proc, err) }) })
	})
}

func (u *unit) stopProbing() {
	if u.stopProbes != nil {
		u.stopProbes()
	}
}

// isReady takes note of what the probes of a process found; nil is that they
// pass.
func (s *supervisor) isReady(ctx context.Context, u *unit, proc *process, err error) {
	if u.proc != proc {
		return // that process has ended
	}
	was := u.ready
	if u.ready = err == nil; !u.ready {
		u.probed = s.fit(ctx, err.Error())
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
		u.watchHealth()
	} else if missed && u.State == plugin.Running {
		s.tell(u, u.State, u.State, "ready")
	}
	if u.State == plugin.Starting {
		s.move(u, plugin.Running, "")
	}
}

// isHealthy takes note of what the health checks of a process found.
func (s *supervisor) isHealthy(ctx context.Context, u *unit, proc *process, err error) {
	if u.proc == proc && err != nil && u.State == plugin.Running && u.killed == "" {
		s.kill(u, "health check failed: "+s.fit(ctx, err.Error()))
	}
}

// prober looks at one process.
type prober struct {
	probes    []ready.Probe
	of        ready.Process
	interval  time.Duration
	timeout   time.Duration
	failures  int // in a row make ready not ready
	successes int // in a row make not ready ready
	wake      chan struct{}
	said      atomic.Bool // READY=1

	ready        bool
	once         bool // it has been ready
	hits, misses int  // in a row
}

// prober returns one for the probes of the unit's process. What can be seen
// only once, and was, is taken as seen.
func (s *supervisor) prober(u *unit, probes []ready.Probe) *prober {
	spec := u.record.Spec
	p := &prober{
		probes: probes, interval: probeInterval(spec), timeout: probeTimeout(spec),
		failures: cmp.Or(spec.FailureThreshold, 3), successes: cmp.Or(spec.SuccessThreshold, 1),
		wake: make(chan struct{}, 1),
	}
	p.said.Store(u.Notified)
	seen := finder{book: s.files.log(u.Service, u.Action), from: u.LogFrom, all: u.EverReady}
	p.of = ready.Process{
		PID: u.PID, Dir: s.dir(u), Env: s.environ(u),
		Notified: p.said.Load, Said: seen.find,
	}
	return p
}

// notify makes the prober look now: the process has said that it is ready.
func (p *prober) notify() {
	p.said.Store(true)
	select {
	case p.wake <- struct{}{}:
	default: // it is going to
	}
}

// run reports what it finds, whenever that changes, until ctx ends.
func (p *prober) run(ctx context.Context, report func(error)) {
	began := time.Now()
	said := "nothing"
	if p.ready {
		said = ""
	}
	for {
		err := p.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if text, settled := p.judge(err); settled && text != said {
			said = text
			report(err)
		}
		pause := p.interval
		if !p.once {
			pause = probeEager
			if time.Since(began) > eagerTime {
				pause = probePatient
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-time.After(pause):
		}
	}
}

// judge counts what one look found, and says what is to be told of it; not
// settled is what may pass.
func (p *prober) judge(err error) (text string, settled bool) {
	if err == nil {
		p.hits, p.misses = p.hits+1, 0
		if p.ready || p.hits >= p.successes {
			p.ready, p.once = true, true
		}
		return "", p.ready
	}
	p.hits, p.misses = 0, p.misses+1
	if p.ready && p.misses >= p.failures {
		p.ready = false
	}
	return err.Error(), !p.ready
}

// look checks all probes once and returns what the first that fails says.
func (p *prober) look(ctx context.Context) error {
	for _, probe := range p.probes {
		one, cancel := context.WithTimeout(ctx, p.timeout)
		err := probe.Check(one, p.of)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
