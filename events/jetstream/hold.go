package jetstream

import (
	"context"
	"errors"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/nats-io/nats.go"
)

// holdTimeout is how long a holder may take to say that it is there.
const holdTimeout = time.Second

// flush makes sure that the server has heard everything so far: what was
// handled is acknowledged, and what was given up is free.
func (b *Bus) flush(ctx context.Context) {
	if !b.conn.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdTimeout)
	defer cancel()
	if err := b.conn.FlushWithContext(ctx); err != nil {
		b.log.Debug("flush", "error", err)
	}
}

// hold claims a consumer for this connection, or says that somebody has it: two
// who ask one consumer share its events, which neither notices.
//
// The claim is an answer to whoever asks. So it ends with the connection, and
// the successor of a killed process need not wait. Two that ask at the very
// same moment both get it; the supervisor is there to not start two.
func (b *Bus) hold(ctx context.Context, consumer string) (release func(), err error) {
	subject := "hero_holder." + consumer
	if _, err := b.link.wait(ctx, true); err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	_, err = b.conn.RequestWithContext(asking, subject, nil)
	switch {
	case err == nil:
		return nil, events.ErrHeld
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !errors.Is(err, nats.ErrNoResponders):
		b.log.Debug("nobody can be asked who holds a name", "subject", subject, "error", err)
	}
	claim, err := b.conn.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(b.name)) })
	if err != nil {
		return nil, err
	}
	return func() {
		_ = claim.Unsubscribe()
		b.flush(ctx)
	}, nil
}
