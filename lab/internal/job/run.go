package job

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrSkipped marks a node that was not run because one that it depends on did
// not succeed.
var ErrSkipped = errors.New("skipped")

// NodeError says which node did not succeed and why; Err is [ErrSkipped] where
// it was not run at all.
type NodeError struct {
	Name string
	Err  error
}

func (e *NodeError) Error() string { return e.Name + ": " + e.Err.Error() }

// Unwrap returns why.
func (e *NodeError) Unwrap() error { return e.Err }

// Run calls fn once for each node, each as soon as all it depends on has
// returned nil and independent ones at the same time, and returns when all
// calls have. A graph that is not valid is not begun.
//
// The error joins a [*NodeError] for each node that did not succeed, in the
// order of the graph. When ctx ends, no further node is begun; those under way
// see it in their context.
func Run(ctx context.Context, graph Graph, fn func(ctx context.Context, name string) error) error {
	if err := graph.Validate("graph"); err != nil {
		return err
	}
	outcome := make(map[string]*result, len(graph))
	for _, n := range graph {
		outcome[n.Name] = &result{done: make(chan struct{})}
	}
	var wg sync.WaitGroup
	for _, n := range graph {
		wg.Go(func() {
			mine := outcome[n.Name]
			defer close(mine.done)
			if mine.err = await(ctx, n, outcome); mine.err == nil {
				mine.err = fn(ctx, n.Name)
			}
		})
	}
	wg.Wait()
	var errs []error
	for _, n := range graph {
		if err := outcome[n.Name].err; err != nil {
			errs = append(errs, &NodeError{Name: n.Name, Err: err})
		}
	}
	return errors.Join(errs...)
}

// result is how a node ended; err may be read once done is closed.
type result struct {
	done chan struct{}
	err  error
}

// await returns nil when everything that n depends on has succeeded.
func await(ctx context.Context, n Node, outcome map[string]*result) error {
	for _, dep := range n.DependsOn {
		select {
		case <-outcome[dep].done:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrSkipped, context.Cause(ctx))
		}
		if outcome[dep].err != nil {
			return fmt.Errorf("%w, it depends on %s, which did not succeed", ErrSkipped, dep)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrSkipped, context.Cause(ctx))
	}
	return nil
}
