// Package eventstest has what tests of and with events need: a bus in memory
// and the suite that every bus passes.
package eventstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
)

var _ events.Bus = (*Memory)(nil)

const (
	maxAttempts  = 20
	firstRetry   = 10 * time.Millisecond
	longestRetry = time.Second
)

// Memory is a bus in memory, seen from one node. It keeps every event for as
// long as it is referred to. It may be used by many goroutines; there is
// nothing to close.
type Memory struct {
	node  string
	store *store
}

// NewBus returns an empty bus, seen from the node "test".
func NewBus() *Memory {
	s := &store{seen: map[string]bool{}, durables: map[string]*cursor{}, held: map[string]bool{}}
	s.changed = make(chan struct{})
	return &Memory{node: "test", store: s}
}

// At returns the same bus, seen from another node.
func (m *Memory) At(node string) *Memory { return &Memory{node: node, store: m.store} }

// store is what the nodes share.
type store struct {
	mu       sync.Mutex
	changed  chan struct{} // closed with the next event
	entries  []entry       // in the order of their publication
	seen     map[string]bool
	durables map[string]*cursor
	held     map[string]bool
}

type entry struct {
	node    string
	subject string
	event   events.Event
}

// cursor is the position of a subscription.
type cursor struct {
	first []int // entries to deliver before all others
	next  int   // the entry to look at next
	again []retry
}

// retry is an entry that its handler failed on.
type retry struct {
	entry    int
	attempts int
	due      time.Time
}

// Publish keeps the event. One of the same source and id is kept once.
func (m *Memory) Publish(ctx context.Context, e events.Event) error {
	if err := errors.Join(e.Validate(), ctx.Err()); err != nil {
		return fmt.Errorf("publish %s: %w", e.Type(), err)
	}
	subject, err := events.Subject(m.node, e)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	s := m.store
	s.mu.Lock()
	defer s.mu.Unlock()
	id := m.node + "\x00" + e.Source() + "\x00" + e.ID()
	if s.seen[id] {
		return nil
	}
	s.seen[id] = true
	s.entries = append(s.entries, entry{node: m.node, subject: subject, event: e.Clone()})
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// Last returns the last event of each type and entity of the node.
func (m *Memory) Last(ctx context.Context, types ...string) ([]events.Event, error) {
	if err := errors.Join(m.check(types), ctx.Err()); err != nil {
		return nil, fmt.Errorf("read last events: %w", err)
	}
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	last := []events.Event{}
	for _, i := range m.last(types) {
		last = append(last, m.store.entries[i].event.Clone())
	}
	return last, nil
}

// Subscribe hands the events to handle until ctx ends.
func (m *Memory) Subscribe(ctx context.Context, sub events.Subscription, handle events.Handler) error {
	if err := m.check(sub.Types); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	position, release, err := m.open(sub)
	if err != nil {
		return fmt.Errorf("subscribe as %q: %w", sub.Name, err)
	}
	defer release()
	if sub.Ready != nil {
		sub.Ready()
	}
	for ctx.Err() == nil {
		r, e, changed := m.take(position, sub.Types)
		if changed == nil {
			m.settle(ctx, position, r, handle(ctx, e))
			continue
		}
		var due <-chan time.Time
		if !r.due.IsZero() {
			due = time.After(time.Until(r.due))
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-due:
		}
	}
	return nil
}

func (m *Memory) check(types []string) error {
	for _, typ := range append([]string{""}, types...) {
		if _, err := events.Filter(m.node, typ); err != nil {
			return err
		}
	}
	return nil
}

// open returns the position of the subscription and what gives up its name.
func (m *Memory) open(sub events.Subscription) (*cursor, func(), error) {
	s := m.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.Name == "" {
		return m.begin(sub), func() {}, nil
	}
	name := m.node + "\x00" + sub.Name
	if s.held[name] {
		return nil, nil, events.ErrHeld
	}
	if s.durables[name] == nil {
		s.durables[name] = m.begin(sub)
	}
	s.held[name] = true
	return s.durables[name], func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.held, name)
	}, nil
}

func (m *Memory) begin(sub events.Subscription) *cursor {
	switch sub.From {
	case events.FromAll:
		return &cursor{}
	case events.FromLast:
		return &cursor{first: m.last(sub.Types), next: len(m.store.entries)}
	default:
		return &cursor{next: len(m.store.entries)}
	}
}

// last returns the last entry of each subject that the types select, oldest
// first.
func (m *Memory) last(types []string) []int {
	newest := map[string]int{}
	for i, e := range m.store.entries {
		if e.node == m.node {
			newest[e.subject] = i
		}
	}
	var last []int
	for _, i := range newest {
		if m.wants(i, types) {
			last = append(last, i)
		}
	}
	slices.Sort(last)
	return last
}

func (m *Memory) wants(i int, types []string) bool {
	e := m.store.entries[i]
	return e.node == m.node && (len(types) == 0 || slices.Contains(types, e.event.Type()))
}

// take returns what to deliver now. When there is nothing it returns a channel
// that is closed with the next event, and the retry that is due next, if any.
func (m *Memory) take(c *cursor, types []string) (retry, events.Event, <-chan struct{}) {
	s := m.store
	s.mu.Lock()
	defer s.mu.Unlock()
	var soonest retry
	if len(c.again) > 0 {
		soonest = c.again[0]
		if !time.Now().Before(soonest.due) {
			c.again = c.again[1:]
			return soonest, s.entries[soonest.entry].event.Clone(), nil
		}
	}
	if len(c.first) > 0 {
		i := c.first[0]
		c.first = c.first[1:]
		return retry{entry: i}, s.entries[i].event.Clone(), nil
	}
	for c.next < len(s.entries) {
		i := c.next
		c.next++
		if m.wants(i, types) {
			return retry{entry: i}, s.entries[i].event.Clone(), nil
		}
	}
	return soonest, events.Event{}, s.changed
}

// settle decides from the outcome whether the entry comes again.
func (m *Memory) settle(ctx context.Context, c *cursor, r retry, err error) {
	if err == nil || errors.Is(err, events.ErrReject) {
		return
	}
	r.attempts++
	wait := min(firstRetry<<(r.attempts-1), longestRetry)
	if ctx.Err() != nil {
		wait = 0
	}
	if r.attempts >= maxAttempts {
		return
	}
	r.due = time.Now().Add(wait)
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	c.again = append(c.again, r)
	slices.SortStableFunc(c.again, func(a, b retry) int { return a.due.Compare(b.due) })
}
