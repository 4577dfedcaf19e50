package plugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/google/uuid"
)

// failure remembers an acquisition that failed, so that it is not repeated at
// every look.
type failure struct {
	err   error
	tries int
	until time.Time // before then it is not tried again unless asked
}

// reconcile compares what is wanted with what is, takes the next step, and
// announces the state it found. It returns when to look again at the latest.
func (l *Lifecycle) reconcile(ctx context.Context) (time.Duration, error) {
	l.mu.Lock()
	l.answering = l.cause // what is read from here on is later than the request
	l.mu.Unlock()
	spec, status, err := l.host.Supervisor.Get(ctx, l.unit)
	if errors.Is(err, ErrNotFound) {
		return steady, nil // nobody has ever asked for it
	}
	if err != nil {
		return steady, fmt.Errorf("ask the supervisor: %w", err)
	}
	var trouble error
	if status.Wanted == WantStart {
		if trouble = l.advance(ctx, spec, status); trouble != nil && ctx.Err() != nil {
			return 0, trouble
		}
		if spec, status, err = l.host.Supervisor.Get(ctx, l.unit); err != nil {
			return steady, fmt.Errorf("ask the supervisor: %w", err)
		}
	}
	last := events.StateUnknown
	if l.last != nil {
		last = l.last.State
	}
	state := l.assess(ctx, l.service, spec, status, last, trouble)
	pause := changing
	if state.State == events.StateReady || state.State == events.StateStopped || state.State == events.StateFailed {
		pause = steady
	}
	return pause, errors.Join(trouble, l.announce(ctx, state, status))
}

// advance takes the wanted service one step on: acquires its binary, registers
// it, restarts it where that was asked.
func (l *Lifecycle) advance(ctx context.Context, spec ServiceSpec, status ServiceStatus) error {
	restart := spec.Tags[tagRestart]
	if restart == spec.Tags[tagDone] {
		restart = ""
	}
	if restart == "" && !l.due(ctx, spec, status) {
		return nil
	}
	changed, restart, err := l.prepare(ctx, spec, restart)
	switch {
	case err != nil && restart != "" && status.Alive() && ctx.Err() == nil:
		return errors.Join(err, l.giveUp(ctx, restart))
	case err != nil:
		return err
	case restart != "":
		err = l.restart(ctx, restart)
	case changed: // what had failed may do better as it is registered now
		err = l.host.Supervisor.Start(ctx, l.unit)
	}
	if err != nil || !changed {
		return err
	}
	return l.announceRegistration(ctx)
}

// prepare has everything at hand and registered for the service to start as
// its settings want it now. It returns the restart that is due, which may be
// one that nobody asked for.
func (l *Lifecycle) prepare(ctx context.Context, spec ServiceSpec, restart string) (changed bool, due string, err error) {
	service, err := l.describe()
	if err != nil {
		return false, restart, fmt.Errorf("read settings: %w", err)
	}
	l.service = service
	if err := l.acquire(ctx, spec); err != nil {
		return false, restart, err
	}
	return l.register(ctx, restart)
}

// giveUp drops a restart that cannot be carried out, and was answered so: it
// does not come by itself once it could be.
func (l *Lifecycle) giveUp(ctx context.Context, restart string) error {
	return l.update(ctx, func(spec *ServiceSpec, _ ServiceStatus) error {
		setTag(spec, tagFailed, restart)
		if spec.Tags[tagRestart] == restart {
			delete(spec.Tags, tagRestart)
			setTag(spec, tagRestart, spec.Tags[tagDone])
		}
		return nil
	})
}

