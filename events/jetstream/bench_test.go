package jetstream_test

import (
	"context"
	"strconv"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/events/jetstream"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

func benchEvent(b *testing.B) events.Event {
	b.Helper()
	e, err := events.New(events.StateType("media", events.StateReady), "/lab/n/host", "livekit", events.ServiceState{
		State: events.StateReady, Revision: 7, Version: "1.13.5", URL: "ws://127.0.0.1:7880", BackendURL: "http://127.0.0.1:8080",
		Checks: []events.CheckOutcome{{Name: "signalling", OK: true}, {Name: "media", OK: true}, {Name: "token", OK: true}},
	})
	if err != nil {
		b.Fatal(err)
	}
	events.Caused(&e, e)
	return e
}

func BenchmarkEncode(b *testing.B) {
	e := benchEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jetstream.Encode("n", e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	m, err := jetstream.Encode("n", benchEvent(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jetstream.Decode(m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPublish compares the bus with a bare client that publishes the same
// bytes to the same stream.
func BenchmarkPublish(b *testing.B) {
	url := embedded(b)
	bus, err := jetstream.Connect(b.Context(), jetstream.Options{URL: url, Node: "n"})
	if err != nil {
		b.Fatal(err)
	}
	defer bus.Close()
	conn, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	js, err := natsjs.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	e := benchEvent(b)
	m, err := jetstream.Encode("n", e)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	b.Run("raw", func(b *testing.B) {
		for b.Loop() {
			n++
			m.Header[nats.MsgIdHdr] = []string{strconv.Itoa(n)}
			if _, err := js.PublishMsg(context.Background(), m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bus", func(b *testing.B) {
		for b.Loop() {
			n++
			e.SetID(strconv.Itoa(n))
			if err := bus.Publish(context.Background(), e); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkDeliver is the whole way of an event: published, stored, delivered,
// handled.
func BenchmarkDeliver(b *testing.B) {
	bus, err := jetstream.Connect(b.Context(), jetstream.Options{URL: embedded(b), Node: "n"})
	if err != nil {
		b.Fatal(err)
	}
	defer bus.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ready, handled := make(chan struct{}), make(chan struct{})
	sub := events.Subscription{Name: "bench", Ready: func() { close(ready) }}
	ended := make(chan error, 1)
	go func() {
		ended <- bus.Subscribe(ctx, sub, func(context.Context, events.Event) error {
			handled <- struct{}{}
			return nil
		})
	}()
	<-ready
	e, n := benchEvent(b), 0
	for b.Loop() {
		n++
		e.SetID(strconv.Itoa(n))
		if err := bus.Publish(ctx, e); err != nil {
			b.Fatal(err)
		}
		<-handled
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
