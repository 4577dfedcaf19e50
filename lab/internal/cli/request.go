package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
)

// stater is a plugin that can say, from the supervisor and a probe, how its
// service is now.
type stater interface {
	plugin.Plugin
	Noun() string
	State(ctx context.Context) (events.ServiceState, error)
	Done(ctx context.Context, restart events.Event) (bool, error)
}

// quiet is a logger for libraries under a command that tells people itself.
func (a *App) quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// view makes the named plugin as one who only looks.
func (a *App) view(bus events.Bus, client *procclient.Client, name string) (stater, error) {
	paths, err := a.Paths()
	if err != nil {
		return nil, err
	}
	host := plugin.Host{
		Paths: paths, Node: paths.Node(), Lab: executable(paths), Bus: bus,
		Supervisor: client, Secrets: client, Log: a.quiet(),
	}
	for _, factory := range a.Plugins {
		if factory.Name != name {
			continue
		}
		p, err := factory.New(host, a.settingsOf(paths, name))
		if err != nil {
			return nil, err
		}
		if s, ok := p.(stater); ok {
			return s, nil
		}
		return nil, fmt.Errorf("%s has no state to look at", name)
	}
	return nil, fmt.Errorf("no service %q", name)
}

// Look returns what says how the named service is at this moment.
func (a *App) Look(bus events.Bus, name string) (func(context.Context) (events.ServiceState, error), error) {
	client, _, err := a.Supervisor()
	if err != nil {
		return nil, err
	}
	view, err := a.view(bus, client, name)
	if err != nil {
		return nil, err
	}
	return view.State, nil
}

// request publishes the request, tells what happens, and returns when the
// service is what was asked for, or has failed.
func (a *App) request(ctx context.Context, bus events.Bus, view stater, typ string, req events.Request) (events.ServiceState, error) {
	paths, err := a.Paths()
	if err != nil {
		return events.ServiceState{}, err
	}
	e, err := events.New(typ, "/lab/"+paths.Node()+"/command", req.Service, req)
	if err != nil {
		return events.ServiceState{}, err
	}
	if deadline, ok := ctx.Deadline(); ok { // who asked has given up by then
		e.SetExtension("expirytime", deadline.UTC().Format(time.RFC3339Nano))
	}
	f := &follower{app: a, view: view, request: e, typ: typ, answers: make(chan events.ServiceState, 64)}
	stop, err := f.follow(ctx, bus)
	if err != nil {
		return events.ServiceState{}, err
	}
	defer stop()
	if err := bus.Publish(ctx, e); err != nil {
		return events.ServiceState{}, err
	}
	return f.await(ctx)
}

// follower tells of what happens to a service until its request is answered.
type follower struct {
	app     *App
	view    stater
	request events.Event
	typ     string // of the request
	bar     bar
	said    string
	answers chan events.ServiceState
}

// follow subscribes to the events that concern the service. After stop nothing
// more is told.
func (f *follower) follow(ctx context.Context, bus events.Bus) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	subscribed, ended := make(chan struct{}), make(chan error, 1)
	sub := events.Subscription{
		Types: append(plugin.StateTypes(f.view.Noun()), events.AcquireProgressed, events.Acquired),
		Ready: sync.OnceFunc(func() { close(subscribed) }),
	}
	go func() { ended <- bus.Subscribe(ctx, sub, f.handle) }()
	select {
	case <-subscribed:
		return func() { cancel(); <-ended; f.bar.done() }, nil
	case err = <-ended:
	case <-ctx.Done():
		<-ended
		err = context.Cause(ctx)
	}
	cancel()
	return nil, err
}

// handle tells of one event.
func (f *follower) handle(ctx context.Context, e events.Event) error {
	if e.Subject() != f.view.Name() {
		return nil
	}
	switch e.Type() {
	case events.AcquireProgressed:
		if p, err := events.Data[events.AcquireProgress](e); err == nil {
			f.bar.show(f.app.talk(), p)
		}
	case events.Acquired:
		if got, err := events.Data[events.Acquisition](e); err == nil {
			f.bar.done()
			f.say(describe(got))
		}
	default:
		state, err := events.Data[events.ServiceState](e)
		if err != nil {
			return nil // a newer version's; the next look tells
		}
		if state.State != events.StateReady && state.State != events.StateFailed {
			f.say(fmt.Sprintf("%-20s %s", f.view.Name(), stateLine(state)))
		}
		if events.Extension(e, "causationid") == f.request.ID() {
			select {
			case f.answers <- state:
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// say tells what was not just told.
func (f *follower) say(line string) {
	if line != f.said {
		f.bar.done()
		f.app.Say("%s", line)
		f.said = line
	}
}

func describe(got events.Acquisition) string {
	if got.Cached {
		return fmt.Sprintf("%-20s %s is in the store, verified", got.Binary, got.Version)
	}
	return fmt.Sprintf("%-20s %s acquired by %s, %.0f MB, %.19s…", got.Binary, got.Version, got.Source, float64(got.Bytes)/1e6, got.Digest)
}

func stateLine(state events.ServiceState) string {
	switch {
	case state.State == events.StateDraining:
		return fmt.Sprintf("draining, %d participants", state.Participants)
	case state.Reason != "":
		return state.State + ": " + state.Reason
	}
	return state.State
}

// await returns with the answer. An answer that got lost, as when a host died
// over it, is found by looking from time to time.
func (f *follower) await(ctx context.Context) (events.ServiceState, error) {
	var state events.ServiceState
	for {
		select {
		case <-ctx.Done():
			return state, fmt.Errorf("%w: %s is %s", context.Cause(ctx), f.view.Name(), stateLine(state))
		case state = <-f.answers:
			if state.State == events.StateFailed {
				return state, hinted(fmt.Errorf("%s failed: %s", f.view.Name(), state.Reason), "lab status shows the rest; mend it, then: lab service %s --start", f.view.Name())
			}
			if state.State == f.wanted() {
				return state, f.undone(ctx, state)
			}
		case <-time.After(2 * time.Second):
			now, err := f.view.State(ctx)
			if rpc.IsDown(err) {
				return state, errors.New("hero_proc was stopped meanwhile")
			}
			if err != nil {
				continue // it is the deadline that decides
			}
			if state = now; state.State != f.wanted() {
				continue
			}
			if f.typ != events.RestartRequested {
				return state, nil
			}
			if done, err := f.view.Done(ctx, f.request); done || errors.Is(err, plugin.ErrGivenUp) {
				return state, f.undone(ctx, state)
			}
		}
	}
}

// undone is the error where a restart was asked for and was not carried out.
func (f *follower) undone(ctx context.Context, state events.ServiceState) error {
	if f.typ != events.RestartRequested {
		return nil
	}
	_, err := f.view.Done(ctx, f.request)
	if !errors.Is(err, plugin.ErrGivenUp) {
		return err
	}
	reason := cmp.Or(state.Reason, err.Error())
	return hinted(fmt.Errorf("%s was not restarted: it %s", f.view.Name(), strings.TrimPrefix(reason, "it ")), "mend that, and restart it again")
}

func (f *follower) wanted() string {
	if f.typ == events.StopRequested {
		return events.StateStopped
	}
	return events.StateReady
}
