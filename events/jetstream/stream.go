package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	streamName = "HERO"
	// repeatWindow is how long the stream remembers an event's id.
	repeatWindow = 10 * time.Minute
	// keptPerSubject is how many events of one type and entity are kept.
	keptPerSubject = 4096
	// keptBytes is what the stream may take; the oldest events go first.
	keptBytes = 512 << 20

	lastBatch = 256 // events that Last asks for at a time
	lastTries = 3
)

// streamConfig is the stream as it is first made; one that is there already is
// left as its operator wants it.
//
// Events have no maximum age. The last state of a service that ran undisturbed
// for a month is that old, and who comes late needs it. The bound per subject
// keeps a noisy entity from pushing the others' states out.
func streamConfig() natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Name:              streamName,
		Description:       "events of lab",
		Subjects:          []string{"hero.>"},
		Storage:           natsjs.FileStorage,
		Retention:         natsjs.LimitsPolicy,
		Discard:           natsjs.DiscardOld,
		MaxBytes:          keptBytes,
		MaxMsgsPerSubject: keptPerSubject,
		Duplicates:        repeatWindow,
		AllowDirect:       true,
	}
}

// stream returns the stream, which it makes if there is none.
func (b *Bus) stream(ctx context.Context) (natsjs.Stream, error) {
	stream, err := b.js.Stream(ctx, streamName)
	if !errors.Is(err, natsjs.ErrStreamNotFound) {
		return stream, err
	}
	stream, err = b.js.CreateStream(ctx, streamConfig())
	if errors.Is(err, natsjs.ErrStreamNameAlreadyInUse) { // somebody was faster, with another configuration
		return b.js.Stream(ctx, streamName)
	}
	return stream, err
}

// permanent reports whether the server refuses a request in a way that will
// not change by itself.
func permanent(err error) bool {
	var api *natsjs.APIError
	if errors.As(err, &api) {
		return api.Code >= 400 && api.Code < 500 && api.Code != 404
	}
	return errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, natsjs.ErrInvalidOption)
}

// filters returns the subjects that the types travel on, each once.
func filters(node string, types []string) ([]string, error) {
	if len(types) == 0 {
		types = []string{""}
	}
	var subjects []string
	seen := make(map[string]bool, len(types))
	for _, typ := range types {
		subject, err := events.Filter(node, typ)
		if err != nil {
			return nil, err
		}
		if !seen[subject] { // versions of one type share a subject
			seen[subject] = true
			subjects = append(subjects, subject)
		}
	}
	return subjects, nil
}

// Last returns the last event of each of the types (none: of all) for each
// entity of the node, oldest first. Without a deadline it takes a few seconds
// at most.
func (b *Bus) Last(ctx context.Context, types ...string) ([]events.Event, error) {
	subjects, err := filters(b.node, types)
	if err != nil {
		return nil, fmt.Errorf("read last events: %w", err)
	}
	ctx, done, err := b.use(ctx)
	if err != nil {
		return nil, fmt.Errorf("read last events: %w", err)
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, bridged)
	defer cancel()
	for try := 1; ; try++ {
		found, err := b.readLast(ctx, subjects)
		if err == nil {
			return b.decodeLast(found, types), nil
		}
		if permanent(err) || errors.Is(err, ErrUnauthorized) || try == lastTries || sleep(ctx, pause) != nil {
			return nil, fmt.Errorf("read last events: %w", err)
		}
	}
}

// readLast reads the last message of each subject, through a consumer that
// lives as long as that takes.
func (b *Bus) readLast(ctx context.Context, subjects []string) (found []natsjs.Msg, err error) {
	period, err := b.link.wait(ctx, false)
	if err != nil {
		return nil, err
	}
	ctx, cancel := during(ctx, period)
	defer cancel()
	stream, err := b.stream(ctx)
	if err != nil {
		return nil, err
	}
	config := natsjs.ConsumerConfig{
		Name:              consumerName(b.node, "last "+uuid.NewString()),
		AckPolicy:         natsjs.AckNonePolicy,
		DeliverPolicy:     natsjs.DeliverLastPerSubjectPolicy,
		FilterSubjects:    subjects,
		InactiveThreshold: forgottenAfter,
		MemoryStorage:     true,
		Replicas:          1,
	}
	consumer, err := stream.CreateConsumer(ctx, config)
	if err != nil {
		return nil, err
	}
	defer b.deleteConsumer(ctx, config.Name)
	pending := int(consumer.CachedInfo().NumPending)
	for len(found) < pending {
		batch, err := consumer.FetchNoWait(min(lastBatch, pending-len(found)))
		if err != nil {
			return nil, err
		}
		before := len(found)
		for m := range batch.Messages() {
			found = append(found, m)
		}
		if err := batch.Error(); err != nil {
			return nil, err
		}
		if len(found) == before { // the rest has been replaced meanwhile
			break
		}
	}
	return found, ctx.Err()
}

// decodeLast keeps the newest of each subject: one may have been replaced
// while it was read.
func (b *Bus) decodeLast(found []natsjs.Msg, types []string) []events.Event {
	newest := make(map[string]int, len(found))
	for i, m := range found {
		newest[m.Subject()] = i
	}
	all := make([]events.Event, 0, len(newest))
	for i, m := range found {
		if newest[m.Subject()] != i {
			continue
		}
		e, err := decode(m.Headers(), m.Data())
		if err != nil {
			b.log.Warn("pass over event", "subject", m.Subject(), "error", err)
			continue
		}
		if wants(types, e.Type()) {
			all = append(all, e)
		}
	}
	return all
}

// deleteConsumer removes what nobody needs any more; what it misses, the server
// removes when it has been idle for some time.
func (b *Bus) deleteConsumer(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if !b.conn.IsConnected() {
		return
	}
	if err := b.js.DeleteConsumer(ctx, streamName, name); err != nil {
		b.log.Debug("delete consumer", "consumer", name, "error", err)
	}
}
