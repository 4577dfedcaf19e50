package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	pause       = 100 * time.Millisecond // between attempts to connect
	dialTimeout = time.Second
	askTimeout  = 2 * time.Second // for one answer of the server
	drainTime   = 2 * time.Second // for what is under way when the bus is closed
)

// Options configures [Connect].
type Options struct {
	// URL is nats://USER:PASSWORD@HOST:PORT; several servers of one cluster
	// are separated by commas. Required.
	URL string
	// Node names the node whose events are published and received. Required.
	Node string
	// Name is what the server's list of connections calls this client.
	Name string
	// Log gets what happens to the connection and events that are given up.
	// Nil logs nothing.
	Log *slog.Logger
}

// Bus is a connection to a JetStream server. Make one with [Connect].
type Bus struct {
	node, name string
	log        *slog.Logger
	conn       *nats.Conn
	js         natsjs.JetStream
	link       *link

	mu    sync.Mutex
	users sync.WaitGroup  // what runs on the connection
	life  context.Context // ends when Close begins
	end   context.CancelCauseFunc
	ended chan struct{} // closed when the connection is down for good
}

// Connect connects to the bus and makes sure that its stream exists. It waits
// for an absent server until ctx ends; that the server refuses the credentials
// is [ErrUnauthorized], at once.
//
// A connection that is lost later is restored without end.
func Connect(ctx context.Context, o Options) (*Bus, error) {
	if _, err := events.Filter(o.Node, ""); err != nil {
		return nil, fmt.Errorf("connect to bus: %w", err)
	}
	at, err := parseAddress(o.URL)
	if err != nil {
		return nil, err
	}
	b := &Bus{
		node: o.Node, name: o.Name, log: o.Log, link: newLink(), ended: make(chan struct{}),
	}
	b.life, b.end = context.WithCancelCause(context.Background())
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if err := b.dial(ctx, at); err != nil {
		return nil, fmt.Errorf("connect to bus at %s: %w", at.servers, err)
	}
	if err := b.open(ctx); err != nil {
		b.conn.Close()
		return nil, fmt.Errorf("open stream %s at %s: %w", streamName, at.servers, err)
	}
	return b, nil
}

// dial connects, as often as it takes.
func (b *Bus) dial(ctx context.Context, at address) error {
	options := append(b.options(), nats.Name(b.name))
	if at.login != nil {
		options = append(options, at.login)
	}
	for first := true; ; first = false {
		conn, err := nats.Connect(at.servers, options...)
		if err == nil {
			b.conn = conn
			b.link.set(up, nil)
			b.js, err = natsjs.New(conn, natsjs.WithDefaultTimeout(askTimeout))
			return err
		}
		if refused(err) {
			return fmt.Errorf("%w: %w", ErrUnauthorized, err)
		}
		if first {
			b.log.Info("wait for the bus", "servers", at.servers, "error", err)
		}
		if sleep(ctx, pause) != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// open waits until the stream is there.
func (b *Bus) open(ctx context.Context) error {
	for first := true; ; first = false {
		_, err := b.stream(ctx)
		if err == nil || permanent(err) {
			return err
		}
		if first {
			b.log.Info("wait for the stream", "stream", streamName, "error", err)
		}
		if sleep(ctx, pause) != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func (b *Bus) options() []nats.Option {
	return []nats.Option{
		nats.MaxReconnects(-1),
		nats.ReconnectWait(pause),
		nats.ReconnectJitter(pause, pause),
		nats.IgnoreAuthErrorAbort(), // credentials are rotated: ours become valid, or we are restarted
		nats.Timeout(dialTimeout),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DrainTimeout(drainTime),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.link.set(down, nil)
			if err != nil {
				b.log.Warn("bus connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			b.link.set(up, nil)
			b.log.Info("bus connection restored")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if refused(err) {
				b.link.set(down, err)
			}
			b.log.Warn("bus connection", "error", err)
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(b.ended) }),
	}
}

// Close ends the subscriptions, sends what is under way and disconnects; it
// waits for that, for some seconds at most. Publishing and subscribing is
// [ErrClosed] from then on. A handler must not call it.
func (b *Bus) Close() error {
	b.mu.Lock()
	first := b.life.Err() == nil
	b.end(ErrClosed)
	b.mu.Unlock()
	if !first {
		<-b.ended
		return nil
	}
	idle := make(chan struct{})
	go func() { b.users.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-time.After(drainTime):
		b.log.Warn("close bus: a handler does not return")
	}
	err := b.conn.Drain()
	if err != nil && !errors.Is(err, nats.ErrConnectionReconnecting) {
		b.conn.Close()
	}
	<-b.ended
	return nil
}

// use returns a context that also ends when the bus is closed, and what to call
// when the work is over: Close waits for it.
func (b *Bus) use(ctx context.Context) (context.Context, func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.life.Err() != nil {
		return nil, nil, ErrClosed
	}
	b.users.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(b.life, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil); b.users.Done() }, nil
}

// refused reports whether the server does not accept the credentials.
func refused(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}

// sleep waits; its error is that of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
