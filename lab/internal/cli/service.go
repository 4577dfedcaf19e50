package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"github.com/spf13/cobra"
)

// verbs are what can be done to a service, in Hero's spelling (--start NAME)
// and the usual one (start NAME).
var verbs = []struct{ name, short string }{
	{"start", "Start a service and wait until it is ready"},
	{"stop", "Stop a service; it stays stopped until it is started again"},
	{"restart", "Restart a service, with its settings as they are now, and wait until it is ready"},
	{"status", "Say how a service is; exit code 4 when it is not ready"},
}

type serviceOptions struct {
	timeout time.Duration
	force   bool
}

func (a *App) serviceCommand() *cobra.Command {
	var opts serviceOptions
	chosen := make([]bool, len(verbs))
	c := &cobra.Command{
		Use:   "service NAME --start|--stop|--restart|--status",
		Short: "Start, stop, restart or look at one service",
		Long: `Works on one service: by its name ("livekit"), or by the name it has under the
supervisor ("hero_livekit_server"). Both spellings do the same:

  lab service livekit --restart
  lab service restart livekit`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			verb := ""
			for i, on := range chosen {
				if on && verb != "" {
					return usagef("--%s and --%s exclude each other", verb, verbs[i].name)
				}
				if on {
					verb = verbs[i].name
				}
			}
			if verb == "" {
				return usagef("say what to do with %s: --start, --stop, --restart or --status", args[0])
			}
			return a.serviceVerb(c.Context(), verb, args[0], opts)
		},
		ValidArgsFunction: a.completeServices,
	}
	c.PersistentFlags().DurationVar(&opts.timeout, "timeout", 10*time.Minute, "how long to wait")
	c.PersistentFlags().BoolVar(&opts.force, "force", false, "stop without waiting for participants")
	for i, verb := range verbs {
		c.Flags().BoolVar(&chosen[i], verb.name, false, strings.ToLower(verb.short[:1])+verb.short[1:])
		c.AddCommand(&cobra.Command{
			Use: verb.name + " NAME", Short: verb.short, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServices,
			RunE: func(c *cobra.Command, args []string) error {
				return a.serviceVerb(c.Context(), verb.name, args[0], opts)
			},
		})
	}
	c.AddCommand(a.logsCommand(), a.listCommand())
	return c
}

func (a *App) serviceVerb(ctx context.Context, verb, name string, opts serviceOptions) error {
	if opts.force && verb != "stop" {
		return usagef("--force goes with stop only")
	}
	client, _, err := a.Supervisor()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, opts.timeout, errTimeout)
	defer cancel()
	if p := a.pluginFor(name); p != "" {
		return a.outcome(ctx, a.viaBus(ctx, client, verb, p, opts.force))
	}
	return a.outcome(ctx, a.viaSupervisor(ctx, client, verb, name, opts.force))
}

// pluginFor names the plugin that looks after the service of that name, be it
// the plugin's own or the supervisor's.
func (a *App) pluginFor(name string) string {
	for _, f := range a.Plugins {
		if f.Name == name || f.Unit == name {
			return f.Name
		}
	}
	return ""
}

// viaBus asks the plugin of a service by an event.
func (a *App) viaBus(ctx context.Context, client *procclient.Client, verb, name string, force bool) error {
	bus, err := a.quickBus(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	view, err := a.view(bus, client, name)
	if err != nil {
		return err
	}
	types := map[string]string{"start": events.StartRequested, "stop": events.StopRequested, "restart": events.RestartRequested}
	var state events.ServiceState
	if typ, ok := types[verb]; ok {
		state, err = a.request(ctx, bus, view, typ, events.Request{Service: name, Reason: "lab service --" + verb, Force: force})
	} else {
		state, err = view.State(ctx)
	}
	if err != nil {
		return err
	}
	if a.JSON {
		a.PrintJSON(state)
	} else {
		a.Say("%-20s %s", name, stateLine(state))
	}
	if verb == "status" && state.State != events.StateReady {
		return &exitError{code: exitNotReady}
	}
	return nil
}

// viaSupervisor works on a service that no plugin looks after.
func (a *App) viaSupervisor(ctx context.Context, client *procclient.Client, verb, name string, force bool) error {
	spec, before, err := client.Get(ctx, name)
	if errors.Is(err, plugin.ErrNotFound) {
		return hinted(fmt.Errorf("no service %q", name), "there are %s", strings.Join(a.serviceNames(ctx), ", "))
	}
	if err != nil {
		return err
	}
	switch verb {
	case "start":
		err = client.Start(ctx, name)
	case "stop":
		err = client.Stop(ctx, name, force)
	case "restart":
		err = client.Restart(ctx, name)
	}
	if err != nil {
		return err
	}
	var now plugin.ServiceStatus
	err = ready.Wait(ctx, 25*time.Millisecond, func(ctx context.Context) error {
		if _, now, err = client.Get(ctx, name); err != nil {
			return err
		}
		return settled(verb, spec, before, now)
	})
	if err != nil {
		return hinted(err, "lab service logs %s shows its output", name)
	}
	if a.JSON {
		a.PrintJSON(now)
	} else {
		a.printReport(report{Services: []plugin.ServiceStatus{now}})
	}
	if verb == "status" && !now.Ready {
		return &exitError{code: exitNotReady}
	}
	return nil
}

// settled returns nil once the service is what the verb makes of it.
func settled(verb string, spec plugin.ServiceSpec, before, now plugin.ServiceStatus) error {
	switch verb {
	case "status":
		return nil
	case "stop":
		if !now.Alive() {
			return nil
		}
	default:
		replaced := verb == "start" || slices.ContainsFunc(spec.Actions, func(a plugin.Action) bool {
			return now.Action(a.Name).StartedAt != before.Action(a.Name).StartedAt
		})
		if now.Ready && replaced {
			return nil
		}
	}
	return fmt.Errorf("%s is %s%s", now.Name, now.State, why(now))
}

// serviceNames are the names that may be asked for.
func (a *App) serviceNames(ctx context.Context) []string {
	names := []string{}
	for _, f := range a.Plugins {
		names = append(names, f.Name)
	}
	client, _, err := a.Supervisor()
	if err != nil {
		return names
	}
	services, err := client.List(ctx)
	if err != nil {
		return names
	}
	for _, s := range services {
		if a.pluginFor(s.Name) == "" {
			names = append(names, s.Name)
		}
	}
	return names
}

func (a *App) completeServices(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.serviceNames(c.Context()), cobra.ShellCompDirectiveNoFileComp
}

func (a *App) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the services", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, _, err := a.Supervisor()
			if err != nil {
				return err
			}
			services, err := client.List(c.Context())
			if err != nil {
				return err
			}
			if a.JSON {
				a.PrintJSON(services)
				return nil
			}
			for _, s := range services {
				a.Say("%-20s wanted %-6s %s", s.Name, s.Wanted, s.State)
			}
			return nil
		},
	}
}
