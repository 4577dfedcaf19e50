// Package events is the vocabulary of lab: what the processes tell each other
// and in which words. It knows no transport; package [events/jetstream] carries
// these events over NATS, package eventstest keeps them in memory for tests.
//
// # Contract
//
// An event is a CloudEvent 1.0. Its type is [Prefix] plus noun, past tense and
// version ("media.ready.v1"); requests end in "_requested". Its subject is the
// name of the service it speaks of, its partition key the entity whose order
// counts ([Entity]).
//
// Events are triggers, never instructions: one may come late, twice, out of
// order or not at all. Whoever handles one re-reads what is wanted and what is,
// and moves the one toward the other.
//
// A secret, a token or the value of an environment variable is never in an
// event.
package events

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/google/uuid"
)

// Event is a CloudEvent 1.0.
type Event = event.Event

// Prefix begins the type of every event of lab.
const Prefix = "tf.ourworld.hero."

// The types of events, with the data each carries.
const (
	LabStarted  = Prefix + "lab.started.v1"  // [Lab]
	LabStopping = Prefix + "lab.stopping.v1" // [Lab]

	StartRequested   = Prefix + "service.start_requested.v1"   // [Request]
	StopRequested    = Prefix + "service.stop_requested.v1"    // [Request]
	RestartRequested = Prefix + "service.restart_requested.v1" // [Request]
	UpgradeRequested = Prefix + "service.upgrade_requested.v1" // [Request]

	AcquireProgressed = Prefix + "binary.acquire_progressed.v1" // [AcquireProgress]
	Acquired          = Prefix + "binary.acquired.v1"           // [Acquisition]
	AcquireFailed     = Prefix + "binary.acquire_failed.v1"     // [AcquireFailure]

	Registered      = Prefix + "service.registered.v1" // [Registration]
	Removed         = Prefix + "service.removed.v1"    // [Registration]
	JobStateChanged = Prefix + "job.state_changed.v1"  // [JobState]

	MediaConfigured = Prefix + "media.configured.v1" // [ServiceState]
)

// StateType returns the type that announces state (ready, degraded, draining,
// stopped, failed) of the noun ("media" for LiveKit, "service" for any other).
func StateType(noun, state string) string { return Prefix + noun + "." + state + ".v1" }

// Lab is the data of [LabStarted] and [LabStopping].
type Lab struct {
	Node    string `json:"node"`
	Version string `json:"version"`
}

// Request is the data of the *_requested events. When the event carries the
// extension "expirytime" it is not acted upon after that moment.
type Request struct {
	Service string `json:"service"`
	Version string `json:"version,omitempty"` // of the binary; empty: as registered, or the plugin's default
	Reason  string `json:"reason,omitempty"`
	Force   bool   `json:"force,omitempty"` // stop without waiting for participants
}

// AcquireProgress is the data of [AcquireProgressed].
type AcquireProgress struct {
	Binary  string `json:"binary"`
	Version string `json:"version"`
	Source  string `json:"source"`           // which source is at work: store, installed, release, gomodule
	Step    string `json:"step"`             // resolve, download, verify, unpack, build, skipped
	Bytes   int64  `json:"bytes,omitempty"`  // done so far
	Total   int64  `json:"total,omitempty"`  // zero when unknown
	Detail  string `json:"detail,omitempty"` // one line for people, such as why a source was passed over
}

// Acquisition is the data of [Acquired].
type Acquisition struct {
	Binary  string `json:"binary"`
	Version string `json:"version"`
	Source  string `json:"source"`
	Digest  string `json:"digest"` // "sha256:" and the digest of the executable in hexadecimal
	Path    string `json:"path"`
	Bytes   int64  `json:"bytes"`
	Cached  bool   `json:"cached"` // it was in the store already
}

// AcquireFailure is the data of [AcquireFailed].
type AcquireFailure struct {
	Binary  string `json:"binary"`
	Version string `json:"version"`
	Class   string `json:"class"` // one of the error classes of package binary
	Message string `json:"message"`
	URL     string `json:"url,omitempty"`
	Hint    string `json:"hint,omitempty"` // what to do next
}

