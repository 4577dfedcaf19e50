package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/events/jetstream"
	"github.com/matryer/is"
)

// TestKilledWhilePublishing kills the server again and again while events are
// published: none that was acknowledged is missing.
func TestKilledWhilePublishing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := newServerProcess(t)
	server.start()
	bus := server.connect()
	live := listen(t, bus, events.Subscription{Name: "live"})

	ctx, stop := context.WithCancel(t.Context())
	acked := make(chan int, 100_000)
	go func() {
		defer close(acked)
		for i := 0; ctx.Err() == nil; i++ {
			e, err := events.New(events.JobStateChanged, "/lab/n/test", "e", map[string]int{"n": i})
			if err != nil {
				t.Error(err)
				return
			}
			// What is under way at the end is brought to its end.
			for err = errors.New("not yet"); err != nil && t.Context().Err() == nil; {
				if err = bus.Publish(context.WithoutCancel(ctx), e); err != nil {
					t.Logf("publish %d once more: %v", i, err)
				}
			}
			acked <- i
		}
	}()
	for range 3 {
		before := len(acked)
		eventually(t, "publishing", func() bool { return len(acked) >= before+50 })
		server.kill()
		server.start()
		down := time.Now()
		before = len(acked)
		eventually(t, "publishing", func() bool { return len(acked) > before })
		t.Logf("published again %v after the start of a server", time.Since(down))
	}
	stop()
	count := 0
	for range acked {
		count++
	}
	all := listen(t, bus, events.Subscription{From: events.FromAll})
	for i := range count {
		expect(t, all, i)
	}
	seen := map[int]bool{}
	for len(seen) < count {
		select {
		case n := <-live:
			is.Equal(seen[n], false) // within one process not even the same twice
			seen[n] = true
		case <-time.After(patience):
			t.Fatalf("%d of %d events came", len(seen), count)
		}
	}
}

// TestConsumerDeleted deletes what subscriptions have on the server: they go on
// with neither a gap nor a repetition.
func TestConsumerDeleted(t *testing.T) {
	t.Parallel()
	url := embedded(t)
	for name, sub := range map[string]events.Subscription{
		"ephemeral":           {},
		"ephemeral from all":  {From: events.FromAll},
		"ephemeral from last": {From: events.FromLast},
		"durable":             {Name: "durable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := strings.ReplaceAll(name, " ", "_")
			bus := connect(t, url, node)
			_, js := admin(t, url)
			deleteConsumers := func() {
				names := consumerNames(t, js, node)
				for _, consumer := range names {
					if err := js.DeleteConsumer(t.Context(), "HERO", consumer); err != nil {
						t.Error(err)
					}
				}
				if len(names) != 1 {
					t.Errorf("consumers are %q", names)
				}
			}
			got := listen(t, bus, sub)
			deleteConsumers()
			publish(t, bus, event(t, "e", 0), event(t, "e", 1))
			expect(t, got, 0, 1)
			deleteConsumers()
			publish(t, bus, event(t, "e", 2), event(t, "e", 3))
			expect(t, got, 2, 3)
			publish(t, bus, event(t, "e", 4))
			expect(t, got, 4)
		})
	}
}

// TestStreamDeleted deletes the stream: publishing and subscribing go on with
// another one.
func TestStreamDeleted(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	url := embedded(t)
	bus := connect(t, url, "n")
	_, js := admin(t, url)
	ephemeral, durable := listen(t, bus, events.Subscription{}), listen(t, bus, events.Subscription{Name: "durable"})
	publish(t, bus, event(t, "e", 0), event(t, "e", 1))
	expect(t, ephemeral, 0, 1)
	expect(t, durable, 0, 1)
	is.NoErr(js.DeleteStream(t.Context(), "HERO"))
	began := time.Now()
	publish(t, bus, event(t, "e", 2), event(t, "e", 3), event(t, "e", 4))
	expect(t, ephemeral, 2, 3, 4)
	expect(t, durable, 2, 3, 4)
	t.Logf("went on after %v", time.Since(began))
}

// TestRestartKeepsPosition restarts the server, in good order and with a kill.
func TestRestartKeepsPosition(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*serverProcess){
		"stop": (*serverProcess).stop,
		"kill": (*serverProcess).kill,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServerProcess(t)
			server.start()
			bus := server.connect()
			sub := events.Subscription{Name: "durable"}
			durable, leave := listenUntil(t, bus, sub)
			ephemeral := listen(t, bus, events.Subscription{})
			publish(t, bus, event(t, "e", 0), event(t, "e", 1))
			expect(t, durable, 0, 1)
			expect(t, ephemeral, 0, 1)
			end(server)
			server.start()
			publish(t, bus, event(t, "e", 2))
			expect(t, durable, 2)
			expect(t, ephemeral, 2)
			leave()
			publish(t, bus, event(t, "e", 3))
			end(server)
			server.start()
			again := listen(t, server.connect(), sub)
			publish(t, bus, event(t, "e", 4))
			first := <-again
			for name == "kill" && first < 3 { // the last acknowledgements may be lost
				first = <-again
			}
			is.New(t).Equal(first, 3)
			expect(t, again, 4)
			expect(t, ephemeral, 3, 4)
		})
	}
}

