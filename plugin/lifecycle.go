package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
)

// How often a lifecycle looks again when no event makes it look sooner.
const (
	steady   = time.Second            // nothing is expected to change
	changing = 150 * time.Millisecond // on its way up or down
	proving  = 3 * time.Second        // at most for one proof
)

// The tags by which a lifecycle keeps what is asked of it in the registration.
const (
	tagVersion  = "version"  // of the binary, where one was named
	tagAsked    = "asked"    // when the last request was made, RFC 3339
	tagRestart  = "restart"  // ID of the last restart request
	tagDone     = "done"     // ID of the last restart request that was carried out
	tagFailed   = "failed"   // ID of the last restart request that could not be
	tagRevision = "revision" // of the state announced last
)

// BySettings as the version in a request means the version in the settings,
// whatever was asked for before.
const BySettings = "settings"

// Lifecycle is the plugin that brings one service up, keeps its announced
// state true, and takes requests for it.
type Lifecycle struct {
	host     Host
	name     string
	unit     string
	noun     string
	describe func() (Service, error)
	log      *slog.Logger
	wake     chan struct{}

	mu    sync.Mutex
	cause *events.Event // the request that was recorded last
	again bool          // what failed is tried again at once

	registration sync.Mutex // held from reading the registration to replacing it

	// Only Run's goroutine touches what follows.
	service   Service
	installed binary.Installed
	failure   failure
	last      *events.ServiceState // as announced; nil: not yet read from the bus
	answering *events.Event        // the request that announcements answer
	answered  string               // ID of the last request that was answered
	complaint string               // logged last, so that a lasting trouble is logged once
}

var _ Plugin = (*Lifecycle)(nil)

// NewLifecycle returns the plugin that runs the service. It is described anew,
// by describe, whenever it is about to be registered, so that changed settings
// take effect at its next start; its names stay those of service.
func NewLifecycle(host Host, service Service, describe func() (Service, error)) *Lifecycle {
	return &Lifecycle{
		host: host, service: service, describe: describe,
		name: service.Name, unit: service.Unit, noun: service.Noun,
		log:  host.Log.With("service", service.Name),
		wake: make(chan struct{}, 1),
	}
}

// Name is the service's name.
func (l *Lifecycle) Name() string { return l.name }

// Unit is the service's name under the supervisor.
func (l *Lifecycle) Unit() string { return l.unit }

// Noun is the noun of the events that announce the service's states.
func (l *Lifecycle) Noun() string { return l.noun }

// State says how the service is at this moment, from the supervisor and a
// probe. Since and Revision are those of the announcement of that state, and
// what only the host can know, such as why the binary was not to be had, is
// taken from the last announcement.
func (l *Lifecycle) State(ctx context.Context) (events.ServiceState, error) {
	last, busErr := LastState(ctx, l.host.Bus, l.noun, l.name)
	spec, status, err := l.host.Supervisor.Get(ctx, l.unit)
	if errors.Is(err, ErrNotFound) {
		return last, busErr
	}
	if err != nil {
		return last, err
	}
	state := l.assess(ctx, l.service, spec, status, last.State, nil)
	if state.State == events.StateConfigured && !status.Alive() && last.State == events.StateFailed {
		return last, nil
	}
	if status.Wanted == WantStart && len(spec.Actions) == 0 {
		state.Reason = l.acquiring(ctx)
	}
	state.Revision = last.Revision
	if state.State == last.State {
		state.Since = last.Since
	}
	return state, nil
}

// acquiring says how far the binary of a service that is not registered yet is.
func (l *Lifecycle) acquiring(ctx context.Context) string {
	found, err := l.host.Bus.Last(ctx, events.AcquireProgressed)
	if err != nil {
		return ""
	}
	for _, e := range found {
		if p, err := events.Data[events.AcquireProgress](e); err == nil && e.Subject() == l.name {
			return fmt.Sprintf("acquiring %s %s by %s: %s %s", p.Binary, p.Version, p.Source, p.Step, p.Detail)
		}
	}
	return "its binary is being acquired"
}

// ErrGivenUp says that a restart was not carried out: the service cannot be
// brought up as its settings want it, and goes on as it was.
var ErrGivenUp = errors.New("it goes on as it was")

// Done reports whether the restart that the event asked for was carried out, be
// it together with a later one.
func (l *Lifecycle) Done(ctx context.Context, restart events.Event) (bool, error) {
	spec, _, err := l.host.Supervisor.Get(ctx, l.unit)
	switch {
	case err != nil:
		return false, err
	case spec.Tags[tagFailed] == restart.ID():
		return false, ErrGivenUp
	case spec.Tags[tagDone] == restart.ID():
		return true, nil
	}
	asked, _ := time.Parse(time.RFC3339Nano, spec.Tags[tagAsked]) // else long ago
	return spec.Tags[tagRestart] == spec.Tags[tagDone] && asked.After(restart.Time()), nil
}

