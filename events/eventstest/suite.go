package eventstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/google/uuid"
	"github.com/matryer/is"
)

// patience is how long the suite waits for what has to happen.
const patience = 20 * time.Second

// source says the events of the suite.
const source = "/lab/test/suite"

// Opener connects to one and the same bus, as the node, for the time of the
// test. The suite asks for several connections of one node.
type Opener func(t *testing.T, node string) events.Bus

// Run tests that the bus keeps the contract of [events.Bus]. Its tests run in
// parallel, each as a node of its own.
func Run(t *testing.T, open Opener) {
	for name, test := range map[string]func(*testing.T, Opener){
		"order":                 testOrder,
		"from all":              testFromAll,
		"from last":             testFromLast,
		"from now":              testFromNow,
		"retry":                 testRetry,
		"reject":                testReject,
		"durable":               testDurable,
		"durable other types":   testDurableOtherTypes,
		"interrupted":           testInterrupted,
		"held name":             testHeldName,
		"types":                 testTypes,
		"nodes":                 testNodes,
		"ends":                  testEnds,
		"publish from handler":  testPublishFromHandler,
		"concurrent publishers": testConcurrentPublishers,
		"hostile names":         testHostileNames,
		"attributes":            testAttributes,
		"not publishable":       testNotPublishable,
		"same event twice":      testSameEventTwice,
		"last":                  testLast,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
}

// node returns a node's name that nobody else uses.
func node() string { return "n-" + uuid.NewString() }

// numbered is the data of the suite's events.
type numbered struct {
	N int `json:"n"`
}

// event makes the nth event of the type about the entity.
func event(t testing.TB, typ, entity string, n int) events.Event {
	t.Helper()
	e, err := events.New(typ, source, entity, numbered{n})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// number returns n of an event made by event.
func number(t testing.TB, e events.Event) int {
	t.Helper()
	data, err := events.Data[numbered](e)
	if err != nil {
		t.Error(err)
	}
	return data.N
}

func publish(t testing.TB, bus events.Bus, all ...events.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, e := range all {
		if err := bus.Publish(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
}

// listener runs one subscription and keeps what it handled.
type listener struct {
	t     testing.TB
	stop  context.CancelFunc
	ended chan error

	mu      sync.Mutex
	got     []events.Event
	changed chan struct{}
}

// listen subscribes and returns once the subscription is in force. Handle may
// be nil; an event counts when it returns nil.
func listen(t testing.TB, bus events.Bus, sub events.Subscription, handle events.Handler) *listener {
	t.Helper()
	l := &listener{t: t, ended: make(chan error, 1), changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	ready, times := make(chan struct{}), 0
	sub.Ready = func() {
		if times++; times > 1 {
			t.Error("Ready was called again")
			return
		}
		close(ready)
	}
	go func() {
		l.ended <- bus.Subscribe(ctx, sub, func(ctx context.Context, e events.Event) error {
			if handle != nil {
				if err := handle(ctx, e); err != nil {
					return err
				}
			}
			l.add(e)
			return nil
		})
	}()
	t.Cleanup(l.end)
	select {
	case <-ready:
	case err := <-l.ended:
		l.ended <- err
		t.Fatalf("subscription ended: %v", err)
	case <-time.After(patience):
		t.Fatal("subscription is not in force")
	}
	return l
}

func (l *listener) add(e events.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, e)
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// end ends the subscription and waits for that. It may be called again.
func (l *listener) end() {
	l.t.Helper()
	l.stop()
	select {
	case err := <-l.ended:
		if err != nil {
			l.t.Errorf("subscription ended with %v", err)
		}
		l.ended <- nil
	case <-time.After(patience):
		l.t.Error("subscription does not end")
	}
}

// until waits for n events and returns all that came.
func (l *listener) until(n int) []events.Event {
	l.t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		got := append([]events.Event(nil), l.got...)
		l.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-l.changed:
		case <-deadline:
			l.t.Fatalf("%d events came, not %d", len(got), n)
		}
	}
}

// numbers waits for n events and returns their numbers.
func (l *listener) numbers(n int) []int {
	l.t.Helper()
	var all []int
	for _, e := range l.until(n) {
		all = append(all, number(l.t, e))
	}
	return all
}

// same checks that the bus changed nothing about the event.
func same(is *is.I, got, want events.Event) {
	is.Helper()
	is.Equal(got.ID(), want.ID())
	is.Equal(got.Type(), want.Type())
	is.Equal(got.Source(), want.Source())
	is.Equal(got.Subject(), want.Subject())
	is.True(got.Time().Equal(want.Time()))
	is.Equal(got.DataContentType(), want.DataContentType())
	is.True(bytes.Equal(got.Data(), want.Data()))
	is.Equal(len(got.Extensions()), len(want.Extensions()))
	for name := range want.Extensions() {
		is.Equal(events.Extension(got, name), events.Extension(want, name))
	}
}

var errNotYet = errors.New("not yet")

// upTo returns 0 to n-1.
func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func entity(i int) string { return fmt.Sprintf("entity %d", i) }
