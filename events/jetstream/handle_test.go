package jetstream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/events/jetstream"
	"github.com/matryer/is"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// TestSlowHandler has a handler take longer than the server would wait for
// one that is dead: the event does not come again.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	url := embedded(t)
	bus := connect(t, url, "n")
	conn, _ := admin(t, url)
	signs, err := conn.SubscribeSync("$JS.ACK.>")
	is.NoErr(err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	handled := make(chan int, 10)
	ready, ended := make(chan struct{}), make(chan error, 1)
	sub := events.Subscription{Name: "slow", Ready: func() { close(ready) }}
	go func() {
		ended <- bus.Subscribe(ctx, sub, func(_ context.Context, e events.Event) error {
			if number(t, e) == 0 { // as long as four signs of life take
				for range 4 {
					m, err := signs.NextMsg(patience)
					if err != nil || string(m.Data) != "+WPI" {
						t.Errorf("no sign of life: %v", err)
					}
				}
			}
			handled <- number(t, e)
			return nil
		})
	}()
	<-ready
	began := time.Now()
	publish(t, bus, event(t, "e", 0), event(t, "e", 1))
	expect(t, handled, 0, 1)
	t.Logf("handled for %v", time.Since(began))
	publish(t, bus, event(t, "e", 2))
	expect(t, handled, 2)
	cancel()
	is.NoErr(<-ended)
}

// TestMalformed puts messages into the stream that are no events.
func TestMalformed(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	url := embedded(t)
	bus := connect(t, url, "n")
	conn, js := admin(t, url)
	terminated, err := conn.SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")
	is.NoErr(err)
	is.NoErr(conn.Flush())
	got := listen(t, bus, events.Subscription{Name: "durable"})
	bad := []*nats.Msg{
		{Data: []byte("no header")},
		{Header: nats.Header{"ce-specversion": {"1.0"}}},
		{Header: nats.Header{"ce-specversion": {"0.3"}, "ce-id": {"1"}, "ce-source": {"s"}, "ce-type": {"t"}}},
		{Header: nats.Header{"Content-Type": {"application/cloudevents+json"}}, Data: []byte(`{"specversion":`)},
	}
	for _, m := range bad {
		m.Subject = "hero.n.service.e.registered"
		_, err := js.PublishMsg(t.Context(), m)
		is.NoErr(err)
	}
	publish(t, bus, event(t, "e", 1))
	expect(t, got, 1)
	for range bad {
		_, err := terminated.NextMsg(patience)
		is.NoErr(err) // it is done with, after one delivery
	}
	last, err := bus.Last(t.Context())
	is.NoErr(err)
	is.Equal(len(last), 1)
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	bus := connect(t, embedded(t), "n")
	e := event(t, "e", 0)
	is.NoErr(e.SetData("application/octet-stream", make([]byte, 2<<20)))
	is.True(errors.Is(bus.Publish(t.Context(), e), jetstream.ErrTooLarge))
	publish(t, bus, event(t, "e", 1)) // the connection is none the worse
	last, err := bus.Last(t.Context())
	is.NoErr(err)
	is.Equal(len(last), 1)
}

func TestClose(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	url := embedded(t)
	bus := connect(t, url, "n")
	ready, ended := make(chan struct{}), make(chan error, 1)
	sub := events.Subscription{Name: "durable", Ready: func() { close(ready) }}
	handling := make(chan struct{})
	go func() {
		ended <- bus.Subscribe(t.Context(), sub, func(ctx context.Context, _ events.Event) error {
			close(handling)
			<-ctx.Done()
			return nil // handled in time
		})
	}()
	<-ready
	publish(t, bus, event(t, "e", 0))
	<-handling
	is.NoErr(bus.Close())
	is.True(errors.Is(<-ended, jetstream.ErrClosed))
	is.NoErr(bus.Close())
	is.True(errors.Is(bus.Publish(t.Context(), event(t, "e", 1)), jetstream.ErrClosed))
	is.True(errors.Is(bus.Subscribe(t.Context(), sub, nil), jetstream.ErrClosed))
	_, err := bus.Last(t.Context())
	is.True(errors.Is(err, jetstream.ErrClosed))

	other := connect(t, url, "n")
	got := listen(t, other, events.Subscription{Name: "durable"})
	publish(t, other, event(t, "e", 2))
	expect(t, got, 2) // the other one was acknowledged
}

// TestCloseWhileDown closes a bus whose server is gone, with everything under
// way.
func TestCloseWhileDown(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := newServerProcess(t)
	server.start()
	bus := server.connect()
	ready, ended, published := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() {
		ended <- bus.Subscribe(t.Context(), events.Subscription{Ready: func() { close(ready) }}, nil)
	}()
	<-ready
	server.kill()
	go func() { published <- bus.Publish(t.Context(), event(t, "e", 0)) }()
	began := time.Now()
	is.NoErr(bus.Close())
	is.True(time.Since(began) < 10*time.Second)
	is.True(errors.Is(<-ended, jetstream.ErrClosed))
	is.True(<-published != nil)
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for _, o := range []jetstream.Options{
		{URL: "nats://u:secret@127.0.0.1:4222"},
		{Node: "n"},
		{Node: "n", URL: "nats://u:sec ret:secret@host:port:1/%zz"},
		{Node: "n", URL: "http://u:secret@127.0.0.1"},
		{Node: "n", URL: "nats://"},
	} {
		_, err := jetstream.Connect(t.Context(), o)
		is.True(err != nil)
		is.True(!strings.Contains(err.Error(), "secret"))
	}
	bus := connect(t, embedded(t), "n")
	err := bus.Subscribe(t.Context(), events.Subscription{Name: strings.Repeat("ü", 200)}, nil)
	is.True(err != nil)
}

// consumerNames lists the consumers of a node.
func consumerNames(t *testing.T, js natsjs.JetStream, node string) []string {
	t.Helper()
	stream, err := js.Stream(t.Context(), "HERO")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	list := stream.ConsumerNames(t.Context())
	for name := range list.Name() {
		if strings.HasPrefix(name, node+"+") {
			names = append(names, name)
		}
	}
	if list.Err() != nil {
		t.Fatal(list.Err())
	}
	return names
}
