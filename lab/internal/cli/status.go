package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/spf13/cobra"
)

// report is what `lab status` prints; its JSON is stable.
type report struct {
	Ready      bool                   `json:"ready"`
	Supervisor *procclient.Info       `json:"supervisor"`
	Media      events.ServiceState    `json:"media"`
	Services   []plugin.ServiceStatus `json:"services"`
	Problems   []string               `json:"problems,omitempty"` // why it is not ready, and what could not be found out
}

func (a *App) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say what runs, whether it is ready, and why not",
		Long: `Asks the supervisor for every process and proves LiveKit anew: nothing is told
from memory. Exit code 4 when something that should be ready is not.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.report(c.Context())
			if err != nil && !rpc.IsDown(err) {
				return err
			}
			if err != nil {
				r.Problems = append(r.Problems, "hero_proc is not running: lab up starts it")
			}
			if a.JSON {
				a.PrintJSON(r)
			} else {
				a.printReport(r)
			}
			if !r.Ready {
				return &exitError{code: exitNotReady}
			}
			return nil
		},
	}
}

// report asks everybody, so that one that is down hides no other.
func (a *App) report(ctx context.Context) (report, error) {
	r := report{Media: events.ServiceState{State: events.StateUnknown}, Services: []plugin.ServiceStatus{}}
	client, _, err := a.Supervisor()
	if err != nil {
		return r, err
	}
	info, err := client.Info(ctx)
	if err != nil {
		return r, err
	}
	r.Supervisor = &info
	if info.Trouble != "" {
		r.Problems = append(r.Problems, "hero_proc cannot write: "+info.Trouble)
	}
	if r.Services, err = client.List(ctx); err != nil {
		return r, err
	}
	r.Ready = len(r.Services) > 0
	for _, s := range r.Services {
		if s.Wanted == plugin.WantStart && !s.Ready {
			r.Ready = false
			r.Problems = append(r.Problems, s.Name+" is "+s.State+why(s))
		}
	}
	media, err := a.mediaState(ctx, client)
	if err != nil {
		r.Problems = append(r.Problems, "what was announced of "+a.Media+" is not known: "+message(err))
	}
	r.Media = media
	if media.State != events.StateReady {
		r.Ready = false
		r.Problems = append(r.Problems, fmt.Sprintf("%s is %s", a.Media, stateLine(media)))
	}
	return r, nil
}

// why is the reason of the first action that is not ready.
func why(s plugin.ServiceStatus) string {
	for _, a := range s.Actions {
		if !a.Ready && a.Why != "" {
			return ": " + a.Name + ": " + a.Why
		}
	}
	return ""
}

// mediaState looks at the media even where the bus is down: then only what was
// announced is missing.
func (a *App) mediaState(ctx context.Context, client *procclient.Client) (events.ServiceState, error) {
	var bus events.Bus = noBus{}
	connected, busErr := a.quickBus(ctx)
	if busErr == nil {
		defer connected.Close()
		bus = connected
	}
	view, err := a.view(bus, client, a.Media)
	if err != nil {
		return events.ServiceState{State: events.StateUnknown}, err
	}
	state, err := view.State(ctx)
	return state, errors.Join(err, busErr)
}

// noBus stands for a bus that is down: nothing was ever announced on it.
type noBus struct{ events.Bus }

func (noBus) Last(context.Context, ...string) ([]events.Event, error) { return nil, nil }

func (a *App) printReport(r report) {
	w := tabwriter.NewWriter(a.Stdout, 0, 4, 2, ' ', 0)
	if len(r.Services) > 0 || r.Supervisor != nil {
		fmt.Fprintf(w, "SERVICE\tACTION\tSTATE\tREADY\tPID\tSINCE\tRESTARTS\tWHY\n")
	}
	if r.Supervisor != nil {
		fmt.Fprintf(w, "hero_proc\tsupervisor\trunning\tyes\t%d\t\t\t\n", r.Supervisor.PID)
	}
	for _, s := range r.Services {
		name := s.Name
		switch s.Wanted {
		case plugin.WantStop:
			name += " (stopped)"
		case plugin.WantIgnore:
			name += " (ignored)"
		}
		if len(s.Actions) == 0 {
			fmt.Fprintf(w, "%s\t\t%s\t\t\t\t\tnot registered yet\n", name, s.State)
		}
		for _, action := range s.Actions {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", name, action.Name, action.State,
				yesNo(action.Ready), dash(action.PID), since(action.StartedAt), action.Restarts, action.Why)
			name = ""
		}
	}
	w.Flush()
	if r.Media.URL != "" {
		fmt.Fprintf(a.Stdout, "\n%s %s: %s, revision %d, %d participants\n  clients connect to  %s\n", a.Media, r.Media.Version,
			r.Media.State, r.Media.Revision, r.Media.Participants, r.Media.URL)
	}
	for _, problem := range r.Problems {
		fmt.Fprintln(a.Stdout, "!", problem)
	}
	if r.Ready {
		fmt.Fprintln(a.Stdout, "everything is ready")
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func dash(pid int) string {
	if pid == 0 {
		return "-"
	}
	return fmt.Sprint(pid)
}

// since is how long ago that was, to the second.
func since(at string) string {
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return "-"
	}
	return time.Since(t).Round(time.Second).String()
}