// Registration is the data of [Registered] and [Removed].
type Registration struct {
	Service string   `json:"service"`
	Unit    string   `json:"unit"` // its name under hero_proc
	Actions []string `json:"actions,omitempty"`
}

// JobState is the data of [JobStateChanged]: what the supervisor saw.
type JobState struct {
	Service  string `json:"service"`
	Action   string `json:"action"`
	From     string `json:"from"`
	To       string `json:"to"`
	PID      int    `json:"pid,omitempty"`
	ExitCode *int   `json:"exit_code,omitempty"`
	Signal   string `json:"signal,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// The states of a service that [ServiceState] announces.
const (
	StateUnknown    = "unknown"    // never announced
	StateConfigured = "configured" // registered and on its way
	StateReady      = "ready"      // proven: it serves
	StateDegraded   = "degraded"   // wanted and partly there, but not proven
	StateDraining   = "draining"   // asked to stop, serves the participants it has
	StateStopped    = "stopped"    // not wanted and not there
	StateFailed     = "failed"     // wanted, and cannot be brought up without help
)

// ServiceState is the data of the events of [StateType]: the whole state of a
// service at one revision.
type ServiceState struct {
	State        string         `json:"state"`
	Since        time.Time      `json:"since,omitzero"`
	Revision     uint64         `json:"revision"` // grows with every state of the entity: drop what is not greater
	Version      string         `json:"version,omitempty"`
	URL          string         `json:"url,omitempty"`         // where clients connect
	BackendURL   string         `json:"backend_url,omitempty"` // where join tokens are had
	Participants int            `json:"participants"`
	Reason       string         `json:"reason,omitempty"`
	Checks       []CheckOutcome `json:"checks,omitempty"`
}

// CheckOutcome says what one probe of a service found.
type CheckOutcome struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// New makes an event of the type, said by source (a path such as
// "/lab/NODE/host"), about subject (a service), with data as JSON.
func New(typ, source, subject string, data any) (Event, error) {
	e := event.New()
	e.SetID(uuid.NewString())
	e.SetType(typ)
	e.SetSource(source)
	e.SetSubject(subject)
	e.SetTime(time.Now())
	e.SetExtension("partitionkey", subject)
	if err := e.SetData(event.ApplicationJSON, data); err != nil {
		return e, fmt.Errorf("encode data of %s: %w", typ, err)
	}
	if err := e.Validate(); err != nil {
		return e, fmt.Errorf("make event %s: %w", typ, err)
	}
	return e, nil
}

// Caused marks e as the consequence of cause: it belongs to the same story
// (correlationid), follows from that event (causationid) and its trace goes on.
func Caused(e *Event, cause Event) {
	correlation := Extension(cause, "correlationid")
	if correlation == "" {
		correlation = cause.ID()
	}
	e.SetExtension("correlationid", correlation)
	e.SetExtension("causationid", cause.ID())
	if trace := Extension(cause, "traceparent"); trace != "" {
		e.SetExtension("traceparent", trace)
	}
}

// Extension returns the extension attribute in its canonical text form, empty
// when it is absent: transports do not keep its type.
func Extension(e Event, name string) string {
	v, ok := e.Extensions()[name]
	if !ok {
		return ""
	}
	text, err := types.Format(v)
	if err != nil {
		return "" // the SDK lets no such value in
	}
	return text
}

// Expired reports whether the event carries an expirytime that now has passed.
// An expirytime that cannot be read counts as passed.
func Expired(e Event, now time.Time) bool {
	at := Extension(e, "expirytime")
	if at == "" {
		return false
	}
	t, err := time.Parse(time.RFC3339Nano, at)
	return err != nil || now.After(t)
}

// Entity returns the key whose events stay in order: the partition key, or
// else the subject.
func Entity(e Event) string {
	if key := Extension(e, "partitionkey"); key != "" {
		return key
	}
	return e.Subject()
}

// Data decodes the data of e. Fields that T does not know are accepted: a
// newer minor version of a type may carry more.
func Data[T any](e Event) (T, error) {
	var data T
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return data, fmt.Errorf("decode data of %s %s: %w", e.Type(), e.ID(), err)
	}
	return data, nil
}
