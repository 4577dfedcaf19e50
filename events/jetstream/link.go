package jetstream

import (
	"context"
	"fmt"
	"sync"
)

// state is that of the connection.
type state bool

const (
	up   state = true
	down state = false
)

// link tells those who wait how the connection is.
type link struct {
	mu      sync.Mutex
	state   state
	refusal error // the server said no to the credentials since the link was last up
	// period ends with the next change: requests that wait for an answer to
	// what an earlier connection carried wait in vain.
	period context.Context
	end    context.CancelFunc
}

func newLink() *link {
	l := &link{}
	l.period, l.end = context.WithCancel(context.Background())
	return l
}

func (l *link) set(s state, refusal error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state, l.refusal = s, refusal
	l.end()
	l.period, l.end = context.WithCancel(context.Background())
}

// watch returns how the link is, a context that ends when that changes, and
// why the credentials are refused, if they are.
func (l *link) watch() (s state, period context.Context, refusal error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.period, l.refusal
}

// during returns a context that ends with the period, too.
func during(ctx, period context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(period, cancel)
	return ctx, func() { stop(); cancel() }
}

// wait waits until the link is up and returns a context that ends when it is
// not any more. That the credentials are refused ends the wait as well, unless
// they may yet become valid.
func (l *link) wait(ctx context.Context, patient bool) (context.Context, error) {
	for {
		state, period, refusal := l.watch()
		if state == up {
			return period, nil
		}
		if refusal != nil && !patient {
			return nil, fmt.Errorf("%w: %w", ErrUnauthorized, refusal)
		}
		select {
		case <-period.Done():
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the bus: %w", context.Cause(ctx))
		}
	}
}
