package eventstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/matryer/is"
)

// testRetry has one event fail for a while: it comes again, and the others do
// not wait for it.
func testRetry(t *testing.T, open Opener) {
	is := is.New(t)
	for _, name := range []string{"", "durable"} {
		bus := open(t, node())
		attempts := 0
		l := listen(t, bus, events.Subscription{Name: name}, func(_ context.Context, e events.Event) error {
			if number(t, e) != 0 {
				return nil
			}
			if attempts++; attempts < 4 {
				return errNotYet
			}
			return nil
		})
		for i := range 3 {
			publish(t, bus, event(t, events.Registered, entity(i), i))
		}
		is.Equal(l.numbers(3), []int{1, 2, 0})
		is.Equal(attempts, 4)
	}
}

// testReject rejects an event. Another one that fails meanwhile shows that time
// enough went by for the rejected one to come again.
func testReject(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	rejected, failed := 0, 0
	l := listen(t, bus, events.Subscription{Name: "rejects"}, func(_ context.Context, e events.Event) error {
		if number(t, e) == 0 {
			rejected++
			return fmt.Errorf("%w: for good", events.ErrReject)
		}
		if failed++; failed < 4 {
			return errNotYet
		}
		return nil
	})
	publish(t, bus, event(t, events.Registered, "a", 0), event(t, events.Registered, "b", 1))
	is.Equal(l.numbers(1), []int{1})
	l.end()
	is.Equal(rejected, 1)
}

func testDurable(t *testing.T, open Opener) {
	is := is.New(t)
	here := node()
	sub := events.Subscription{Name: "a name: with.dots * and > more", From: events.FromAll}
	bus := open(t, here)
	publish(t, bus, event(t, events.Registered, "e", 0))
	l := listen(t, bus, sub, nil)
	publish(t, bus, event(t, events.Registered, "e", 1))
	is.Equal(l.numbers(2), []int{0, 1})
	l.end()
	publish(t, bus, event(t, events.Registered, "e", 2), event(t, events.Registered, "e", 3))
	l = listen(t, open(t, here), sub, nil)
	publish(t, bus, event(t, events.Registered, "e", 4))
	is.Equal(l.numbers(3), []int{2, 3, 4})
	l.end()
	other := listen(t, bus, events.Subscription{Name: "another", From: events.FromAll}, nil)
	is.Equal(other.numbers(5), upTo(5))
}

// testDurableOtherTypes is a newer version of a program that wants more.
func testDurableOtherTypes(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	l := listen(t, bus, events.Subscription{Name: "grows", Types: []string{events.Registered}}, nil)
	publish(t, bus, event(t, events.Registered, "e", 0), event(t, events.Removed, "e", -1))
	is.Equal(l.numbers(1), []int{0})
	l.end()
	publish(t, bus, event(t, events.Registered, "e", 1))
	l = listen(t, bus, events.Subscription{Name: "grows", Types: []string{events.Registered, events.JobStateChanged}}, nil)
	publish(t, bus, event(t, events.JobStateChanged, "e", 2))
	is.Equal(l.numbers(2), []int{1, 2})
}

// testInterrupted ends a subscription in the middle of an event: its successor
// gets that one first.
func testInterrupted(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	sub := events.Subscription{Name: "interrupted"}
	handling := make(chan struct{})
	l := listen(t, bus, sub, func(ctx context.Context, e events.Event) error {
		close(handling)
		<-ctx.Done()
		return ctx.Err()
	})
	publish(t, bus, event(t, events.Registered, "e", 0), event(t, events.Registered, "e", 1))
	select {
	case <-handling:
	case <-time.After(patience):
		t.Fatal("no event came")
	}
	l.end()
	l = listen(t, bus, sub, nil)
	is.Equal(l.numbers(2), []int{0, 1})
}

func testHeldName(t *testing.T, open Opener) {
	is := is.New(t)
	here := node()
	bus, other := open(t, here), open(t, here)
	sub := events.Subscription{Name: "held"}
	l := listen(t, bus, sub, nil)
	for _, b := range []events.Bus{bus, other} {
		err := b.Subscribe(t.Context(), sub, nil)
		is.True(errors.Is(err, events.ErrHeld))
	}
	l.end()
	l = listen(t, other, sub, nil)
	publish(t, bus, event(t, events.Registered, "e", 0))
	is.Equal(l.numbers(1), []int{0})
}

