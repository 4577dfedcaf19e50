package plugin

import (
	"context"
	"log/slog"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
)

// Plugin reacts to events for as long as its host lives.
type Plugin interface {
	// Name is the subject of the requests that are meant for it.
	Name() string
	// Unit is the supervisor's name of the service it looks after; events of
	// that service's jobs reach the plugin too.
	Unit() string
	// Handle takes a request or an event of the unit. It records and returns;
	// what takes long belongs to Run. An error makes the event come again.
	Handle(ctx context.Context, e events.Event) error
	// Run does the plugin's work until ctx ends.
	Run(ctx context.Context) error
}

// Factory makes a plugin from its table in the settings.
type Factory struct {
	Name string // of the plugin, and of its table in the settings
	Unit string // of the service it looks after, under the supervisor
	New  func(host Host, settings Settings) (Plugin, error)
}

// Settings reads a plugin's table from the settings file as it is now; nil
// where there is none.
type Settings func() (map[string]any, error)

// Host is what a plugin finds around it.
type Host struct {
	Paths      Paths
	Node       string // of the bus
	Lab        string // path of the lab executable, for actions that it runs
	Bus        events.Bus
	Supervisor Supervisor
	Secrets    Secrets
	Binaries   Acquirer
	Log        *slog.Logger
}

// Source is the source of the events that a process of this host publishes.
func (h Host) Source(process string) string { return "/lab/" + h.Node + "/" + process }

// Acquirer gets binaries; [*binary.Store] is the one for real.
type Acquirer interface {
	Acquire(ctx context.Context, spec binary.Spec, progress func(binary.Progress)) (binary.Installed, error)
}
