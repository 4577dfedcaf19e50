// Package jetstream carries events over NATS JetStream: a [Bus] that speaks to
// a server or cluster by URL, and [Server], which embeds one.
//
// # What it promises
//
// An event that [Bus.Publish] took is stored: on the embedded server that means
// flushed to disk, so neither a kill of the server nor a power cut loses it. It
// is delivered at least once. Duplicates are rare and always possible: they
// come after a crash between handling and acknowledging, and when the same
// event is published again later than the server remembers its id.
//
// Events of one subscription are handled one after the other, in the order in
// which they were stored. One that its handler fails on comes again after a
// growing pause, behind what came meanwhile, and is given up with an error in
// the log after [MaxAttempts].
//
// # Outages
//
// The bus may be restarted or killed, its consumers and even its stream may be
// deleted: subscriptions notice, make anew what is gone and go on where they
// were. Publish bridges a short outage; repeating it stores nothing twice.
//
// # On the wire
//
// Events travel in the binary mode of the CloudEvents binding for NATS, on the
// subjects of [events.Subject], in the one stream HERO; the structured mode is
// understood too. Other nodes share the stream and do not see each other's
// events.
//
// # Concurrency and lifetime
//
// A Bus may be used by many goroutines. It is one connection; Close ends what
// runs on it and waits for that.
//
// Credentials are in no error and in no log line.
package jetstream

import (
	"errors"

	"forge.ourworld.tf/lhumina_code/lab/events"
)

// What callers may want to tell apart.
var (
	// ErrUnauthorized says that the server refuses the credentials.
	ErrUnauthorized = errors.New("credentials refused by the bus")
	// ErrTooLarge says that an event exceeds what the server accepts.
	ErrTooLarge = errors.New("event too large for the bus")
	// ErrMalformed says that a message is no CloudEvent, or that an event
	// cannot be expressed as one.
	ErrMalformed = errors.New("malformed event")
	// ErrClosed says that the Bus was closed.
	ErrClosed = errors.New("bus closed")
)

var _ events.Bus = (*Bus)(nil)