// Handle records what a request wants with the supervisor and wakes Run. Any
// other event only wakes it.
func (l *Lifecycle) Handle(ctx context.Context, e events.Event) error {
	defer l.look()
	switch e.Type() {
	case events.StartRequested, events.StopRequested, events.RestartRequested, events.UpgradeRequested:
	default:
		return nil
	}
	if events.Expired(e, time.Now()) {
		l.log.Warn("request has expired", "type", e.Type(), "id", e.ID())
		return nil
	}
	req, err := events.Data[events.Request](e)
	if err != nil {
		return fmt.Errorf("%w: %w", events.ErrReject, err)
	}
	if err := l.record(ctx, e, req); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cause, l.again = &e, true
	return nil
}

// record has the supervisor keep what the request wants, unless a later one was
// recorded: requests that are delivered again, or late, change nothing.
func (l *Lifecycle) record(ctx context.Context, e events.Event, req events.Request) error {
	if e.Type() == events.StopRequested {
		_, _, err := l.host.Supervisor.Get(ctx, l.unit)
		if errors.Is(err, ErrNotFound) {
			return nil // there is nothing to stop
		}
	}
	err := l.update(ctx, func(spec *ServiceSpec, status ServiceStatus) error {
		if overtaken(*spec, e, time.Now()) {
			return errOvertaken
		}
		setTag(spec, tagAsked, e.Time().UTC().Format(time.RFC3339Nano))
		if req.Version == BySettings {
			delete(spec.Tags, tagVersion)
		} else {
			setTag(spec, tagVersion, req.Version)
		}
		if e.Type() == events.RestartRequested || e.Type() == events.UpgradeRequested {
			setTag(spec, tagRestart, e.ID())
			if !status.Alive() { // nothing to restart: starting it does
				setTag(spec, tagDone, e.ID())
			}
		}
		return nil
	})
	if errors.Is(err, errOvertaken) {
		l.log.Info("a later request has been taken", "type", e.Type(), "id", e.ID())
		return nil
	}
	if err != nil {
		return err
	}
	if e.Type() == events.StopRequested {
		return l.host.Supervisor.Stop(ctx, l.unit, req.Force)
	}
	return l.host.Supervisor.Start(ctx, l.unit)
}

var errOvertaken = errors.New("a later request was recorded")

// overtaken reports whether a request that was made after e has been recorded.
// What was made in the future was made before the clock was set back.
func overtaken(spec ServiceSpec, e events.Event, now time.Time) bool {
	asked, err := time.Parse(time.RFC3339Nano, spec.Tags[tagAsked])
	return err == nil && e.Time().Before(asked) && !asked.After(now)
}

// update changes the registration by edit, making one where there is none. No
// other update of this lifecycle comes in between, and what edit leaves as it
// was is not written.
func (l *Lifecycle) update(ctx context.Context, edit func(*ServiceSpec, ServiceStatus) error) error {
	l.registration.Lock()
	defer l.registration.Unlock()
	old, status, err := l.host.Supervisor.Get(ctx, l.unit)
	fresh := errors.Is(err, ErrNotFound)
	if err != nil && !fresh {
		return err
	}
	spec := old
	spec.Tags = maps.Clone(old.Tags)
	if fresh {
		spec = ServiceSpec{Name: l.unit}
	}
	if err := edit(&spec, status); err != nil {
		return err
	}
	if !fresh && old.Equal(spec) {
		return nil
	}
	return l.host.Supervisor.Set(ctx, spec)
}

// setTag notes value under the tag; an empty value leaves what is there.
func setTag(spec *ServiceSpec, tag, value string) {
	if value == "" {
		return
	}
	if spec.Tags == nil {
		spec.Tags = map[string]string{}
	}
	spec.Tags[tag] = value
}

// Run moves the service toward what is wanted until ctx ends.
func (l *Lifecycle) Run(ctx context.Context) error {
	for {
		pause, err := l.reconcile(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l.complain(err)
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-time.After(pause):
		}
	}
}

// look makes Run reconcile now.
func (l *Lifecycle) look() {
	select {
	case l.wake <- struct{}{}:
	default: // it is going to
	}
}

// complain logs err unless it said the same the last time.
func (l *Lifecycle) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != l.complaint && text != "" {
		l.log.Error("reconcile", "error", text)
	}
	l.complaint = text
}
