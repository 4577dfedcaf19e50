package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	publishTries   = 3
	publishTimeout = time.Second     // for each of the tries
	bridged        = 5 * time.Second // how long an outage may take before a request fails
)

// Publish stores the event and returns when that is done. It repeats an
// unanswered attempt and bridges an outage, for some seconds or until ctx ends;
// repetition never stores an event twice. After an error the event may have
// been stored nonetheless: publish it again, as it is.
//
// Errors to tell apart: [ErrMalformed], [ErrTooLarge], [ErrUnauthorized],
// [ErrClosed].
func (b *Bus) Publish(ctx context.Context, e events.Event) error {
	m, err := Encode(b.node, e)
	if err != nil {
		return fmt.Errorf("publish %s: %w", e.Type(), err)
	}
	ctx, done, err := b.use(ctx)
	if err != nil {
		return fmt.Errorf("publish %s: %w", e.Type(), err)
	}
	defer done()
	if err := b.send(ctx, m); err != nil {
		return fmt.Errorf("publish %s %s: %w", e.Type(), e.ID(), err)
	}
	return nil
}

func (b *Bus) send(ctx context.Context, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, bridged)
	defer cancel()
	var err error
	for range publishTries {
		period, waitErr := b.link.wait(ctx, false)
		if waitErr != nil {
			return errors.Join(waitErr, err)
		}
		err = b.sendOnce(ctx, period, m)
		if err == nil || final(err) || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, natsjs.ErrNoStreamResponse) { // the stream was deleted, or is not up yet
			if _, streamErr := b.stream(ctx); streamErr != nil {
				err = streamErr
			}
		}
	}
	return err
}

// sendOnce waits for one answer. It gives up early when the connection breaks,
// for the answer is lost then.
func (b *Bus) sendOnce(ctx, period context.Context, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	ctx, release := during(ctx, period)
	defer release()
	_, err := b.js.PublishMsg(ctx, m, natsjs.WithRetryAttempts(0))
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, natsjs.ErrStreamMessageExceedsMaximum) {
		return fmt.Errorf("%w: at most %d bytes are accepted", ErrTooLarge, b.conn.MaxPayload())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the bus does not answer: %w", err)
	}
	return err
}

// final reports whether another attempt would end the same.
func final(err error) bool { return errors.Is(err, ErrTooLarge) || permanent(err) }
