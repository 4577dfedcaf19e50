//go:build linux

package proc

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/job"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// needs are the services that are to be up before spec's, and to go down after.
func needs(spec plugin.ServiceSpec) []string { return slices.Concat(spec.Requires, spec.After) }

// checkOrder refuses a registration with which services would wait for each
// other in a circle. A name that nobody has registered may come later.
func (s *supervisor) checkOrder(spec plugin.ServiceSpec) error {
	specs := map[string]plugin.ServiceSpec{spec.Name: spec}
	for name, svc := range s.services {
		if name != spec.Name {
			specs[name] = svc.Spec
		}
	}
	var graph job.Graph
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		node := job.Node{Name: name}
		for _, other := range needs(specs[name]) {
			if _, known := specs[other]; known && !slices.Contains(node.DependsOn, other) {
				node.DependsOn = append(node.DependsOn, other)
			}
		}
		graph = append(graph, node)
	}
	var circle *job.Error
	if errors.As(graph.Validate("services"), &circle) {
		return fmt.Errorf("requires, after: %s", circle.Message)
	}
	return nil
}

// held says which other service keeps the actions of svc from starting;
// nothing when none does.
func (s *supervisor) held(svc *service, now time.Time) string {
	for _, name := range svc.Spec.Requires {
		switch other := s.services[name]; {
		case other == nil:
			return "waits for service " + name + ", which is not registered"
		case other.Wanted != plugin.WantStart:
			return "waits for service " + name + ", which is not to run: start it"
		case !other.status(now).Ready:
			return "waits for service " + name + ", which is not ready"
		}
	}
	for _, name := range svc.Spec.After {
		other := s.services[name]
		if other != nil && other.Wanted == plugin.WantStart && !other.status(now).Ready {
			return "comes after service " + name + ", which is not ready"
		}
	}
	return ""
}

// staying returns the services that are not to go down yet although everything
// is: those that others need, which go first, and those that were named to go
// last, with what they need.
func (s *supervisor) staying() map[string]bool {
	if s.leave == nil {
		return nil
	}
	last := map[string]bool{}
	var mark func(name string)
	mark = func(name string) {
		svc := s.services[name]
		if svc == nil || last[name] {
			return
		}
		last[name] = true
		for _, other := range needs(svc.Spec) {
			mark(other)
		}
	}
	for _, name := range s.leave.Last {
		mark(name)
	}
	stay := map[string]bool{}
	for name, svc := range s.services {
		if !svc.alive() {
			continue
		}
		for _, other := range needs(svc.Spec) {
			stay[other] = true
		}
		if !last[name] {
			maps.Copy(stay, last)
		}
	}
	return stay
}
