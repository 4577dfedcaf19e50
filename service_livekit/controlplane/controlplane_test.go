package controlplane_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/events/eventstest"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"forge.ourworld.tf/lhumina_code/lab/service_livekit/controlplane"
	"github.com/matryer/is"
)

// plane is a control plane on a bus in memory.
type plane struct {
	t      *testing.T
	config controlplane.Config
	client *rpc.Client
	stop   func()
}

func newPlane(t *testing.T) *plane {
	root := t.TempDir()
	paths := plugin.Paths{Root: root, Sockets: root}
	p := &plane{t: t, client: rpc.NewClient(paths.Socket(controlplane.Name), 0), config: controlplane.Config{
		Paths: paths, Version: "test", Node: "test", Bus: eventstest.NewBus(), Log: slog.New(slog.DiscardHandler),
	}}
	p.config.Look = func(ctx context.Context) (events.ServiceState, error) {
		return plugin.LastState(ctx, p.config.Bus, "media", "livekit")
	}
	return p
}

// start runs it until the test ends or stop is called, and returns once it
// follows the bus.
func (p *plane) start() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- controlplane.Run(ctx, p.config, nil) }()
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("run: %v", err)
		}
	}
	p.t.Cleanup(func() { p.stop() })
	healthy := ready.Probe{Hero: p.config.Paths.Socket(controlplane.Name)}
	wait, end := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer end()
	if err := ready.Wait(wait, time.Millisecond, func(ctx context.Context) error { return healthy.Check(ctx, ready.Process{}) }); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plane) announce(state string, revision uint64) {
	p.t.Helper()
	e, err := events.New(events.StateType("media", state), "/test", "livekit", events.ServiceState{State: state, Revision: revision, URL: "ws://here"})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.config.Bus.Publish(p.t.Context(), e); err != nil {
		p.t.Fatal(err)
	}
}

// awaitRevision returns the status once it has that revision.
func (p *plane) awaitRevision(revision uint64) controlplane.Status {
	p.t.Helper()
	var status controlplane.Status
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	err := ready.Wait(ctx, time.Millisecond, func(ctx context.Context) error {
		if err := p.client.Call(ctx, "LiveKitService.status", nil, &status); err != nil {
			return err
		}
		if status.Revision != revision {
			return errors.New("another revision")
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return status
}

func TestStatusIsTheLastState(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := newPlane(t)
	p.announce(events.StateDegraded, 1)
	p.announce(events.StateReady, 2)
	p.start() // it learns what was said before it was there
	is.True(p.awaitRevision(2).Ready)
	p.announce(events.StateFailed, 1) // late, and older than what is known
	p.announce(events.StateDegraded, 3)
	is.True(!p.awaitRevision(3).Ready)
	p.stop()
	p.start() // killed and started again it knows the same
	is.Equal(p.awaitRevision(3).State, events.StateDegraded)
}

func TestEnsureReadyAsksAndWaits(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := newPlane(t)
	p.start()
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		sub := events.Subscription{Types: []string{events.StartRequested}, From: events.FromAll}
		asked <- p.config.Bus.Subscribe(ctx, sub, func(_ context.Context, e events.Event) error {
			if e.Subject() == "livekit" && !events.Expired(e, time.Now()) {
				p.announce(events.StateConfigured, 1)
				p.announce(events.StateReady, 2)
			}
			return nil
		})
	}()
	defer func() { cancel(); <-asked }()
	var status controlplane.Status
	is.NoErr(p.client.Call(t.Context(), "LiveKitService.ensure_ready", map[string]int{"timeout_ms": 10_000}, &status))
	is.True(status.Ready)
	is.Equal(status.URL, "ws://here")
}

func TestEnsureReadyEndsWithTheReason(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := newPlane(t)
	p.announce(events.StateConfigured, 1)
	p.start()
	p.awaitRevision(1)
	err := p.client.Call(t.Context(), "LiveKitService.ensure_ready", map[string]int{"timeout_ms": 20}, nil)
	is.True(err != nil && strings.Contains(err.Error(), "configured")) // what they are instead
	err = p.client.Call(t.Context(), "LiveKitService.ensure_ready", map[string]int{"timeout_ms": -1}, nil)
	is.True(err != nil && strings.Contains(err.Error(), "timeout_ms"))
}

func TestSecondInstanceRefuses(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := newPlane(t)
	p.start()
	var owned *rpc.OwnedError
	is.True(errors.As(controlplane.Run(t.Context(), p.config, nil), &owned))
	p.awaitRevision(0) // the first one still serves
}

// TestWhatWasAnnouncedIsNotBelieved has the media go without a word.
func TestWhatWasAnnouncedIsNotBelieved(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := newPlane(t)
	var gone atomic.Bool
	announced := p.config.Look
	p.config.Look = func(ctx context.Context) (events.ServiceState, error) {
		if gone.Load() {
			return events.ServiceState{}, errors.New("nobody answers")
		}
		return announced(ctx)
	}
	p.announce(events.StateReady, 1)
	p.start()
	is.True(p.awaitRevision(1).Ready)
	gone.Store(true)
	status := p.awaitRevision(1)
	is.True(!status.Ready)
	is.Equal(status.Reason, "cannot be looked at: nobody answers")
}
