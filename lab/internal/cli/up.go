package cli

import (
	"context"
	"errors"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/host"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/spf13/cobra"
)

func (a *App) upCommand() *cobra.Command {
	var version string
	var timeout time.Duration
	var embedded bool
	c := &cobra.Command{
		Use:   "up",
		Short: "Bring everything up and wait until LiveKit is proven ready",
		Long: `Brings up the supervisor, the bus, the plugin host, the control plane and the
media, and returns when LiveKit has accepted a token that lk-backend just
signed. What runs already is left alone, so running it again is harmless.

The first time, livekit-server is acquired: its release archive, or built from
its Go module where the release cannot be reached (some minutes).

NATS_URL, with credentials, makes lab use that cluster in place of its own bus.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usagef("--timeout is not positive")
			}
			if version != "" && version != plugin.BySettings {
				if err := binary.CheckVersion(version); err != nil {
					return usagef("--livekit-version: %w", err)
				}
			}
			ctx, cancel := context.WithTimeoutCause(c.Context(), timeout, errTimeout)
			defer cancel()
			return a.outcome(ctx, a.up(ctx, version, embedded))
		},
	}
	c.Flags().StringVar(&version, "livekit-version", "", "`version` of livekit-server, which then stays; \"settings\" returns to that of lab.toml")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait")
	c.Flags().BoolVar(&embedded, "embedded-bus", false, "return to the embedded bus from the cluster of an earlier NATS_URL")
	return c
}

var errTimeout = errors.New("timed out waiting")

// outcome tells a timeout and an interruption from other failures.
func (a *App) outcome(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errTimeout):
		return &exitError{exitTimedOut, hinted(err, "it goes on by itself: lab status says how far it is, --timeout waits longer")}
	case ctx.Err() != nil:
		return hinted(errors.New("interrupted"), "what was begun goes on by itself: lab status says how far it is, lab down stops it")
	}
	return err
}

func (a *App) up(ctx context.Context, version string, embedded bool) error {
	begun := time.Now()
	paths, err := a.Paths()
	if err != nil {
		return err
	}
	if err := checkRoot(paths, a.boxes(paths, "", busChoice{embedded: true})); err != nil {
		return err
	}
	build, err := installSelf(paths)
	if err != nil {
		return err
	}
	client, started, err := a.ensureSupervisor(ctx, paths, build)
	if err != nil {
		return err
	}
	if started {
		a.Say("hero_proc            started")
	}
	bus, err := chooseBus(ctx, client, paths.Node(), embedded)
	if err != nil {
		return err
	}
	if err := retireEmbedded(ctx, client, bus); err != nil {
		return err
	}
	renew, err := a.renewsHost(ctx, client)
	if err != nil {
		return err
	}
	for _, box := range a.boxes(paths, build, bus) {
		changed, err := bringUp(ctx, client, box, renew && box.Name == host.Name)
		if err != nil {
			return hinted(err, "lab service logs %s shows its output", box.Name)
		}
		if changed {
			a.Say("%-20s ready", box.Name)
			started = true
		}
	}
	state, brought, err := a.upMedia(ctx, client, version)
	if err != nil {
		return err
	}
	return a.upDone(state, started || brought, time.Since(begun))
}

// renewsHost reports whether the plugin host has to be started anew: it runs
// without what getting a binary needs of this environment, and there is no
// service of it yet that it would be away from.
func (a *App) renewsHost(ctx context.Context, client *procclient.Client) (bool, error) {
	since, err := keepEnvironment(ctx, client)
	if err != nil {
		return false, err
	}
	view, err := a.view(noBus{}, client, a.Media)
	if err != nil {
		return false, err
	}
	_, media, err := client.Get(ctx, view.Unit())
	if err != nil && !errors.Is(err, plugin.ErrNotFound) || media.Alive() {
		return false, err
	}
	_, status, err := client.Get(ctx, host.Name)
	if errors.Is(err, plugin.ErrNotFound) {
		return false, nil // it is about to be started
	}
	started, parse := time.Parse(time.RFC3339Nano, status.Action(host.Name).StartedAt)
	return parse == nil && started.Before(since), err
}

// upMedia asks for the media and follows the events until they are ready. It
// reports whether there was anything to do.
func (a *App) upMedia(ctx context.Context, client *procclient.Client, version string) (events.ServiceState, bool, error) {
	bus, err := a.Bus(ctx, "lab up", a.quiet())
	if err != nil {
		return events.ServiceState{}, false, err
	}
	defer bus.Close()
	view, err := a.view(bus, client, a.Media)
	if err != nil {
		return events.ServiceState{}, false, err
	}
	state, err := view.State(ctx)
	if err != nil {
		return state, false, err
	}
	if state.State == events.StateReady && (version == "" || version == state.Version) {
		return state, false, nil
	}
	if state.State == events.StateReady {
		a.Say("%s runs version %s; %s takes effect when it is restarted: lab service %s --restart", a.Media, state.Version, version, a.Media)
	}
	state, err = a.request(ctx, bus, view, events.StartRequested, events.Request{Service: a.Media, Version: version, Reason: "lab up"})
	return state, true, err
}

func (a *App) upDone(state events.ServiceState, changed bool, took time.Duration) error {
	if a.JSON {
		a.PrintJSON(map[string]any{"ready": true, "changed": changed, "media": state, "seconds": took.Seconds()})
		return nil
	}
	if changed {
		a.Say("%-20s ready: version %s, proven by a token it accepted", a.Media, state.Version)
	} else {
		a.Say("%s %s is ready already: nothing to do", a.Media, state.Version)
	}
	a.Say("  clients connect to  %s\n  join tokens         lab token --room ROOM --identity NAME\n  what runs           lab status", state.URL)
	return nil
}
