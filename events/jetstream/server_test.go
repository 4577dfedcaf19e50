package jetstream_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/events/jetstream"
	"github.com/matryer/is"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

func TestServerRefusesToStart(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	good := jetstream.ServerOptions{Dir: t.TempDir(), Port: freePort(t), User: user, Password: password}
	for says, change := range map[string]func(*jetstream.ServerOptions){
		fmt.Sprintf("port %d cannot be had", port): func(o *jetstream.ServerOptions) { o.Port = port },
		"not a loopback address":                   func(o *jetstream.ServerOptions) { o.Host = "0.0.0.0" },
		"password is empty":                        func(o *jetstream.ServerOptions) { o.Password = "" },
		"port 0":                                   func(o *jetstream.ServerOptions) { o.Port = 0 },
		"folder of the store":                      func(o *jetstream.ServerOptions) { o.Dir = "" },
	} {
		o := good
		change(&o)
		err := jetstream.Serve(t.Context(), o, func() { t.Error("ready") })
		is.True(err != nil)
		is.True(strings.Contains(err.Error(), says))
		is.True(!strings.Contains(err.Error(), password))
	}
}

func TestServerHasItsStoreAlone(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := newServerProcess(t)
	server.start()
	server.connect()
	second := jetstream.NewServer(jetstream.ServerOptions{Dir: server.dir, Port: freePort(t), User: user, Password: password})
	is.True(second.Health() != nil)
	err := second.Run(t.Context())
	is.True(err != nil)
	is.True(strings.Contains(err.Error(), "in use by another server"))
	info, err := os.Stat(server.dir)
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), os.FileMode(0o700))
}

func TestServerHealth(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	port := freePort(t)
	server := jetstream.NewServer(jetstream.ServerOptions{Dir: t.TempDir(), Port: port, User: user, Password: password, Log: logger(t)})
	is.True(server.Health() != nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	eventually(t, "good health", func() bool { return server.Health() == nil })
	_, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", port))
	is.True(err != nil) // nobody gets in without credentials
	bus := connect(t, jetstream.ServerURL(user, password, port), "n")
	publish(t, bus, event(t, "e", 0))
	is.NoErr(server.Health())
	is.NoErr(bus.Close())
	cancel()
	is.NoErr(<-ended)
	is.True(server.Health() != nil)
}

// TestStopWithManyConsumers stops a server that fifty durable subscriptions are
// on.
func TestStopWithManyConsumers(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := newServerProcess(t)
	server.start()
	bus := server.connect()
	for i := range 50 {
		listen(t, bus, events.Subscription{Name: fmt.Sprint(i)})
	}
	publish(t, bus, event(t, "e", 0))
	began := time.Now()
	server.stop()
	took := time.Since(began)
	t.Logf("stopped within %v", took)
	is.True(took < 10*time.Second)
}

// TestStreamIsLeftAlone finds a stream that an operator made.
func TestStreamIsLeftAlone(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	url := embedded(t)
	_, js := admin(t, url)
	_, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "HERO", Subjects: []string{"hero.>"}, MaxMsgs: 7})
	is.NoErr(err)
	bus := connect(t, url, "n")
	publish(t, bus, event(t, "e", 0))
	stream, err := js.Stream(t.Context(), "HERO")
	is.NoErr(err)
	is.Equal(stream.CachedInfo().Config.MaxMsgs, int64(7))
}