func testEnds(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"", "durable"} {
		is.NoErr(bus.Subscribe(ctx, events.Subscription{Name: name}, nil))
		listen(t, bus, events.Subscription{Name: name}, nil).end()
	}
	is.True(bus.Publish(ctx, event(t, events.Registered, "e", 0)) != nil)
}

func testPublishFromHandler(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	l := listen(t, bus, events.Subscription{Name: "chain"}, func(ctx context.Context, e events.Event) error {
		if n := number(t, e); n < 9 {
			return bus.Publish(ctx, event(t, events.Registered, "e", n+1))
		}
		return nil
	})
	publish(t, bus, event(t, events.Registered, "e", 0))
	is.Equal(l.numbers(10), upTo(10))
}

func testConcurrentPublishers(t *testing.T, open Opener) {
	is := is.New(t)
	const publishers, each = 8, 25
	bus := open(t, node())
	l := listen(t, bus, events.Subscription{}, nil)
	var wait sync.WaitGroup
	for p := range publishers {
		wait.Go(func() {
			for i := range each {
				e, err := events.New(events.JobStateChanged, source, entity(p), numbered{i})
				if err := errors.Join(err, bus.Publish(t.Context(), e)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	next := map[string]int{}
	for _, e := range l.until(publishers * each) {
		is.Equal(number(t, e), next[e.Subject()]) // in order, none twice
		next[e.Subject()]++
	}
	is.Equal(len(next), publishers)
}

// hostile are names of entities that a careless bus trips over.
var hostile = []string{
	"a.b", "*", ">", "a*b", ".", "..", "a b", "$JS.API", "ü", "日本", "a\r\nb: c", "a\x00b", "%41", "=41", "A", "a",
	"a=b", "a/b", `a"b`, "🙂", "a\tb",
}

func testHostileNames(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	l := listen(t, bus, events.Subscription{Types: []string{events.Registered}}, nil)
	for i, name := range hostile {
		publish(t, bus, event(t, events.Registered, name, i))
	}
	got := l.until(len(hostile))
	for i, name := range hostile {
		is.Equal(got[i].Subject(), name)
		is.Equal(events.Entity(got[i]), name)
	}
	last, err := bus.Last(t.Context(), events.Registered)
	is.NoErr(err)
	is.Equal(len(last), len(hostile)) // each is an entity of its own
}

func testAttributes(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	l := listen(t, bus, events.Subscription{}, nil)
	e := event(t, events.Registered, "e", 0)
	for name, value := range map[string]any{
		"text": "100% \"quoted\"\r\nInjected: header\x7f ü 🙂 \\", "empty": "", "spaces": "  a  ", "number": int32(-7), "truth": true,
		"bytes": []byte{0, 255}, "expirytime": time.Now(), "percent": "%", "encoded": "%0A",
	} {
		e.SetExtension(name, value)
	}
	bare := event(t, events.Registered, "e", 0)
	bare.DataEncoded = nil
	big := event(t, events.Registered, "e", 0)
	is.NoErr(big.SetData("text/plain", bytes100k()))
	publish(t, bus, e, bare, big)
	got := l.until(3)
	same(is, got[0], e)
	same(is, got[1], bare)
	same(is, got[2], big)
}

func bytes100k() []byte {
	b := make([]byte, 100_000)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func testNotPublishable(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	noEntity := event(t, events.Registered, "e", 0)
	noEntity.SetSubject("")
	noEntity.SetExtension("partitionkey", nil)
	otherType := event(t, events.Registered, "e", 0)
	otherType.SetType("com.example.thing")
	noID := event(t, events.Registered, "e", 0)
	noID.SetID("")
	long := event(t, events.Registered, "e", 0)
	long.SetExtension("partitionkey", string(make([]byte, events.MaxSubject)))
	for _, e := range []events.Event{noEntity, otherType, noID, long, {}} {
		is.True(bus.Publish(t.Context(), e) != nil)
	}
	last, err := bus.Last(t.Context())
	is.NoErr(err)
	is.Equal(len(last), 0)
}

func testSameEventTwice(t *testing.T, open Opener) {
	is := is.New(t)
	bus := open(t, node())
	l := listen(t, bus, events.Subscription{}, nil)
	e := event(t, events.Registered, "e", 0)
	publish(t, bus, e, e, event(t, events.Registered, "e", 1))
	is.Equal(l.numbers(2), upTo(2))
}
