package jetstream

import (
	"context"
	"errors"
	"slices"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// next asks for one event, never for more: what a process that dies has asked
// for in advance is kept from its successor for a while. No event within the
// time of the request is nil. A consumer that is gone, or a server that no
// longer answers, is an error.
func (s *subscription) next(ctx, period context.Context, consumer natsjs.Consumer) (natsjs.Msg, error) {
	pull, cancel := context.WithTimeout(ctx, pullFor)
	defer cancel()
	pull, release := during(pull, period) // the request is lost with its connection
	defer release()
	if ctx.Err() != nil { // the request would be sent, and an event come that nobody takes
		return nil, ctx.Err()
	}
	if period.Err() != nil {
		return nil, errLinkDown
	}
	batch, err := consumer.Fetch(1, natsjs.FetchContext(pull), natsjs.FetchHeartbeat(pullBeat))
	if err != nil {
		return nil, err
	}
	if m, ok := <-batch.Messages(); ok {
		return m, nil
	}
	switch err := batch.Error(); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case period.Err() != nil:
		return nil, errLinkDown
	case errors.Is(err, context.DeadlineExceeded):
		return nil, nil
	default:
		return nil, err
	}
}

// take hands one event to the handler and tells the server how it went.
func (s *subscription) take(ctx context.Context, m natsjs.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		s.bus.log.Error("message without a place in the stream", "subject", m.Subject(), "error", err)
		return
	}
	seq := meta.Sequence.Stream
	if s.position.isHandled(seq) {
		s.answer(m.Ack())
		return
	}
	s.position.deliver(seq)
	if ctx.Err() != nil {
		s.answer(m.Nak())
		return
	}
	e, err := decode(m.Headers(), m.Data())
	switch {
	case err != nil:
		s.bus.log.Warn("reject event", "subject", m.Subject(), "sequence", seq, "error", err)
		s.answer(m.Term())
		s.position.settle(seq)
		return
	case !wants(s.Types, e.Type()): // another version of a type that is wanted
		s.answer(m.Ack())
		s.position.settle(seq)
		return
	}
	alive := s.keepAlive(m)
	err = s.handle(ctx, e)
	alive()
	s.settle(ctx, m, meta, e, err)
}

// settle answers for an event that was handled with the outcome err.
func (s *subscription) settle(ctx context.Context, m natsjs.Msg, meta *natsjs.MsgMetadata, e events.Event, err error) {
	log := s.bus.log.With("type", e.Type(), "id", e.ID(), "attempt", meta.NumDelivered)
	switch {
	case err == nil:
		s.answer(m.Ack())
	case errors.Is(err, events.ErrReject):
		log.Warn("event rejected", "error", err)
		s.answer(m.Term())
	case ctx.Err() != nil: // it was interrupted: the successor's at once
		s.answer(m.Nak())
		return
	case meta.NumDelivered >= MaxAttempts:
		log.Error("event given up", "error", err)
		s.answer(m.Term())
	default:
		wait := retryAfter(meta.NumDelivered)
		log.Info("event comes again", "after", wait, "error", err)
		s.answer(m.NakWithDelay(wait))
		return
	}
	s.position.settle(meta.Sequence.Stream)
}

// answer notes an acknowledgement that could not be sent: the event comes
// again, and is recognised.
func (s *subscription) answer(err error) {
	if err != nil {
		s.bus.log.Debug("answer to the bus is lost", "error", err)
	}
}

// keepAlive tells the server that the event is being handled, until the
// function it returns is called.
func (s *subscription) keepAlive(m natsjs.Msg) (stop func()) {
	handled, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(signOfLife)
		defer ticker.Stop()
		for {
			select {
			case <-handled:
				return
			case <-ticker.C:
				s.answer(m.InProgress())
			}
		}
	}()
	return func() { close(handled); <-ended }
}

// retryAfter is the pause after the given number of attempts.
func retryAfter(attempts uint64) time.Duration {
	wait := firstRetry
	for ; attempts > 1 && wait < longestRetry; attempts-- {
		wait *= 2
	}
	return min(wait, longestRetry)
}

// wants reports whether the type is one of those, of which none means all.
func wants(types []string, typ string) bool {
	return len(types) == 0 || slices.Contains(types, typ)
}
