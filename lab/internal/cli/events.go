package cli

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/spf13/cobra"
)

func (a *App) eventsCommand() *cobra.Command {
	c := &cobra.Command{Use: "events", Short: "Watch and publish events"}
	c.AddCommand(a.tailCommand(), a.publishCommand())
	return c
}

func (a *App) tailCommand() *cobra.Command {
	var types []string
	var all, last bool
	c := &cobra.Command{
		Use:   "tail",
		Short: "Print events as they come, until interrupted",
		Example: `  lab events tail --type media.ready.v1 --type media.degraded.v1
  lab events tail --all --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for i := range types {
				types[i] = fullType(types[i])
				if _, err := events.Filter("n", types[i]); err != nil {
					return &exitError{exitUsage, err}
				}
			}
			from := events.FromNow
			if all {
				from = events.FromAll
			} else if last {
				from = events.FromLast
			}
			return a.tail(c.Context(), events.Subscription{Types: types, From: from})
		},
	}
	c.Flags().StringArrayVar(&types, "type", nil, "only events of this `type`, such as media.ready.v1 (may be repeated)")
	c.Flags().BoolVar(&last, "last", false, "begin with the last event of each type and entity")
	c.Flags().BoolVar(&all, "all", false, "begin with everything the bus still keeps")
	c.MarkFlagsMutuallyExclusive("last", "all")
	return c
}

func (a *App) tail(ctx context.Context, sub events.Subscription) error {
	bus, err := a.quickBus(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = bus.Subscribe(ctx, sub, func(_ context.Context, e events.Event) error {
		if a.JSON {
			a.PrintJSON(e)
		} else {
			a.Say("%s  %-32s %-28s %s", e.Time().Local().Format(time.TimeOnly), shortType(e.Type()), events.Entity(e), e.Data())
		}
		if a.out.failure() != nil {
			cancel() // nobody gets what comes
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil // interrupting it is how it ends
	}
	return err
}

func (a *App) publishCommand() *cobra.Command {
	var data, subject string
	var expires time.Duration
	c := &cobra.Command{
		Use:     "publish TYPE --data JSON",
		Short:   "Publish an event",
		Example: `  lab events publish service.start_requested.v1 --data '{"service":"livekit"}'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if expires < 0 {
				return usagef("--expires is negative")
			}
			e, err := newEvent(fullType(args[0]), subject, data)
			if err != nil {
				return err
			}
			return a.publish(c.Context(), e, expires)
		},
	}
	c.Flags().StringVar(&data, "data", "", "the event's data, a JSON object")
	c.Flags().StringVar(&subject, "subject", "", "what it is about (default: the data's service)")
	c.Flags().DurationVar(&expires, "expires", time.Minute, "a request that nobody took by then is dropped")
	_ = c.MarkFlagRequired("data") // the flag exists: it was made two lines above
	return c
}

// newEvent makes an event of what the command line says.
func newEvent(typ, subject, data string) (events.Event, error) {
	if _, err := events.Filter("n", typ); err != nil {
		return events.Event{}, &exitError{exitUsage, err}
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(data), &object); err != nil {
		return events.Event{}, usagef("--data is not a JSON object: %w", err)
	}
	if subject == "" {
		subject, _ = object["service"].(string)
	}
	if subject == "" {
		return events.Event{}, usagef("say what the event is about: --subject NAME, or a service in the data")
	}
	return events.New(typ, "/lab/command", subject, json.RawMessage(data))
}

func (a *App) publish(ctx context.Context, e events.Event, expires time.Duration) error {
	bus, err := a.quickBus(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	if strings.HasSuffix(strings.TrimSuffix(e.Type(), ".v1"), "_requested") && expires > 0 {
		e.SetExtension("expirytime", time.Now().Add(expires).UTC().Format(time.RFC3339Nano))
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := bus.Publish(ctx, e); err != nil {
		return err
	}
	if a.JSON {
		a.PrintJSON(map[string]string{"id": e.ID(), "type": e.Type()})
	} else {
		a.Say("published %s as %s", shortType(e.Type()), e.ID())
	}
	return nil
}

func fullType(typ string) string {
	if strings.HasPrefix(typ, events.Prefix) {
		return typ
	}
	return events.Prefix + typ
}

func shortType(typ string) string { return strings.TrimPrefix(typ, events.Prefix) }
