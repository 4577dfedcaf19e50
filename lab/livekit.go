package main

import (
	"errors"
	"fmt"
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
		app.Box(paths, controlplane.Name, "control plane of LiveKit", nil, controlplane.Name),
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
			client, paths, err := app.Supervisor()
			if err != nil {
				return err
			}
			request.TTLSeconds = int(ttl / time.Second)
			token, err := livekit.Token(c.Context(), client, client, paths, request)
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
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it can be used to join, at most 24h")
	return c
}

var _ = errors.New
var _ = fmt.Sprint
