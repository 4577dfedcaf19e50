package eventstest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/matryer/is"
)

func testOrder(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	l := listen(t, bus, events.Subscription{}, nil)
	for i := range 100 {
		publish(t, bus, event(t, events.JobStateChanged, entity(i%7), i))
	}
	is.Equal(l.numbers(100), upTo(100))
}

func testFromAll(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	for i := range 20 {
		publish(t, bus, event(t, events.JobStateChanged, "e", i))
	}
	l := listen(t, bus, events.Subscription{From: events.FromAll}, nil)
	publish(t, bus, event(t, events.JobStateChanged, "e", 20))
	is.Equal(l.numbers(21), upTo(21))
}

// testFromLast subscribes while events are published: what comes must begin
// with a last event and then go on without a gap.
func testFromLast(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	publish(t, bus,
		event(t, events.Registered, "a", 1), event(t, events.Registered, "b", 2),
		event(t, events.Registered, "a", 3), event(t, events.Removed, "a", 4))
	l := listen(t, bus, events.Subscription{From: events.FromLast}, nil)
	is.Equal(l.numbers(3), []int{2, 3, 4})
	publish(t, bus, event(t, events.Registered, "a", 5), event(t, events.Registered, "a", 6))
	is.Equal(l.numbers(5), []int{2, 3, 4, 5, 6})

	const total = 300
	published := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		for i := range total {
			e, err := events.New(events.JobStateChanged, source, "busy", numbered{i})
			if err == nil {
				err = bus.Publish(context.Background(), e)
			}
			if err != nil {
				published <- err
				return
			}
			if i == total/10 {
				close(begun)
			}
		}
		published <- nil
	}()
	select {
	case <-begun:
	case err := <-published:
		t.Fatal(err)
	}
	var last atomic.Int64
	last.Store(-1)
	all := make(chan struct{})
	listen(t, bus, events.Subscription{From: events.FromLast, Types: []string{events.JobStateChanged}},
		func(_ context.Context, e events.Event) error {
			n := int64(number(t, e))
			if before := last.Swap(n); before >= 0 && n != before+1 {
				t.Errorf("%d came after %d", n, before)
			}
			if n == total-1 {
				close(all)
			}
			return nil
		})
	is.NoErr(<-published)
	select {
	case <-all:
	case <-time.After(patience):
		t.Fatalf("the last event that came is %d", last.Load())
	}
}

// testFromNow checks that Ready means what it says: nothing from before, and
// everything from after.
func testFromNow(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	for i := range 10 {
		publish(t, bus, event(t, events.Registered, "e", -1))
		l := listen(t, bus, events.Subscription{}, nil)
		publish(t, bus, event(t, events.Registered, "e", i))
		is.Equal(l.numbers(1), []int{i})
		l.end()
	}
}

func testTypes(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	sub := events.Subscription{Types: []string{events.Registered, events.StateType("media", events.StateReady), events.Registered}}
	l := listen(t, bus, sub, nil)
	publish(t, bus,
		event(t, events.Registered, "a", 0),
		event(t, events.Removed, "a", -1),
		event(t, events.StateType("service", events.StateReady), "a", -1),
		event(t, events.StateType("media", events.StateReady), "b", 1),
		event(t, events.Prefix+"service.registered.v2", "a", -1),
		event(t, events.Registered, "b", 2))
	is.Equal(l.numbers(3), upTo(3))
	err := bus.Subscribe(t.Context(), events.Subscription{Types: []string{"no.such.form"}}, nil)
	is.True(err != nil) // a type that cannot be
}

func testNodes(t *testing.T, open Opener) {
	is := is.New(t)
	one, two := node(), node()
	busOne, busTwo := open(t, one), open(t, two)
	sub := events.Subscription{Name: "same name"}
	listenOne, listenTwo := listen(t, busOne, sub, nil), listen(t, busTwo, sub, nil)
	e := event(t, events.Registered, "e", 0)
	publish(t, busOne, e, event(t, events.Registered, "e", 1))
	publish(t, busTwo, e, event(t, events.Registered, "e", 2)) // the same event is another node's, too
	is.Equal(listenOne.numbers(2), []int{0, 1})
	is.Equal(listenTwo.numbers(2), []int{0, 2})
	last, err := busOne.Last(t.Context())
	is.NoErr(err)
	is.Equal(len(last), 1)
	is.Equal(number(t, last[0]), 1)
}

func testLast(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	last, err := bus.Last(t.Context(), events.Registered)
	is.NoErr(err)
	is.Equal(len(last), 0)
	want := event(t, events.Registered, "a", 4)
	publish(t, bus,
		event(t, events.Registered, "a", 0), event(t, events.Registered, "b", 1), event(t, events.Removed, "a", 2),
		event(t, events.JobStateChanged, "c", 3), want)
	for types, numbers := range map[[2]string][]int{
		{events.Registered, events.Registered}: {1, 4},
		{events.Registered, events.Removed}:    {1, 2, 4},
		{events.LabStarted, events.LabStarted}: nil,
	} {
		last, err = bus.Last(t.Context(), types[:]...)
		is.NoErr(err)
		var got []int
		for _, e := range last {
			got = append(got, number(t, e))
		}
		is.Equal(got, numbers)
	}
	last, err = bus.Last(t.Context())
	is.NoErr(err)
	is.Equal(len(last), 4) // no type is every type
	same(is, last[3], want)
	_, err = bus.Last(t.Context(), "no.such.form")
	is.True(err != nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = bus.Last(ended)
	is.True(errors.Is(err, context.Canceled))
}
