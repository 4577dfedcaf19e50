package events

import (
	"context"
	"errors"
)

// Bus carries events between processes.
//
// Publish returns once the event is stored and will survive the bus. Subscribe
// hands every event of the subscription to handle, one after the other and at
// least once, and returns nil when ctx ends; it outlives restarts of the bus by
// itself. An event counts as handled when handle returns nil or [ErrReject];
// after any other error it comes again, later. Last returns what the bus still
// has of one node: the last event of each of the types (none: of all) for each
// entity, oldest first.
type Bus interface {
	Publish(ctx context.Context, e Event) error
	Subscribe(ctx context.Context, sub Subscription, handle Handler) error
	Last(ctx context.Context, types ...string) ([]Event, error)
}

// Handler takes one event.
type Handler func(ctx context.Context, e Event) error

// Subscription says which events to deliver and from where. The zero value
// means every event of this node from now on, forgotten when it ends.
type Subscription struct {
	// Name makes the position durable: a subscription of the same name goes on
	// where the last one stopped. Of a name at a node there is one subscription
	// at a time; another one is [ErrHeld].
	Name string
	// Types selects events by their full type; none selects all.
	Types []string
	// From is where a subscription without a position yet begins.
	From Start
	// Ready, when set, is called once, when the subscription is in force: no
	// event published after that is missed.
	Ready func()
}

// Start is where a subscription begins.
type Start int

// The beginnings of a subscription.
const (
	FromNow  Start = iota // events published from now on
	FromLast              // the last event of each type and entity, then as FromNow without a gap
	FromAll               // everything the bus still keeps
)

// ErrHeld says that another subscription has the name.
var ErrHeld = errors.New("subscription name is held by another")

// ErrReject marks an event that no repetition will make acceptable: it is not
// delivered again. Wrap it to say why.
var ErrReject = errors.New("event rejected")
