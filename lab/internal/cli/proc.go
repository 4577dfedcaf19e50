package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/spf13/cobra"
)

// procCommands speak with hero_proc directly, whatever plugins think of it.
func (a *App) procCommands() []*cobra.Command {
	var opts serviceOptions
	var commands []*cobra.Command
	for _, verb := range verbs {
		c := &cobra.Command{
			Use: verb.name + " NAME", Short: verb.short, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeUnits,
			RunE: func(c *cobra.Command, args []string) error {
				client, _, err := a.Supervisor()
				if err != nil {
					return err
				}
				ctx, cancel := context.WithTimeoutCause(c.Context(), opts.timeout, errTimeout)
				defer cancel()
				return a.outcome(ctx, a.viaSupervisor(ctx, client, verb.name, args[0], opts.force))
			},
		}
		c.Flags().DurationVar(&opts.timeout, "timeout", 10*time.Minute, "how long to wait")
		if verb.name == "stop" {
			c.Flags().BoolVar(&opts.force, "force", false, "do not let it drain")
		}
		commands = append(commands, c)
	}
	kill := a.unitCommand("kill NAME [ACTION]", "Kill the processes of a service, or of one action; the restart policy decides what follows",
		func(ctx context.Context, client *procclient.Client, args []string) error {
			action := ""
			if len(args) > 1 {
				action = args[1]
			}
			return a.did(client.Kill(ctx, args[0], action), "killed %s", strings.Join(args, "/"))
		})
	kill.Args = cobra.RangeArgs(1, 2)
	return append(commands,
		a.listCommand(), a.logsCommand(), a.procEventsCommand(), a.secretCommand(), kill,
		a.unitCommand("ignore NAME", "Leave a service to itself: what runs goes on and is not restarted", func(ctx context.Context, client *procclient.Client, args []string) error {
			return a.did(client.Ignore(ctx, args[0]), "%s is left to itself; lab proc start %s takes it back", args[0], args[0])
		}),
		a.unitCommand("rm NAME", "Stop a service and forget it", func(ctx context.Context, client *procclient.Client, args []string) error {
			return a.did(client.Delete(ctx, args[0], false), "%s goes, and is forgotten once it is down", args[0])
		}),
		a.unitCommand("why NAME", "Say what each action of a service waits for, or how it ended", a.printWhy),
		a.unitCommand("tree NAME", "Show what depends on what, and all processes", a.printTree),
	)
}

// unitCommand is a command about one service of the supervisor.
func (a *App) unitCommand(use, short string, run func(context.Context, *procclient.Client, []string) error) *cobra.Command {
	c := a.withSupervisor(use, short, 1, func(ctx context.Context, client *procclient.Client, args []string) error {
		err := run(ctx, client, args)
		if errors.Is(err, plugin.ErrNotFound) {
			return hinted(err, "lab proc ls lists what there is")
		}
		return err
	})
	c.ValidArgsFunction = a.completeUnits
	return c
}

// did tells what was done, unless it was not.
func (a *App) did(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	if a.JSON {
		a.PrintJSON(map[string]string{"done": fmt.Sprintf(format, args...)})
	} else {
		a.Say(format, args...)
	}
	return nil
}

// completeUnits completes the names of services and, after one, of its actions.
func (a *App) completeUnits(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := []string{}
	client, _, err := a.Supervisor()
	if err != nil {
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	services, err := client.List(c.Context())
	if err != nil {
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	for _, s := range services {
		switch {
		case len(args) == 0:
			names = append(names, s.Name)
		case len(args) == 1 && s.Name == args[0]:
			for _, action := range s.Actions {
				names = append(names, action.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *App) printWhy(ctx context.Context, client *procclient.Client, args []string) error {
	why, err := client.Why(ctx, args[0])
	if err != nil {
		return err
	}
	if a.JSON {
		a.PrintJSON(map[string]string{"service": args[0], "why": why})
	} else {
		a.Say("%s", strings.TrimSpace(why))
	}
	return nil
}

func (a *App) printTree(ctx context.Context, client *procclient.Client, args []string) error {
	tree, err := client.Tree(ctx, args[0])
	if err != nil {
		return err
	}
	if a.JSON {
		a.PrintJSON(tree)
		return nil
	}
	a.Say("%s%s%s", tree.Name, list("  requires ", tree.Requires), list("  after ", tree.After))
	for _, action := range tree.Actions {
		needs := make([]string, len(action.DependsOn))
		for i, d := range action.DependsOn {
			needs[i] = string(d)
		}
		a.Say("  %s  %s%s", action.Name, action.State, list("  depends on ", needs))
		a.printProcesses(action.Processes)
	}
	return nil
}

// printProcesses shows the processes below those that started them.
func (a *App) printProcesses(processes []procclient.Process) {
	known := map[int]bool{}
	for _, p := range processes {
		known[p.PID] = true
	}
	var show func(p procclient.Process, depth int)
	show = func(p procclient.Process, depth int) {
		a.Say("    %s%d %s", strings.Repeat("  ", depth), p.PID, p.Command)
		for _, child := range processes {
			if child.Parent == p.PID {
				show(child, depth+1)
			}
		}
	}
	for _, p := range processes {
		if !known[p.Parent] {
			show(p, 0)
		}
	}
}

// list puts the word before the names, where there are any.
func list(word string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return word + strings.Join(names, ", ")
}

func (a *App) procEventsCommand() *cobra.Command {
	var after int64
	c := &cobra.Command{
		Use:   "events",
		Short: "Print changes of state as they come, until interrupted",
		Long: `Prints every change of state of every action, which needs no bus. Each has a
position; --after goes on behind one, and 0 begins with the oldest of the last
10,000 that are kept.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, _, err := a.Supervisor()
			if err != nil {
				return err
			}
			return client.Watch(c.Context(), after, func(seq int64, at time.Time, change events.JobState) error {
				if a.JSON {
					a.PrintJSON(procclient.Event{Seq: seq, Time: at, JobState: &change})
					return a.out.failure()
				}
				a.Say("%6d  %s  %s/%s  %s -> %s  %s", seq, at.Local().Format("15:04:05.000"), change.Service, change.Action, change.From, change.To, change.Reason)
				return a.out.failure()
			})
		},
	}
	c.Flags().Int64Var(&after, "after", -1, "go on behind this `position` (default: from now on)")
	return c
}

// withSupervisor is a command with so many arguments that asks the supervisor.
func (a *App) withSupervisor(use, short string, args int, run func(context.Context, *procclient.Client, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(args), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			client, _, err := a.Supervisor()
			if err != nil {
				return err
			}
			return run(c.Context(), client, args)
		},
	}
}
