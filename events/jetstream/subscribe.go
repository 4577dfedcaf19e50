package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// MaxAttempts is how often an event is handed to a handler that fails on it.
// The pauses between grow from 100 ms to 30 s: it is given up after some six
// minutes.
const MaxAttempts = 20

const (
	// ackWait is how long the server waits for a sign of life of a handler
	// before it delivers the event again, to whoever asks.
	ackWait        = 6 * time.Second
	signOfLife     = ackWait / 3
	firstRetry     = 100 * time.Millisecond
	longestRetry   = 30 * time.Second
	forgottenAfter = 30 * time.Second // an unnamed consumer that nobody asks

	pullFor   = 20 * time.Second // one request for the next event
	pullBeat  = time.Second      // the server's sign of life while we wait
	longPause = time.Second      // between attempts to attach, at most
)

var errLinkDown = errors.New("connection lost")

// Subscribe hands the events to handle, one after the other, until ctx ends,
// when it returns nil. It returns an error only where waiting does not help:
// [ErrClosed], [events.ErrHeld] when another subscription has the name, or the
// server refuses to deliver what is asked.
//
// A name taken up again continues where its last subscription stopped, even
// when it asks for other types than that.
func (b *Bus) Subscribe(ctx context.Context, sub events.Subscription, handle events.Handler) error {
	s := &subscription{Subscription: sub, bus: b, handle: handle, position: newPosition()}
	err := s.prepare()
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	ctx, done, err := b.use(ctx)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer done()
	if sub.Name == "" {
		defer b.deleteConsumer(ctx, s.consumer)
	} else {
		release, err := b.hold(ctx, s.consumer)
		if ctx.Err() != nil {
			return closed(ctx)
		}
		if err != nil {
			return fmt.Errorf("subscribe as %q: %w", sub.Name, err)
		}
		defer release()
	}
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// subscription is one call of Subscribe.
type subscription struct {
	events.Subscription
	bus      *Bus
	handle   events.Handler
	subjects []string
	consumer string // its name on the server
	exists   bool   // there may be a consumer of that name
	ready    func()
	position position
}

func (s *subscription) prepare() (err error) {
	if s.subjects, err = filters(s.bus.node, s.Types); err != nil {
		return err
	}
	s.ready = func() {}
	if s.Ready != nil {
		s.ready = sync.OnceFunc(s.Ready)
	}
	s.exists = s.Name != ""
	s.consumer = consumerName(s.bus.node, s.Name)
	if s.Name == "" {
		s.consumer = consumerName(s.bus.node, s.bus.name+" "+uuid.NewString())
	}
	if len(s.consumer) > maxConsumerName {
		return fmt.Errorf("name of %d bytes is too long: %d are allowed with the node's, encoded", len(s.consumer), maxConsumerName)
	}
	return nil
}

const maxConsumerName = 250

// consumerName keeps the nodes' names apart: a plus is in no token.
func consumerName(node, name string) string {
	return events.Token(node) + "+" + events.Token(name)
}

// run keeps a consumer on the server, and consumes, whatever happens to either.
func (s *subscription) run(ctx context.Context) error {
	wait, said := pause, ""
	for {
		attached, err := s.once(ctx)
		if ctx.Err() != nil {
			return closed(ctx)
		}
		if permanent(err) {
			return err
		}
		if attached {
			wait, said = pause/10, ""
		}
		if text := err.Error(); text != said && !errors.Is(err, errLinkDown) {
			s.bus.log.Warn("subscription interrupted", "consumer", s.consumer, "error", text)
			said = text
		}
		if sleep(ctx, wait) != nil {
			return closed(ctx)
		}
		wait = min(2*wait, longPause)
	}
}

// closed tells whether it was the bus that ended the context.
func closed(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), ErrClosed) {
		return ErrClosed
	}
	return nil
}

// once attaches to a consumer and consumes until it is lost.
func (s *subscription) once(ctx context.Context) (attached bool, err error) {
	period, err := s.bus.link.wait(ctx, true)
	if err != nil {
		return false, err
	}
	attaching, cancel := during(ctx, period)
	consumer, err := s.attach(attaching)
	cancel()
	if err != nil && period.Err() != nil {
		return false, errLinkDown
	}
	if err != nil {
		return false, err
	}
	s.ready()
	for {
		m, err := s.next(ctx, period, consumer)
		if err != nil {
			return true, err
		}
		if m != nil {
			s.take(ctx, m)
		}
	}
}

// attach finds the consumer on the server, or makes it where the subscription
// stands.
func (s *subscription) attach(ctx context.Context) (natsjs.Consumer, error) {
	stream, err := s.bus.stream(ctx)
	if err != nil {
		return nil, err
	}
	if s.position.onStream(stream.CachedInfo()) {
		s.bus.log.Error("events were lost with the stream", "stream", streamName)
	}
	if s.exists {
		consumer, err := stream.Consumer(ctx, s.consumer)
		switch {
		case err == nil:
			return s.adopt(ctx, stream, consumer)
		case !errors.Is(err, natsjs.ErrConsumerNotFound) && !errors.Is(err, natsjs.ErrConsumerDoesNotExist):
			return nil, err
		}
	}
	s.exists = true // even if the answer is lost
	consumer, err := stream.CreateConsumer(ctx, s.config())
	if err != nil {
		return nil, err
	}
	s.position.attached(consumer.CachedInfo(), true)
	return consumer, nil
}

// adopt takes up a consumer as it stands, and has it deliver what is wanted
// now.
func (s *subscription) adopt(ctx context.Context, stream natsjs.Stream, consumer natsjs.Consumer) (natsjs.Consumer, error) {
	s.position.attached(consumer.CachedInfo(), false)
	config := consumer.CachedInfo().Config
	subjects := config.FilterSubjects
	if config.FilterSubject != "" {
		subjects = []string{config.FilterSubject}
	}
	if slices.Equal(slices.Sorted(slices.Values(subjects)), slices.Sorted(slices.Values(s.subjects))) {
		return consumer, nil
	}
	config.FilterSubject, config.FilterSubjects = "", s.subjects
	return stream.UpdateConsumer(ctx, config)
}

func (s *subscription) config() natsjs.ConsumerConfig {
	config := natsjs.ConsumerConfig{
		Name:           s.consumer,
		FilterSubjects: s.subjects,
		AckPolicy:      natsjs.AckExplicitPolicy,
		AckWait:        ackWait,
		MaxDeliver:     MaxAttempts,
		DeliverPolicy:  natsjs.DeliverNewPolicy,
		Metadata:       map[string]string{"client": s.bus.name, "subscription": s.Name},
	}
	if s.Name != "" {
		config.Durable = s.consumer
	} else {
		config.InactiveThreshold, config.MemoryStorage, config.Replicas = forgottenAfter, true, 1
	}
	switch {
	case s.position.begun:
		config.DeliverPolicy, config.OptStartSeq = natsjs.DeliverByStartSequencePolicy, s.position.next()
	case s.position.again || s.From == events.FromAll:
		config.DeliverPolicy = natsjs.DeliverAllPolicy
	case s.From == events.FromLast:
		config.DeliverPolicy = natsjs.DeliverLastPerSubjectPolicy
	}
	return config
}
