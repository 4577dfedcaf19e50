package plugin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
)

// states are all that a service can be announced to be.
var states = []string{
	events.StateConfigured, events.StateReady, events.StateDegraded,
	events.StateDraining, events.StateStopped, events.StateFailed,
}

// StateTypes returns the types of the events that announce a state of the noun.
func StateTypes(noun string) []string {
	types := make([]string, 0, len(states))
	for _, state := range states {
		types = append(types, events.StateType(noun, state))
	}
	return types
}

// LastState returns the state of the service that was announced last, with
// revision 0 and state unknown when there is none.
func LastState(ctx context.Context, bus events.Bus, noun, service string) (events.ServiceState, error) {
	last := events.ServiceState{State: events.StateUnknown}
	found, err := bus.Last(ctx, StateTypes(noun)...)
	if err != nil {
		return last, fmt.Errorf("read the last state of %s: %w", service, err)
	}
	for _, e := range found {
		state, err := events.Data[events.ServiceState](e)
		if err == nil && e.Subject() == service && state.Revision > last.Revision {
			last = state
		}
	}
	return last, nil
}

// announce publishes the state if it is not the one announced last. A process
// that was replaced since the service was last ready is a state of its own:
// subscribers learn of it however quickly it recovered.
func (l *Lifecycle) announce(ctx context.Context, state events.ServiceState, status ServiceStatus) error {
	if l.last == nil {
		last, err := LastState(ctx, l.host.Bus, l.noun, l.name)
		if err != nil {
			return err
		}
		l.last = &last
	}
	if l.last.State == events.StateReady && state.State == events.StateReady {
		if name := replacedSince(status, l.last.Since); name != "" {
			lost := state
			lost.State, lost.Reason = events.StateDegraded, name+" was replaced"
			if err := l.announceState(ctx, lost); err != nil {
				return err
			}
		}
	}
	if sameState(*l.last, state) && (l.answering == nil || l.answering.ID() == l.answered) {
		return nil
	}
	return l.announceState(ctx, state)
}

func sameState(a, b events.ServiceState) bool {
	return a.State == b.State && a.Reason == b.Reason && a.Version == b.Version &&
		a.URL == b.URL && a.BackendURL == b.BackendURL &&
		(a.State != events.StateDraining || a.Participants == b.Participants)
}

// replacedSince names an action whose process started after the moment.
func replacedSince(status ServiceStatus, moment time.Time) string {
	for _, a := range status.Actions {
		started, err := time.Parse(time.RFC3339Nano, a.StartedAt)
		if err == nil && a.Alive() && started.After(moment) {
			return a.Name
		}
	}
	return ""
}

// announceState publishes the state under the next revision. The supervisor
// keeps that too, before it is used: no two states have the same, whether one
// could be published or was lost with the bus.
func (l *Lifecycle) announceState(ctx context.Context, state events.ServiceState) error {
	err := l.update(ctx, func(spec *ServiceSpec, status ServiceStatus) error {
		kept, _ := strconv.ParseUint(spec.Tags[tagRevision], 10, 64) // none at first
		state.Revision = max(kept, l.last.Revision) + 1
		if status.Deleting {
			return nil // to keep something of it would keep it
		}
		setTag(spec, tagRevision, strconv.FormatUint(state.Revision, 10))
		return nil
	})
	if err != nil {
		return fmt.Errorf("count states: %w", err)
	}
	state.Since = l.last.Since
	if state.State != l.last.State {
		state.Since = time.Now()
	}
	if err := l.publish(ctx, events.StateType(l.noun, state.State), state); err != nil {
		return err
	}
	l.last = &state
	if l.answering != nil {
		l.answered = l.answering.ID()
	}
	l.log.Info("announced", "state", state.State, "revision", state.Revision, "reason", state.Reason)
	return nil
}

func (l *Lifecycle) announceRegistration(ctx context.Context) error {
	spec, _, err := l.host.Supervisor.Get(ctx, l.unit)
	if err != nil {
		return err
	}
	reg := events.Registration{Service: l.name, Unit: l.unit}
	for _, a := range spec.Actions {
		reg.Actions = append(reg.Actions, a.Name)
	}
	return l.publish(ctx, events.Registered, reg)
}

func (l *Lifecycle) announceAcquired(ctx context.Context, got binary.Installed) {
	l.report(ctx, events.Acquired, events.Acquisition{
		Binary: got.Name, Version: got.Version, Source: got.Source,
		Digest: got.Digest, Path: got.Path, Bytes: got.Bytes, Cached: got.Cached,
	})
}

func (l *Lifecycle) announceProgress(ctx context.Context, spec binary.Spec, p binary.Progress) {
	l.report(ctx, events.AcquireProgressed, events.AcquireProgress{
		Binary: spec.Name, Version: spec.Version, Source: p.Source, Step: p.Step,
		Bytes: p.Bytes, Total: p.Total, Detail: p.Detail,
	})
}

func (l *Lifecycle) announceFailure(ctx context.Context, spec binary.Spec, err error) {
	failed := events.AcquireFailure{Binary: spec.Name, Version: spec.Version, Message: err.Error()}
	var known *binary.Error
	if errors.As(err, &known) {
		failed.Class, failed.Message, failed.URL, failed.Hint = string(known.Class), known.Message, known.URL, known.Hint
	}
	l.report(ctx, events.AcquireFailed, failed)
}

// report publishes what only informs: that it cannot be published stops nothing.
func (l *Lifecycle) report(ctx context.Context, typ string, data any) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := l.publish(ctx, typ, data); err != nil {
		l.log.Warn("publish", "type", typ, "error", err)
	}
}

// publish says something about the service, as the answer to the last request.
func (l *Lifecycle) publish(ctx context.Context, typ string, data any) error {
	e, err := events.New(typ, l.host.Source("host"), l.name, data)
	if err != nil {
		return err
	}
	if l.answering != nil {
		events.Caused(&e, *l.answering)
	}
	return l.host.Bus.Publish(ctx, e)
}
