package cli

import (
	"context"
	"errors"
	"os"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/host"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/proc"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/spf13/cobra"
)

// procCommand is hero_proc itself: the keeper, and below it the supervisor.
func (a *App) procCommand() *cobra.Command {
	var supervise bool
	c := &cobra.Command{
		Use:   "proc",
		Short: "Run hero_proc, the supervisor (lab up starts it), or ask it",
		Long: `Without a command lab proc is hero_proc: a keeper, and below it the supervisor
of all processes. The commands below ask the one that runs. They need neither
bus nor plugins; what a plugin looks after is better asked for by lab service.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			paths, err := a.Paths()
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			build, err := digest(self)
			if err != nil {
				return err
			}
			config := proc.Config{
				Paths: paths, Version: a.supervisorVersion(build), Log: a.Logger(a.Stderr),
				Command: []string{executable(paths), "--root", paths.Root, "--log-level", a.logLevel, "proc"},
			}
			if supervise {
				err := proc.Supervise(c.Context(), config)
				if errors.Is(err, proc.ErrRestart) {
					return &exitError{code: proc.ExitCode(err)} // nothing is wrong: nothing to tell
				}
				if err != nil {
					return &exitError{proc.ExitCode(err), err}
				}
				return nil
			}
			return proc.Keep(c.Context(), config)
		},
	}
	c.AddCommand(a.procCommands()...)
	c.Flags().BoolVar(&supervise, "supervise", false, "be the supervisor below a keeper")
	_ = c.Flags().MarkHidden("supervise") // the flag exists: it was made one line above
	return c
}

func (a *App) busCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "bus",
		Short: "Run hero_bus, the embedded NATS server (run by the supervisor)",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.runBus(c.Context()) },
	}
}

func (a *App) hostCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "host",
		Short: "Run lab_host, which runs the plugins (run by the supervisor)",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.runHost(c.Context()) },
	}
}

func (a *App) runHost(ctx context.Context) error {
	log := a.Logger(a.Stdout)
	client, paths, err := a.Supervisor()
	if err != nil {
		return err
	}
	if err := takeEnvironment(ctx, client); err != nil {
		return err
	}
	bus, err := a.Bus(ctx, host.Name, log)
	if err != nil {
		return err
	}
	defer bus.Close()
	h := &host.Host{
		Host: plugin.Host{
			Paths: paths, Node: paths.Node(), Lab: executable(paths), Bus: bus,
			Supervisor: client, Secrets: client, Log: log,
			Binaries: binary.NewStore(paths.Store(), binary.Options{Log: log}),
		},
		Version: a.Version,
		Watcher: client,
	}
	for _, factory := range a.Plugins {
		p, err := factory.New(h.Host, a.settingsOf(paths, factory.Name))
		if err != nil {
			return err
		}
		h.Plugins = append(h.Plugins, p)
	}
	return h.Run(ctx, nil)
}
