package main

import (
	"errors"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/cli"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	livekit "forge.ourworld.tf/lhumina_code/lab/service_livekit"
	"forge.ourworld.tf/lhumina_code/lab/service_livekit/backend"
	"forge.ourworld.tf/lhumina_code/lab/service_livekit/controlplane"
	"github.com/spf13/cobra"
)

// boxes are the processes of lab that belong to LiveKit and are no media: the
// control plane.
func boxes(app *cli.App, paths plugin.Paths) []plugin.ServiceSpec {
	return []plugin.ServiceSpec{
		app.Box(paths, controlplane.Name, "control plane of LiveKit", controlplane.Name),
	}
}

// commands are LiveKit's part of the command line.
func commands(app *cli.App) []*cobra.Command {
	return []*cobra.Command{tokenCommand(app), backendCommand(app), controlPlaneCommand(app), livekitCommand(app)}
}

func tokenCommand(app *cli.App) *cobra.Command {
	var request backend.TokenRequest
	var ttl time.Duration
	c := &cobra.Command{
		Use:   "token --room ROOM --identity NAME",
		Short: "Get a join token from lk-backend",
		Long: `Prints a token with which one participant can join one room, and where to
connect. Whoever has the token can join, until it expires.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if ttl < time.Second {
				return cli.Usage(errors.New("--ttl is less than a second"))
			}
			request.TTLSeconds = int(ttl / time.Second)
			if err := request.Validate(); err != nil {
				return cli.Usage(err)
			}
			client, _, err := app.Supervisor()
			if err != nil {
				return err
			}
			token, err := livekit.Token(c.Context(), client, client, request)
			if err != nil {
				return err
			}
			if app.JSON {
				app.PrintJSON(token)
				return nil
			}
			app.Say("url      %s\ntoken    %s\nexpires  %s", token.URL, token.Token, token.ExpiresAt.Local().Format(time.DateTime))
			return nil
		},
	}
	c.Flags().StringVar(&request.Room, "room", "", "`name` of the room")
	c.Flags().StringVar(&request.Identity, "identity", "", "who joins: a second one of the same `name` replaces the first")
	for _, name := range []string{"room", "identity"} {
		_ = c.MarkFlagRequired(name) // the flags exist: they were made two lines above
	}
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it can be used to join, at most 24h")
	return c
}

func backendCommand(app *cli.App) *cobra.Command {
	var envFile string
	c := &cobra.Command{
		Use:   "lk-backend --env-file FILE",
		Short: "Run lk-backend, which signs join tokens (run by the supervisor)",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := backend.LoadConfig(envFile)
			if err != nil {
				return err
			}
			config.Log = app.Logger(app.Stdout)
			return backend.Run(c.Context(), config, nil)
		},
	}
	c.Flags().StringVar(&envFile, "env-file", "", "`file` that configure wrote: backend.env")
	_ = c.MarkFlagRequired("env-file") // the flag exists: it was made one line above
	return c
}

func controlPlaneCommand(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   controlplane.Name,
		Short: "Run hero_livekit_server, the control plane (run by the supervisor)",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			paths, err := app.Paths()
			if err != nil {
				return err
			}
			log := app.Logger(app.Stdout)
			bus, err := app.Bus(c.Context(), controlplane.Name, log)
			if err != nil {
				return err
			}
			defer bus.Close()
			look, err := app.Look(bus, livekit.Name)
			if err != nil {
				return err
			}
			return controlplane.Run(c.Context(), controlplane.Config{
				Paths: paths, Version: app.Version, Log: log, Bus: bus, Node: paths.Node(), Look: look,
			}, nil)
		},
	}
}

// livekitCommand has what the media service runs of lab itself.
func livekitCommand(app *cli.App) *cobra.Command {
	c := &cobra.Command{Use: "livekit", Short: "What the media service runs of lab", Hidden: true}
	var options livekit.ConfigureOptions
	configure := &cobra.Command{
		Use:   "configure",
		Short: "Mint the secret once and derive the three files from it",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, paths, err := app.Supervisor()
			if err != nil {
				return err
			}
			options.Paths, options.Out = paths, app.Stdout
			return livekit.Configure(c.Context(), options, client)
		},
	}
	flags := configure.Flags()
	flags.IntVar(&options.Port, "port", 0, "signalling `port`")
	flags.IntVar(&options.UDPPort, "udp-port", 0, "media `port`")
	flags.IntVar(&options.BackendPort, "backend-port", 0, "`port` of lk-backend")
	flags.IntVar(&options.MetricsPort, "metrics-port", 0, "`port` of metrics")
	flags.StringVar(&options.LogLevel, "livekit-log-level", "info", "`level` of livekit-server's log")
	c.AddCommand(configure)
	return c
}
