package plugintest

import (
	"context"
	"errors"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/matryer/is"
)

// patience is how long a plugin may take to do what is expected of it.
const patience = 10 * time.Second

// Service is a plugin that looks after one service.
type Service interface {
	plugin.Plugin
	Noun() string
	Done(ctx context.Context, restart events.Event) (bool, error)
}

// Run checks that the plugin that newPlugin returns behaves as one of a service:
// that it does what requests ask, once, and announces every state it is in.
func Run(t *testing.T, newPlugin func(plugin.Host) Service) {
	for name, test := range map[string]func(*testing.T, *run){
		"a start request brings the service up":           startBringsUp,
		"a start request again changes nothing":           startAgain,
		"a stop request stops it":                         stopStops,
		"a restart request is carried out once":           restartOnce,
		"a late request does not undo a later one":        lateIsDropped,
		"a restart that cannot be is given up":            restartGivenUp,
		"an expired request is dropped":                   expiredIsDropped,
		"a request with other data is rejected":           otherDataIsRejected,
		"a replaced process is announced":                 replacedIsAnnounced,
		"a failed acquisition is announced and retried":   acquisitionFails,
		"a failed action is announced, and mended starts": actionFails,
		"a new host goes on where the last one stopped":   newHostGoesOn,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := NewHost(t)
			r := &run{Host: host, make: newPlugin, changed: make(chan events.ServiceState, 100)}
			r.start(t)
			test(t, r)
		})
	}
}

// run is a plugin running in a host.
type run struct {
	*Host
	make    func(plugin.Host) Service
	plugin  Service
	changed chan events.ServiceState
	stop    func()
}

// start runs the plugin until the test ends or r.stop is called.
func (r *run) start(t *testing.T) {
	t.Helper()
	r.plugin = r.make(r.Host.Host)
	ctx, cancel := context.WithCancel(context.Background())
	subscribed, done := make(chan struct{}), make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		sub := events.Subscription{Types: plugin.StateTypes(r.plugin.Noun()), Ready: func() { close(subscribed) }}
		_ = r.Bus.Subscribe(ctx, sub, func(_ context.Context, e events.Event) error {
			state, err := events.Data[events.ServiceState](e)
			r.changed <- state
			return err
		})
	}()
	<-subscribed
	go func() {
		defer func() { done <- struct{}{} }()
		if err := r.plugin.Run(ctx); err != nil {
			t.Errorf("run plugin: %v", err)
		}
	}()
	stopped := false
	r.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
			<-done
		}
	}
	t.Cleanup(func() { r.stop() })
}