// due reports whether the registration of a wanted service is looked at anew:
// while nothing of it runs and the supervisor does not try by itself, when it
// was asked for, and when the supervisor tries in vain because somebody else
// has taken one of its ports.
func (l *Lifecycle) due(ctx context.Context, spec ServiceSpec, status ServiceStatus) bool {
	trying := slices.ContainsFunc(status.Actions, func(a ActionStatus) bool { return a.State == Restarting })
	if status.Alive() {
		return trying && l.lostPort(ctx, spec, status)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.again || !trying || l.lostPort(ctx, spec, status)
}

// drains reports whether a process is alive that has something to lose, which
// one that has never been ready has not.
func drains(spec ServiceSpec, status ServiceStatus) bool {
	return slices.ContainsFunc(spec.Actions, func(a Action) bool {
		now := status.Action(a.Name)
		return a.Drain && now.Alive() && now.State != Starting
	})
}

// lostPort reports whether a port of the service is somebody else's.
func (l *Lifecycle) lostPort(ctx context.Context, spec ServiceSpec, status ServiceStatus) bool {
	ports, err := ChoosePorts(ctx, keeping(l.service.Ports, spec.Ports), spec.Ports, pids(status))
	return err != nil || !maps.Equal(ports, spec.Ports)
}

// keeping returns the ports with those that are registered not pinned anywhere
// else: what runs cannot move.
func keeping(ports []Port, registered map[string]int) []Port {
	kept := slices.Clone(ports)
	for i, p := range kept {
		if port, ok := registered[p.Name]; ok && port != p.Preferred {
			kept[i].Preferred, kept[i].Pinned = port, false
		}
	}
	return kept
}

// stopping reports whether the service is on its way down, be it only to start
// anew.
func stopping(status ServiceStatus) bool {
	return slices.ContainsFunc(status.Actions, func(a ActionStatus) bool { return a.State == Stopping })
}

func pids(status ServiceStatus) []int {
	var own []int
	for _, a := range status.Actions {
		if a.Alive() {
			own = append(own, a.PID)
		}
	}
	return own
}

// register registers the service with the acquired binary, as its settings
// describe it now, and reports whether that changed anything. Ports that are
// pinned take effect when nothing of the service runs, or is about to restart.
// What runs and knows a port that is lost has to restart: that is recorded
// together with the new port, so that it happens whoever dies in between.
func (l *Lifecycle) register(ctx context.Context, restart string) (changed bool, due string, err error) {
	due = restart
	err = l.update(ctx, func(spec *ServiceSpec, status ServiceStatus) error {
		before := *spec
		want := l.service.Ports
		if status.Alive() && restart == "" {
			want = keeping(want, spec.Ports)
		}
		ports, err := ChoosePorts(ctx, want, spec.Ports, pids(status))
		if err != nil {
			return err
		}
		spec.Version, spec.Ports, spec.Description = l.installed.Version, ports, l.service.Description
		if spec.Actions, err = l.service.Actions(l.instance(*spec)); err != nil {
			return fmt.Errorf("describe actions: %w", err)
		}
		changed = !before.Equal(*spec)
		if changed && due == "" && status.Alive() && !drains(before, status) {
			due = "lost-port-" + uuid.NewString()
			setTag(spec, tagRestart, due)
		}
		return nil
	})
	return changed, due, err
}

// restart carries out the restart that was requested by the event id, once.
func (l *Lifecycle) restart(ctx context.Context, id string) error {
	if err := l.host.Supervisor.Restart(ctx, l.unit); err != nil {
		return err
	}
	return l.update(ctx, func(spec *ServiceSpec, _ ServiceStatus) error {
		setTag(spec, tagDone, id)
		return nil
	})
}

// instance is the service as it is registered.
func (l *Lifecycle) instance(spec ServiceSpec) Instance {
	return Instance{
		Version: spec.Version, Binary: l.installed.Path, Lab: l.host.Lab,
		Ports: spec.Ports, Paths: l.host.Paths,
	}
}

// acquire has the binary of the wanted version at hand, or says why not. It
// gives up when the service is no longer wanted.
func (l *Lifecycle) acquire(ctx context.Context, spec ServiceSpec) error {
	want := l.service.Binary
	if version := spec.Tags[tagVersion]; version != "" {
		want.Version = version
	}
	if l.installed.Version == want.Version {
		if _, err := os.Stat(l.installed.Path); err == nil {
			return nil
		}
	}
	l.mu.Lock()
	again := l.again
	l.again = false
	l.mu.Unlock()
	if !again && l.failure.err != nil && time.Now().Before(l.failure.until) {
		return l.failure.err
	}
	got, err := l.acquireWhileWanted(ctx, want)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			l.failure.err, l.failure.tries = err, l.failure.tries+1
			l.failure.until = time.Now().Add(min(30*time.Second<<min(l.failure.tries-1, 5), 10*time.Minute))
			l.announceFailure(ctx, want, err)
		}
		return err
	}
	l.installed, l.failure = got, failure{}
	l.announceAcquired(ctx, got)
	return nil
}

