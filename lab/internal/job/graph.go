// Package job is about work that depends on other work: a graph of named nodes
// and a runner that runs them in its order.
//
// # Contract
//
// A [Graph] is data; [Graph.Validate] finds every mistake in it that would make
// an order impossible: a name given twice, a dependency on nothing, a cycle.
// [Run] starts each node as soon as all it depends on has succeeded, nodes that
// do not depend on each other at the same time. A node that fails takes with it
// only those that need it.
//
// The package uses the standard library only and starts no goroutine that
// outlives a call.
package job

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Node is one piece of work and the names of what must have succeeded first.
type Node struct {
	Name      string
	DependsOn []string
}

// Graph is a set of nodes, in the order in which they were declared.
type Graph []Node

// Error is one mistake in a graph.
type Error struct {
	Path    string // where it was declared, such as "actions[1].depends_on[0]"
	Message string
}

func (e *Error) Error() string { return e.Path + ": " + e.Message }

// Validate returns every mistake in the graph, joined, each an [*Error]; nil
// when there is none. list is what the nodes' declaration is called, such as
// "actions", and begins each path.
func (g Graph) Validate(list string) error {
	var errs []error
	complain := func(path, format string, args ...any) {
		errs = append(errs, &Error{Path: list + path, Message: fmt.Sprintf(format, args...)})
	}
	first := make(map[string]int, len(g))
	for i, n := range g {
		if at, ok := first[n.Name]; ok {
			complain(fmt.Sprintf("[%d].name", i), "%q is the name of %s[%d] already", n.Name, list, at)
			continue
		}
		first[n.Name] = i
	}
	for i, n := range g {
		for k, dep := range n.DependsOn {
			path := fmt.Sprintf("[%d].depends_on[%d]", i, k)
			if _, ok := first[dep]; !ok {
				complain(path, "unknown name %q", dep)
			} else if slices.Index(n.DependsOn, dep) < k {
				complain(path, "%q is named twice", dep)
			}
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if at, cycle := g.cycle(first); cycle != nil {
		complain(fmt.Sprintf("[%d].depends_on", at), "cycle %s", strings.Join(cycle, " -> "))
	}
	return errors.Join(errs...)
}

// cycle returns a way through the graph that ends where it begins, and the
// index of that node; nil when there is none. The names are known to be good.
func (g Graph) cycle(index map[string]int) (int, []string) {
	const (
		unseen = iota
		onPath
		done
	)
	mark := make([]int, len(g))
	var path []string
	var visit func(i int) []string
	visit = func(i int) []string {
		switch mark[i] {
		case done:
			return nil
		case onPath:
			from := slices.Index(path, g[i].Name)
			return append(slices.Clone(path[from:]), g[i].Name)
		}
		mark[i] = onPath
		path = append(path, g[i].Name)
		for _, dep := range g[i].DependsOn {
			if cycle := visit(index[dep]); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		mark[i] = done
		return nil
	}
	for i := range g {
		if cycle := visit(i); cycle != nil {
			return index[cycle[0]], cycle
		}
	}
	return 0, nil
}