// request hands a request to the plugin and returns its ID.
func (r *run) request(t *testing.T, typ string) events.Event {
	t.Helper()
	e, err := events.New(typ, "/test", r.plugin.Name(), events.Request{Service: r.plugin.Name()})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.plugin.Handle(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return e
}

// await returns the next announcement of the state; the revisions up to it grow.
func (r *run) await(t *testing.T, state string) events.ServiceState {
	t.Helper()
	deadline := time.After(patience)
	last := uint64(0)
	for {
		select {
		case now := <-r.changed:
			if now.Revision <= last {
				t.Fatalf("revision %d came after %d", now.Revision, last)
			}
			last = now.Revision
			if now.State == state {
				return now
			}
		case <-deadline:
			t.Fatalf("it was not announced to be %s", state)
		}
	}
}

func (r *run) status(t *testing.T) plugin.ServiceStatus {
	t.Helper()
	_, status, err := r.Supervisor.Get(t.Context(), r.plugin.Unit())
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func startBringsUp(t *testing.T, r *run) {
	is := is.New(t)
	r.request(t, events.StartRequested)
	state := r.await(t, events.StateReady)
	is.True(r.status(t).Ready)
	is.True(state.Version != "")
	is.Equal(r.Binaries.Acquired(), 1)
}

func startAgain(t *testing.T, r *run) {
	is := is.New(t)
	r.request(t, events.StartRequested)
	r.await(t, events.StateReady)
	before := r.status(t)
	r.request(t, events.StartRequested)
	r.await(t, events.StateReady) // every request has its answer
	is.Equal(r.status(t), before)
	is.Equal(r.Binaries.Acquired(), 1)
}

func stopStops(t *testing.T, r *run) {
	is := is.New(t)
	r.request(t, events.StopRequested) // of what nobody ever started
	r.request(t, events.StartRequested)
	r.await(t, events.StateReady)
	r.request(t, events.StopRequested)
	r.await(t, events.StateStopped)
	is.True(!r.status(t).Alive())
}

func restartOnce(t *testing.T, r *run) {
	is := is.New(t)
	r.request(t, events.StartRequested)
	r.await(t, events.StateReady)
	asked := r.request(t, events.RestartRequested)
	r.await(t, events.StateReady)
	is.Equal(r.Supervisor.Restarts(), 1)
	is.NoErr(r.plugin.Handle(t.Context(), asked)) // the bus delivers at least once
	r.request(t, events.StartRequested)
	r.await(t, events.StateReady)
	is.Equal(r.Supervisor.Restarts(), 1)
}

func lateIsDropped(t *testing.T, r *run) {
	is := is.New(t)
	start := r.request(t, events.StartRequested)
	r.await(t, events.StateReady)
	stop := r.request(t, events.StopRequested)
	r.await(t, events.StateStopped)
	is.NoErr(r.plugin.Handle(t.Context(), start)) // as when it was not acknowledged in time
	is.Equal(r.status(t).Wanted, plugin.WantStop)
	r.request(t, events.StartRequested)
	is.NoErr(r.plugin.Handle(t.Context(), stop))
	r.await(t, events.StateReady)
	is.Equal(r.status(t).Wanted, plugin.WantStart)
}

func restartGivenUp(t *testing.T, r *run) {
	is := is.New(t)
	r.request(t, events.StartRequested)
	r.await(t, events.StateReady)
	before := r.status(t)
	r.Binaries.Fail(errors.New("no source has it"))
	e, err := events.New(events.RestartRequested, "/test", r.plugin.Name(), events.Request{Service: r.plugin.Name(), Version: "99.99.99"})
	is.NoErr(err)
	is.NoErr(r.plugin.Handle(t.Context(), e))
	is.True(r.await(t, events.StateReady).Reason != "") // it goes on, and says why
	_, err = r.plugin.Done(t.Context(), e)
	is.True(errors.Is(err, plugin.ErrGivenUp))
	r.Binaries.Fail(nil)
	r.request(t, events.StartRequested)
	r.await(t, events.StateReady)
	is.Equal(r.status(t), before) // it does not come by itself once it could be
	again := r.request(t, events.RestartRequested)
	r.await(t, events.StateReady)
	done, err := r.plugin.Done(t.Context(), again)
	is.NoErr(err)
	is.True(done)
	is.Equal(r.Supervisor.Restarts(), 1)
}

func expiredIsDropped(t *testing.T, r *run) {
	is := is.New(t)
	e, err := events.New(events.StartRequested, "/test", r.plugin.Name(), events.Request{Service: r.plugin.Name()})
	is.NoErr(err)
	e.SetExtension("expirytime", time.Now().Add(-time.Second).Format(time.RFC3339Nano))
	is.NoErr(r.plugin.Handle(t.Context(), e))
	_, _, err = r.Supervisor.Get(t.Context(), r.plugin.Unit())
	is.True(errors.Is(err, plugin.ErrNotFound)) // nothing was recorded
}

func otherDataIsRejected(t *testing.T, r *run) {
	is := is.New(t)
	e, err := events.New(events.StartRequested, "/test", r.plugin.Name(), []int{1})
	is.NoErr(err)
	is.True(errors.Is(r.plugin.Handle(t.Context(), e), events.ErrReject))
}

func replacedIsAnnounced(t *testing.T, r *run) {
	is := is.New(t)
	r.request(t, events.StartRequested)
	ready := r.await(t, events.StateReady)
	actions := r.status(t).Actions
	r.Supervisor.Replace(r.plugin.Unit(), actions[len(actions)-1].Name)
	degraded := r.await(t, events.StateDegraded)
	is.True(degraded.Revision > ready.Revision)
	is.True(r.await(t, events.StateReady).Revision > degraded.Revision)
}

func acquisitionFails(t *testing.T, r *run) {
	is := is.New(t)
	r.Binaries.Fail(errors.New("no source has it"))
	r.request(t, events.StartRequested)
	is.True(r.await(t, events.StateFailed).Reason != "")
	r.Binaries.Fail(nil)
	r.request(t, events.StartRequested)
	r.await(t, events.StateReady)
}

func actionFails(t *testing.T, r *run) {
	r.Supervisor.Break(r.plugin.Unit(), "configure", "folder is not writable")
	r.request(t, events.StartRequested)
	r.await(t, events.StateFailed)
	r.Supervisor.Break(r.plugin.Unit(), "configure", "")
	r.request(t, events.StartRequested)
	r.await(t, events.StateReady)
}

func newHostGoesOn(t *testing.T, r *run) {
	is := is.New(t)
	r.request(t, events.StartRequested)
	first := r.await(t, events.StateReady)
	before := r.status(t)
	r.stop()
	r.start(t)
	r.request(t, events.StartRequested)
	is.True(r.await(t, events.StateReady).Revision > first.Revision)
	is.Equal(r.status(t), before) // what runs was left alone
}
