package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// logOptions say which output is shown.
type logOptions struct {
	action string
	lines  int
	level  string
	since  time.Duration
	follow bool
}

func (a *App) logsCommand() *cobra.Command {
	var opts logOptions
	c := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show the output of a service",
		Long: `Shows the last lines that each action of a service has written, by time. Secrets,
colours and control characters are left out. Output is kept up to 32 MiB of each
action, and for 30 days.`,
		Example: `  lab service logs livekit -f
  lab service logs lab_host --since 1h --level warn`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			if opts.level != "" && !slices.Contains(levels, opts.level) {
				return usagef("--level %q is none of %s", opts.level, strings.Join(levels, ", "))
			}
			if opts.lines < 0 || opts.lines > mostLines {
				return usagef("--lines is not between 0 and %d", mostLines)
			}
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
			return a.logs(c.Context(), client, name, opts)
		},
	}
	c.Flags().StringVar(&opts.action, "action", "", "only of this `action`")
	c.Flags().IntVarP(&opts.lines, "lines", "n", 50, "how many lines of each action")
	c.Flags().StringVar(&opts.level, "level", "", "only lines of this `level` or above (trace, debug, info, warn, error), and those that name none")
	c.Flags().DurationVar(&opts.since, "since", 0, "only what was written in this `time`, such as 10m")
	c.Flags().BoolVarP(&opts.follow, "follow", "f", false, "go on with what is written from now on, until interrupted")
	return c
}

// levels are those of lines, the least first.
var levels = []string{"trace", "debug", "info", "warn", "error"}

// mostLines is how many lines the supervisor gives at once.
const mostLines = 10_000

// shows reports whether the line was asked for.
func (o logOptions) shows(line procclient.LogLine) bool {
	if o.since > 0 && time.Since(line.Time) > o.since {
		return false
	}
	return o.level == "" || line.Level == "" || slices.Index(levels, line.Level) >= slices.Index(levels, o.level)
}

func (a *App) logs(ctx context.Context, client *procclient.Client, name string, opts logOptions) error {
	spec, _, err := client.Get(ctx, name)
	if errors.Is(err, plugin.ErrNotFound) {
		return hinted(fmt.Errorf("no service %q", name), "there are %s", strings.Join(a.serviceNames(ctx), ", "))
	}
	if err != nil {
		return err
	}
	var actions []string
	for _, each := range spec.Actions {
		if opts.action == "" || opts.action == each.Name {
			actions = append(actions, each.Name)
		}
	}
	if opts.action != "" && len(actions) == 0 {
		return fmt.Errorf("service %s has no action %q", name, opts.action)
	}
	ends, err := a.lastLogs(ctx, client, name, actions, opts)
	if err != nil || !opts.follow || a.out.failure() != nil {
		return err
	}
	return a.followLogs(ctx, client, name, ends, opts)
}

// lastLogs prints the last lines of the actions, by time, and returns the
// positions behind them.
func (a *App) lastLogs(ctx context.Context, client *procclient.Client, name string, actions []string, opts logOptions) (map[string]int64, error) {
	limit := max(opts.lines, 1)
	if opts.level != "" || opts.since > 0 {
		limit = mostLines // to choose from
	}
	ends := map[string]int64{}
	var all []procclient.LogLine
	for _, action := range actions {
		lines, err := client.LogLines(ctx, procclient.LogQuery{Service: name, Action: action, After: -1, Limit: limit})
		if err != nil {
			return nil, err
		}
		ends[action] = 0
		if len(lines) > 0 {
			ends[action] = lines[len(lines)-1].Pos
		}
		lines = slices.DeleteFunc(lines, func(line procclient.LogLine) bool { return !opts.shows(line) })
		if opts.since == 0 {
			lines = lines[max(0, len(lines)-opts.lines):]
		}
		all = append(all, lines...)
	}
	slices.SortStableFunc(all, func(x, y procclient.LogLine) int { return x.Time.Compare(y.Time) })
	for _, line := range all {
		a.printLine(line)
	}
	return ends, nil
}

// followLogs prints what comes behind the positions, until ctx ends.
func (a *App) followLogs(ctx context.Context, client *procclient.Client, name string, ends map[string]int64, opts logOptions) error {
	group, ctx := errgroup.WithContext(ctx)
	var one sync.Mutex
	for action, end := range ends {
		group.Go(func() error {
			return client.Follow(ctx, procclient.LogQuery{Service: name, Action: action, After: end}, func(line procclient.LogLine) error {
				one.Lock()
				defer one.Unlock()
				if opts.shows(line) {
					a.printLine(line)
				}
				return a.out.failure()
			})
		})
	}
	return group.Wait()
}

func (a *App) printLine(line procclient.LogLine) {
	if a.JSON {
		a.PrintJSON(line)
		return
	}
	a.Say("%s  %-5s %s  %s", line.Time.Local().Format("01-02 15:04:05.000"), cmp.Or(line.Level, "-"), line.Action, line.Text)
}
