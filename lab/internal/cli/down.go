package cli

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/proc"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/spf13/cobra"
)

func (a *App) downCommand() *cobra.Command {
	var force bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop everything, the calls last",
		Long: `Stops all services and then the supervisor. The media go last and are drained:
calls that are on go on, and livekit-server ends after the last participant has
left. --force does not wait for them. Everything on disk stays: lab up goes on.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
				defer cancel()
			}
			return a.outcome(ctx, a.down(ctx, force))
		},
	}
	c.Flags().BoolVar(&force, "force", false, "end calls that are on")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: as long as calls last)")
	return c
}

func (a *App) down(ctx context.Context, force bool) error { return a.downOnce(ctx, force, false) }

// downOnce stops everything, and tries again once where hero_proc was killed
// over it.
func (a *App) downOnce(ctx context.Context, force, again bool) error {
	client, paths, err := a.Supervisor()
	if err != nil {
		return err
	}
	info, err := client.Info(ctx)
	if rpc.IsDown(err) {
		left, err := proc.LeftBehind(paths)
		if err != nil {
			return err
		}
		if !left {
			return a.did(nil, "nothing runs here: there was nothing to stop")
		}
		// What runs without a supervisor has to be adopted to be stopped in order.
		if client, _, err = a.ensureSupervisor(ctx, paths, ""); err != nil && force {
			return a.did(proc.EndLeftBehind(ctx, paths), "what hero_proc had left behind was ended; it cannot start: %s", message(err))
		}
		if err != nil {
			return hinted(err, "lab down --force ends what runs without it")
		}
		if info, err = client.Info(ctx); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	view, err := a.view(noBus{}, procclient.Impatient(paths), a.Media) // which is about to end
	if err != nil {
		return err
	}
	if err := client.Shutdown(ctx, force, view.Unit()); err != nil {
		return err
	}
	if err := a.awaitDown(ctx, paths, info, view); err != nil {
		return err
	}
	left, err := proc.LeftBehind(paths)
	switch {
	case err != nil:
		return err
	case left && again:
		return hinted(errors.New("processes of this installation are left that do not end"), "those with PATH_ROOT=%s in their environment", paths.Root)
	case left: // hero_proc was killed before it was done
		return a.downOnce(ctx, force, true)
	}
	return a.did(nil, "everything is stopped")
}

// awaitDown returns when supervisor and keeper are gone, and meanwhile tells
// how many participants they wait for.
func (a *App) awaitDown(ctx context.Context, paths plugin.Paths, info procclient.Info, view stater) error {
	said := ""
	return ready.Wait(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		if _, err := procclient.Impatient(paths).Info(ctx); rpc.IsDown(err) {
			if alive(info.KeeperPID) || alive(info.PID) {
				return errors.New("hero_proc is ending")
			}
			return nil
		}
		state, err := view.State(ctx)
		if err == nil && state.State == events.StateDraining && state.Participants > 0 {
			if line := fmt.Sprintf("%-20s %s (--force does not wait)", view.Name(), stateLine(state)); line != said {
				a.Say("%s", line)
				said = line
			}
		}
		return fmt.Errorf("%s is %s", view.Name(), state.State)
	})
}

func alive(pid int) bool {
	return pid > 0 && syscall.Kill(pid, 0) == nil
}
