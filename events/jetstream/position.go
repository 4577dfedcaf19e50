package jetstream

import (
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// remembered is how many handled events a subscription recognises when they are
// delivered again.
const remembered = 4096

// position is how far a subscription has come in the stream. It outlives the
// consumer on the server, so that a consumer that is lost can be made again
// without a gap, and what it then repeats is recognised.
type position struct {
	stream time.Time // when the stream was created: another one counts anew
	begun  bool      // there is a position; else the subscription begins as it was asked to
	again  bool      // the stream is not the first one: all of it is new

	floor    uint64 // everything up to here was handled before this subscription
	highest  uint64 // the highest number that was delivered
	open     map[uint64]struct{}
	handled  map[uint64]struct{}
	order    []uint64 // of handled, a ring
	oldest   int
	inherits int    // events that a predecessor left unfinished
	upTo     uint64 // the highest number a predecessor saw
}

func newPosition() position {
	return position{open: map[uint64]struct{}{}, handled: map[uint64]struct{}{}}
}

// onStream notes on which stream the subscription is. It reports whether the
// one before was lost.
func (p *position) onStream(info *natsjs.StreamInfo) (lost bool) {
	switch {
	case p.stream.IsZero():
		p.stream = info.Created
	case !p.stream.Equal(info.Created):
		*p = newPosition()
		p.stream, p.again = info.Created, true
		return true
	case p.begun && info.State.LastSeq+1 < p.next(): // it came back from its disk with less than we saw
		again := newPosition()
		again.stream, again.begun, again.floor = p.stream, true, info.State.LastSeq
		*p = again
		return true
	}
	return false
}

// attached notes the position that the server has for a consumer, which was
// just made or whose name was taken up.
func (p *position) attached(info *natsjs.ConsumerInfo, made bool) {
	if p.begun {
		return
	}
	if made && info.NumPending > 0 {
		return // begins with the first event
	}
	p.begun = true
	if made {
		p.floor = info.Delivered.Stream
		return
	}
	p.floor = info.AckFloor.Stream
	p.highest = info.Delivered.Stream
	p.inherits, p.upTo = info.NumAckPending, info.Delivered.Stream
}

// isHandled reports whether the event was handled by this subscription.
func (p *position) isHandled(seq uint64) bool {
	_, ok := p.handled[seq]
	return ok
}

// deliver notes that an event arrived and is not settled yet.
func (p *position) deliver(seq uint64) {
	if !p.begun {
		p.begun, p.floor = true, seq-1
	}
	p.highest = max(p.highest, seq)
	p.open[seq] = struct{}{}
}

// settle notes that an event need not come again.
func (p *position) settle(seq uint64) {
	delete(p.open, seq)
	if seq <= p.upTo && p.inherits > 0 {
		p.inherits--
	}
	if len(p.order) < remembered {
		p.order = append(p.order, seq)
	} else {
		delete(p.handled, p.order[p.oldest])
		p.order[p.oldest] = seq
		p.oldest = (p.oldest + 1) % remembered
	}
	p.handled[seq] = struct{}{}
}

// next returns from where a new consumer has to deliver.
func (p *position) next() uint64 {
	if p.inherits > 0 {
		return p.floor + 1
	}
	next := max(p.highest, p.floor) + 1
	for seq := range p.open {
		next = min(next, seq)
	}
	return next
}