// TestStoreFallsBack has the server come back with less than it had, as one
// does that does not flush and loses its power.
func TestStoreFallsBack(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := newServerProcess(t)
	server.start()
	bus := server.connect()
	durable, ephemeral := listen(t, bus, events.Subscription{Name: "durable"}), listen(t, bus, events.Subscription{})
	publish(t, bus, event(t, "e", 0))
	expect(t, durable, 0)
	expect(t, ephemeral, 0)
	server.stop()
	old := filepath.Join(t.TempDir(), "old")
	is.NoErr(os.CopyFS(old, os.DirFS(server.dir)))
	server.start()
	publish(t, bus, event(t, "e", 1), event(t, "e", 2), event(t, "e", 3))
	expect(t, durable, 1, 2, 3)
	expect(t, ephemeral, 1, 2, 3)
	server.kill()
	is.NoErr(os.RemoveAll(server.dir))
	is.NoErr(os.Rename(old, server.dir))
	server.start()
	_, js := admin(t, server.url())
	eventually(t, "return of both subscriptions", func() bool {
		waiting := 0
		for _, name := range consumerNames(t, js, "n") {
			if consumer, err := js.Consumer(t.Context(), "HERO", name); err == nil {
				waiting += consumer.CachedInfo().NumWaiting
			}
		}
		return waiting == 2
	})
	publish(t, bus, event(t, "e", 4))
	expect(t, durable, 4)
	expect(t, ephemeral, 4)
}

// TestAbsentAtStart connects before there is a server.
func TestAbsentAtStart(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := newServerProcess(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := jetstream.Connect(ctx, jetstream.Options{URL: server.url(), Node: "n"})
	is.True(errors.Is(err, context.DeadlineExceeded))
	is.True(!strings.Contains(err.Error(), "secret"))
	is.True(strings.Contains(err.Error(), fmt.Sprint(server.port))) // it says where nobody is

	connected := make(chan *jetstream.Bus, 1)
	go func() {
		bus, err := jetstream.Connect(t.Context(), jetstream.Options{URL: server.url(), Node: "n"})
		if err != nil {
			t.Error(err)
		}
		connected <- bus
	}()
	server.start()
	bus := <-connected
	publish(t, bus, event(t, "e", 0))
	is.NoErr(bus.Close())
}

// TestCredentials has the server refuse ours from the start, and later.
func TestCredentials(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := newServerProcess(t)
	server.start()
	bus := server.connect()
	got := listen(t, bus, events.Subscription{})
	publish(t, bus, event(t, "e", 0))
	for _, url := range []string{
		jetstream.ServerURL(user, "wrong-and-secret", server.port),
		jetstream.ServerURL("nobody", password, server.port),
		fmt.Sprintf("nats://a-secret-token@127.0.0.1:%d", server.port),
		fmt.Sprintf("127.0.0.1:%d", server.port),
	} {
		began := time.Now()
		_, err := jetstream.Connect(t.Context(), jetstream.Options{URL: url, Node: "n", Log: logger(t)})
		is.True(errors.Is(err, jetstream.ErrUnauthorized))
		is.True(!strings.Contains(err.Error(), "secret"))
		is.True(time.Since(began) < 5*time.Second) // it takes milliseconds, on an idle machine
	}

	server.kill()
	rotated := *server
	rotated.password = "another"
	rotated.start()
	eventually(t, "refusal", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return errors.Is(bus.Publish(ctx, event(t, "e", -1)), jetstream.ErrUnauthorized)
	})
	rotated.kill()
	server.start()
	eventually(t, "return", func() bool { return bus.Publish(t.Context(), event(t, "e", 1)) == nil })
	expect(t, got, 0, 1)
}

// TestFullDisk fills the disk under the server and frees it. JetStream stops
// answering then, and only a restart mends it: the server does that itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := newServerProcess(t)
	server.start()
	bus := server.connect()
	got := listen(t, bus, events.Subscription{Name: "durable"})
	publish(t, bus, event(t, "e", 0))
	expect(t, got, 0)
	is.Equal(server.tell("health"), "<nil>")
	is.Equal(server.tell("full"), "<nil>")
	began := time.Now()
	is.True(bus.Publish(t.Context(), event(t, "e", -1)) != nil)
	is.True(time.Since(began) < 10*time.Second)
	eventually(t, "bad health", func() bool { return server.tell("health") != "<nil>" })
	t.Logf("bad health after %v", time.Since(began))
	is.Equal(server.tell("free"), "<nil>")
	began = time.Now()
	eventually(t, "recovery", func() bool { return bus.Publish(t.Context(), event(t, "e", 1)) == nil })
	t.Logf("publishes again %v after the disk was freed", time.Since(began))
	expect(t, got, 1)
}
