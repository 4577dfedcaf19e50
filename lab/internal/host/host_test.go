package host_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/host"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/plugintest"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/matryer/is"
)

// listener is a plugin that passes on what it is handed.
type listener struct {
	got chan events.Event
}

func (*listener) Name() string { return "echo" }
func (*listener) Unit() string { return "hero_echo" }

func (l *listener) Handle(ctx context.Context, e events.Event) error {
	select {
	case l.got <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (*listener) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// await returns the next event of the type.
func (l *listener) await(t *testing.T, typ string) events.Event {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case e := <-l.got:
			if e.Type() == typ {
				return e
			}
		case <-deadline:
			t.Fatalf("no event %s came", typ)
		}
	}
}

// history is a [host.Watcher] of changes that have been.
type history struct {
	mu    sync.Mutex
	after []int64 // where each watch began
	told  int64   // positions up to this one exist
}

func (h *history) Watch(ctx context.Context, after int64, each func(int64, time.Time, events.JobState) error) error {
	h.mu.Lock()
	h.after = append(h.after, after)
	told := h.told
	h.mu.Unlock()
	for seq := max(after, 0) + 1; seq <= told; seq++ {
		if err := each(seq, time.Now(), events.JobState{Service: "hero_echo", Action: "server", From: "running", To: "failed"}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// lab is a host that runs until the test ends.
type lab struct {
	*plugintest.Host
	plugin  *listener
	history *history
	stop    func()
}

func newLab(t *testing.T) *lab {
	return &lab{Host: plugintest.NewHost(t), plugin: &listener{got: make(chan events.Event, 100)}, history: &history{told: 2}}
}

func (l *lab) start(t *testing.T) {
	t.Helper()
	h := &host.Host{Host: l.Host.Host, Version: "test", Plugins: []plugin.Plugin{l.plugin}, Watcher: l.history}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, nil) }()
	stopped := false
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run host: %v", err)
		}
	}
	t.Cleanup(func() { l.stop() })
	healthy := ready.Probe{Hero: l.Paths.Socket(host.Name)}
	wait, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	if err := ready.Wait(wait, time.Millisecond, func(ctx context.Context) error { return healthy.Check(ctx, ready.Process{}) }); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) publish(t *testing.T, typ, subject string) {
	t.Helper()
	e, err := events.New(typ, "/test", subject, events.Request{Service: subject})
	if err == nil {
		err = l.Bus.Publish(t.Context(), e)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestRequestsReachThePluginTheyAreMeantFor(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := newLab(t)
	l.start(t)
	l.publish(t, events.StartRequested, "nobody") // is rejected, and blocks nothing
	l.publish(t, events.StartRequested, "echo")
	is.Equal(l.plugin.await(t, events.StartRequested).Subject(), "echo")
	l.stop()
	l.publish(t, events.StopRequested, "echo") // while no host is there
	l.start(t)
	l.plugin.await(t, events.StopRequested)
}

func TestJobsAreToldOnceAndFromWhereTheLastHostStopped(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := newLab(t)
	l.history.told = 0
	l.start(t)
	l.stop()
	l.history.told = 2 // happened while no host was there
	l.start(t)
	l.awaitTold(t, "2")
	l.stop()
	l.history.told = 3
	l.start(t)
	l.awaitTold(t, "3")
	l.stop()
	is.Equal(l.history.after, []int64{-1, -1, 2})
}

// awaitTold waits until the change at that position is on the bus.
func (l *lab) awaitTold(t *testing.T, seq string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := ready.Wait(ctx, time.Millisecond, func(ctx context.Context) error {
		told, err := l.Bus.Last(ctx, events.JobStateChanged)
		if err != nil {
			return err
		}
		if len(told) != 1 || events.Extension(told[0], "sequence") != seq || events.Entity(told[0]) != "hero_echo/server" {
			return errors.New("not told yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSecondHostRefuses(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := newLab(t)
	l.start(t)
	second := &host.Host{Host: l.Host.Host, Watcher: l.history}
	var owned *rpc.OwnedError
	is.True(errors.As(second.Run(t.Context(), nil), &owned))
}
