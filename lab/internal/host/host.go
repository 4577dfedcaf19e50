// Package host runs plugins: it hands them the requests and job events that
// concern them, and turns what the supervisor sees into events.
//
// A host keeps nothing that matters in memory. It may be killed at any moment;
// its successor goes on from the positions on the bus and from what the
// supervisor says. What it runs is not its child and does not notice.
package host

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"golang.org/x/sync/errgroup"
)

// Name is the host's name under the supervisor and of its socket.
const Name = "lab_host"

// pause is how long a part of the host that failed waits before it tries again.
const pause = 500 * time.Millisecond

// Watcher streams what the supervisor sees: changes of state after the position
// given, each with its own position.
type Watcher interface {
	Watch(ctx context.Context, after int64, each func(seq int64, at time.Time, change events.JobState) error) error
}

// Host runs plugins.
type Host struct {
	plugin.Host
	Version string
	Plugins []plugin.Plugin
	Watcher Watcher

	subscribed atomic.Int32 // subscriptions in force
}

// subscriptions is how many of them a healthy host has.
const subscriptions = 2

// Run runs the plugins until ctx ends. ready, when set, is called once the
// host answers on its socket; /health there says when it has its subscriptions.
func (h *Host) Run(ctx context.Context, ready func()) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		service := rpc.Service{Name: Name, Version: h.Version, Health: h.health}
		return service.Serve(ctx, h.Paths.Socket(Name), ready)
	})
	group.Go(func() error { return h.again(ctx, "announce the start", h.announceStart) })
	group.Go(func() error { return h.again(ctx, "take requests", h.takeRequests) })
	group.Go(func() error { return h.again(ctx, "watch jobs", h.watchJobs) })
	group.Go(func() error { return h.again(ctx, "tell of jobs", h.tellOfJobs) })
	for _, p := range h.Plugins {
		group.Go(func() error {
			if err := p.Run(ctx); err != nil {
				return fmt.Errorf("run plugin %s: %w", p.Name(), err)
			}
			return nil
		})
	}
	err := group.Wait()
	h.announceStop(context.WithoutCancel(ctx))
	return err
}

// again repeats work until it ends without an error or ctx ends.
func (h *Host) again(ctx context.Context, what string, work func(context.Context) error) error {
	said := ""
	for {
		err := work(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if text := err.Error(); text != said {
			h.Log.Warn("try again", "work", what, "error", text)
			said = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (h *Host) health(context.Context) error {
	if n := h.subscribed.Load(); n < subscriptions {
		return fmt.Errorf("%d of %d subscriptions are in force: is the bus up?", n, subscriptions)
	}
	return nil
}

// takeRequests hands each request to the plugin it is meant for.
func (h *Host) takeRequests(ctx context.Context) error {
	return h.subscribe(ctx, events.Subscription{
		Name: Name,
		Types: []string{
			events.StartRequested, events.StopRequested, events.RestartRequested, events.UpgradeRequested,
		},
	}, func(ctx context.Context, e events.Event) error {
		for _, p := range h.Plugins {
			if p.Name() == e.Subject() {
				return p.Handle(ctx, e)
			}
		}
		h.Log.Warn("no plugin takes the request", "type", e.Type(), "subject", e.Subject())
		return fmt.Errorf("%w: no service %q", events.ErrReject, e.Subject())
	})
}

// watchJobs wakes the plugin whose service a job belongs to.
func (h *Host) watchJobs(ctx context.Context) error {
	return h.subscribe(ctx, events.Subscription{Types: []string{events.JobStateChanged}},
		func(ctx context.Context, e events.Event) error {
			for _, p := range h.Plugins {
				if p.Unit() == e.Subject() {
					return p.Handle(ctx, e)
				}
			}
			return nil
		})
}

func (h *Host) subscribe(ctx context.Context, sub events.Subscription, handle events.Handler) error {
	inForce := false
	sub.Ready = func() {
		if !inForce {
			inForce = true
			h.subscribed.Add(1)
		}
	}
	defer func() {
		if inForce {
			h.subscribed.Add(-1)
		}
	}()
	err := h.Bus.Subscribe(ctx, sub, handle)
	if err == nil && ctx.Err() == nil {
		return errors.New("subscription ended by itself")
	}
	return err
}

// tellOfJobs publishes what the supervisor sees, from where the last host
// stopped.
func (h *Host) tellOfJobs(ctx context.Context) error {
	last, err := h.lastTold(ctx)
	if err != nil {
		return err
	}
	return h.Watcher.Watch(ctx, last, func(seq int64, at time.Time, change events.JobState) error {
		e, err := events.New(events.JobStateChanged, h.Source("hero_proc"), change.Service, change)
		if err != nil {
			return err
		}
		e.SetTime(at)
		e.SetID(fmt.Sprintf("job-%d-%d", seq, at.UnixNano())) // the same again is recognised
		e.SetExtension("partitionkey", change.Service+"/"+change.Action)
		e.SetExtension("sequence", strconv.FormatInt(seq, 10))
		return h.Bus.Publish(ctx, e)
	})
}

// lastTold is the position of the last change of state that is on the bus, -1
// when there is none: then only what comes is told.
func (h *Host) lastTold(ctx context.Context) (int64, error) {
	told, err := h.Bus.Last(ctx, events.JobStateChanged)
	if err != nil {
		return 0, err
	}
	last := int64(-1)
	for _, e := range told {
		if seq, err := strconv.ParseInt(events.Extension(e, "sequence"), 10, 64); err == nil {
			last = max(last, seq)
		}
	}
	return last, nil
}

func (h *Host) announceStart(ctx context.Context) error { return h.announce(ctx, events.LabStarted) }

// announceStop says that this host goes. Nobody depends on it, so it may fail.
func (h *Host) announceStop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := h.announce(ctx, events.LabStopping); err != nil {
		h.Log.Info("go without a word", "error", err)
	}
}

func (h *Host) announce(ctx context.Context, typ string) error {
	e, err := events.New(typ, h.Source("host"), Name, events.Lab{Node: h.Node, Version: h.Version})
	if err != nil {
		return err
	}
	return h.Bus.Publish(ctx, e)
}
