package plugin

import (
	"context"
	"errors"
	"fmt"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
)

// Service describes an external binary as a service. It is data, with two
// hooks; the steps from here to a ready service are the same for every
// service and stand in [Lifecycle].
type Service struct {
	Name        string // what people call it: "livekit"
	Unit        string // its name under the supervisor: "hero_livekit_media"
	Noun        string // noun of its state events: "media", or "service" where it has none of its own
	Description string
	Binary      binary.Spec
	Ports       []Port
	// Actions returns the actions that run this instance. It is a pure
	// function: the same instance has the same actions.
	Actions func(Instance) ([]Action, error)
	// Prove looks, from outside and now, whether the instance serves. It is
	// done within the time that ctx gives it.
	Prove func(context.Context, Instance, ServiceStatus) Proof
}

// Port is a port that the service needs on the loopback interface.
type Port struct {
	Name      string // how actions refer to it
	Network   string // "tcp" or "udp"
	Preferred int    // taken when it is free at the first start
	Pinned    bool   // no other will do: an error names who holds it
}

// Instance is a service on this machine: the binary it runs and where.
type Instance struct {
	Version string
	Binary  string // path of the acquired executable
	Lab     string // path of the lab executable
	Ports   map[string]int
	Paths   Paths
}

// Proof is what [Service.Prove] found.
type Proof struct {
	Checks       []events.CheckOutcome // in the order they were made
	URL          string                // where clients connect
	BackendURL   string
	Participants int
}

// Err returns the first check that failed, nil when the service is ready.
func (p Proof) Err() error {
	for _, c := range p.Checks {
		if !c.OK {
			return fmt.Errorf("%s: %w", c.Name, errors.New(c.Error))
		}
	}
	return nil
}
