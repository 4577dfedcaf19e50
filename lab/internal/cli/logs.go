package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/spf13/cobra"
)

func (a *App) logsCommand() *cobra.Command {
	var action string
	var lines int
	c := &cobra.Command{
		Use: "logs NAME", Short: "Show the last output of a service", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			client, _, err := a.Supervisor()
			if err != nil {
				return err
			}
			name := args[0]
			for _, f := range a.Plugins {
				if f.Name == name {
					name = f.Unit
				}
			}
			return a.printLogs(c.Context(), client, name, action, lines)
		},
	}
	c.Flags().StringVar(&action, "action", "", "only of this `action`")
	c.Flags().IntVarP(&lines, "lines", "n", 50, "how many lines of each action")
	return c
}

func (a *App) printLogs(ctx context.Context, client *procclient.Client, name, action string, lines int) error {
	spec, _, err := client.Get(ctx, name)
	if errors.Is(err, plugin.ErrNotFound) {
		return hinted(fmt.Errorf("no service %q", name), "there are %s", strings.Join(a.serviceNames(ctx), ", "))
	}
	if err != nil {
		return err
	}
	for _, each := range spec.Actions {
		if action != "" && action != each.Name {
			continue
		}
		output, err := client.Logs(ctx, name, each.Name, lines)
		if err != nil {
			return err
		}
		for _, line := range output {
			if a.JSON {
				a.PrintJSON(map[string]string{"service": name, "action": each.Name, "line": line})
			} else {
				a.Say("%s  %s", each.Name, line)
			}
		}
	}
	return nil
}