// acquireWhileWanted acquires, looking at every wake-up whether it still should.
func (l *Lifecycle) acquireWhileWanted(ctx context.Context, want binary.Spec) (got binary.Installed, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		got, err = l.host.Binaries.Acquire(ctx, want, func(p binary.Progress) { l.announceProgress(ctx, want, p) })
	}()
	for {
		select {
		case <-done:
			return got, err
		case <-l.wake:
			l.meanwhile(ctx, want, cancel)
		case <-time.After(steady):
			l.meanwhile(ctx, want, cancel)
		}
	}
}

// meanwhile announces how the service is while its binary is being acquired,
// and cancels that when it, or this version of it, is no longer wanted.
func (l *Lifecycle) meanwhile(ctx context.Context, want binary.Spec, cancel context.CancelFunc) {
	spec, status, err := l.host.Supervisor.Get(ctx, l.unit)
	if err != nil {
		return
	}
	if version := spec.Tags[tagVersion]; status.Wanted != WantStart || version != "" && version != want.Version {
		cancel()
		return
	}
	if status.Alive() && l.last != nil {
		l.complain(l.announce(ctx, l.assess(ctx, l.service, spec, status, l.last.State, nil), status))
	}
}

// assess derives the state of the service, which was last in another, from the
// supervisor, a proof, and the trouble there was with the next step.
func (l *Lifecycle) assess(ctx context.Context, service Service, spec ServiceSpec, status ServiceStatus, last string, trouble error) events.ServiceState {
	state := events.ServiceState{Version: spec.Version}
	served := last == events.StateReady || last == events.StateDegraded
	if status.Alive() {
		ctx, cancel := context.WithTimeout(ctx, proving)
		defer cancel()
		proof := service.Prove(ctx, l.instance(spec), status)
		state.URL, state.BackendURL = proof.URL, proof.BackendURL
		state.Participants, state.Checks = proof.Participants, proof.Checks
		if err := proof.Err(); err != nil {
			state.Reason = err.Error()
		}
	}
	for _, a := range status.Actions {
		if !a.Ready && a.Why != "" {
			state.Reason = a.Name + ": " + a.Why
			break
		}
	}
	all := status.Ready || status.Wanted == WantIgnore && !slices.ContainsFunc(status.Actions, func(a ActionStatus) bool { return !a.Ready })
	switch {
	case status.Alive() && (status.Wanted == WantStop || stopping(status)):
		state.State, state.Reason = events.StateDraining, "asked to stop"
	case status.Wanted != WantStart && !status.Alive():
		state.State, state.Reason = events.StateStopped, "not wanted"
	case all && state.Reason == "" && len(spec.Actions) > 0:
		state.State = events.StateReady
		if trouble != nil {
			state.Reason = "goes on as it was: " + trouble.Error()
		}
	case trouble != nil && (!status.Alive() || !served):
		state.State, state.Reason = events.StateFailed, trouble.Error()
	case slices.ContainsFunc(status.Actions, func(a ActionStatus) bool { return a.State == Failed }):
		state.State = events.StateFailed
	case served:
		state.State = events.StateDegraded
	default:
		state.State = events.StateConfigured
	}
	return state
}
