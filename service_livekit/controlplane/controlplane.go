// Package controlplane is hero_livekit_server: it learns from events when the
// media change, looks before it says how they are, and asks for them by an
// event.
//
// It starts no process and ends none, so restarting it touches no call. It
// keeps nothing: killed and started again it learns the last state from the
// bus.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/creachadair/jrpc2"
	"golang.org/x/sync/errgroup"
)

// Name is the control plane's name: of its socket and under the supervisor.
const Name = "hero_livekit_server"

// The media that it is the control plane of.
const (
	service = "livekit"
	noun    = "media"
)

// The time that ensure_ready waits.
const (
	defaultWait = 10 * time.Minute
	maxWait     = time.Hour
)

// Config is what the control plane needs.
type Config struct {
	Paths   plugin.Paths
	Version string
	Node    string // of the bus
	Bus     events.Bus
	Log     *slog.Logger
	// Look says how the media are at this moment, from the supervisor and a
	// probe: what was announced may not be true any more.
	Look func(context.Context) (events.ServiceState, error)
}

// Status is the result of LiveKitService.status and .ensure_ready.
type Status struct {
	events.ServiceState
	Ready bool `json:"ready"`
}

type server struct {
	Config

	mu         sync.Mutex
	state      events.ServiceState
	changed    chan struct{} // closed when state changes
	subscribed bool
}

// Run serves until ctx ends. ready, when set, is called once the socket
// answers; /health there says whether the bus is followed. While another
// instance lives, the error is an [*rpc.OwnedError].
func Run(ctx context.Context, c Config, ready func()) error {
	s := &server{Config: c, state: events.ServiceState{State: events.StateUnknown}, changed: make(chan struct{})}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return rpc.Service{
			Name: Name, Version: c.Version, Health: s.health,
			Methods: map[string]rpc.Method{
				"LiveKitService.status":       rpc.Func("Says how the media are at this moment.", s.status),
				"LiveKitService.ensure_ready": rpc.Func("Asks for the media and waits until they are ready.", s.ensureReady),
			},
		}.Serve(ctx, c.Paths.Socket(Name), ready)
	})
	group.Go(func() error { return s.follow(ctx) })
	return group.Wait()
}

// follow keeps the state as it was last announced.
func (s *server) follow(ctx context.Context) error {
	sub := events.Subscription{Types: plugin.StateTypes(noun), From: events.FromLast, Ready: func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.subscribed = true
	}}
	err := s.Bus.Subscribe(ctx, sub, s.note)
	if err == nil && ctx.Err() == nil {
		return errors.New("subscription to the media ended by itself")
	}
	return err
}

// note takes the announcement of a state, unless it is older than what is known.
func (s *server) note(_ context.Context, e events.Event) error {
	if e.Subject() != service {
		return nil
	}
	state, err := events.Data[events.ServiceState](e)
	if err != nil {
		return fmt.Errorf("%w: %w", events.ErrReject, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if state.Revision <= s.state.Revision {
		return nil
	}
	s.Log.Info("media", "state", state.State, "revision", state.Revision, "reason", state.Reason)
	s.state = state
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *server) health(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.subscribed {
		return errors.New("the bus is not followed yet: is it up?")
	}
	return nil
}

// now is the state, and a channel that is closed when it changes.
func (s *server) now() (events.ServiceState, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.changed
}

// lookTime is how long a look at the media may take.
const lookTime = 4 * time.Second

// status looks at the media. Where that cannot be done they are not ready,
// whatever was announced.
func (s *server) status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	state, err := s.Look(ctx)
	if err != nil {
		state, _ = s.now()
		state.Reason = "cannot be looked at: " + err.Error()
		return Status{state, false}
	}
	return Status{state, state.State == events.StateReady}
}

type ensureReadyParams struct {
	TimeoutMS int `json:"timeout_ms,omitempty"` // default ten minutes, at most an hour
}

// ensureReady asks for the media, unless they are ready, and waits until they
// are or have failed.
func (s *server) ensureReady(ctx context.Context, p ensureReadyParams) (Status, error) {
	wait := defaultWait
	if p.TimeoutMS != 0 {
		wait = time.Duration(p.TimeoutMS) * time.Millisecond
	}
	if wait <= 0 || wait > maxWait {
		return Status{}, jrpc2.Errorf(jrpc2.InvalidParams, "timeout_ms: expected 1 to %d", maxWait.Milliseconds())
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	before, changed := s.now()
	now := s.status(ctx)
	if now.Ready {
		return now, nil
	}
	if err := s.request(ctx, wait); err != nil {
		return now, err
	}
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return now, fmt.Errorf("the media are not ready after %s: they are %s: %s", wait, now.State, now.Reason)
		}
		var announced events.ServiceState
		announced, changed = s.now()
		if now = s.status(ctx); now.Ready {
			return now, nil
		}
		if announced.State == events.StateFailed && announced.Revision > before.Revision {
			return Status{announced, false}, fmt.Errorf("the media failed: %s", announced.Reason)
		}
	}
}

func (s *server) request(ctx context.Context, wait time.Duration) error {
	e, err := events.New(events.StartRequested, "/lab/"+s.Node+"/"+Name, service, events.Request{Service: service, Reason: "ensure_ready"})
	if err != nil {
		return err
	}
	e.SetExtension("expirytime", time.Now().Add(wait).UTC().Format(time.RFC3339Nano))
	return s.Bus.Publish(ctx, e)
}
