package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/job"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"github.com/spf13/cobra"
)

// jobFile is what `lab job run` reads.
type jobFile struct {
	Jobs []jobSpec `mapstructure:"job"`
}

type jobSpec struct {
	Name      string            `mapstructure:"name"`
	Command   []string          `mapstructure:"command"`
	Cwd       string            `mapstructure:"cwd"` // default: the folder of the file
	Env       map[string]string `mapstructure:"env"` // besides the environment of this command
	DependsOn []string          `mapstructure:"depends_on"`
	Needs     []string          `mapstructure:"needs"` // services that have to be ready
	Timeout   time.Duration     `mapstructure:"timeout"`
}

func (a *App) jobCommand() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "Run jobs that depend on each other and on services"}
	c.AddCommand(&cobra.Command{
		Use:   "run FILE.toml",
		Short: "Run the jobs of a file, each after what it depends on",
		Long: `Runs the jobs of a file at once as far as they do not depend on each other. A
job with needs waits until those services are proven ready. When one fails, what
depends on it is not run, and the command ends with 1.

  [[job]]
  name = "greet"
  command = ["echo", "hello"]

  [[job]]
  name = "call"
  command = ["./call.sh"]
  depends_on = ["greet"]
  needs = ["livekit"]
  timeout = "5m"`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			jobs, err := readJobs(args[0])
			if err != nil {
				return err
			}
			return a.runJobs(c.Context(), filepath.Dir(args[0]), jobs)
		},
	})
	return c
}

func readJobs(file string) ([]jobSpec, error) {
	table, err := readTOML(file)
	if err != nil {
		return nil, err
	}
	var parsed jobFile
	if err := plugin.Decode(table, &parsed); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	for i, j := range parsed.Jobs {
		if j.Name == "" || len(j.Command) == 0 || j.Command[0] == "" {
			return nil, fmt.Errorf("read %s: job[%d]: name and command are needed", file, i)
		}
	}
	if len(parsed.Jobs) == 0 {
		return nil, fmt.Errorf("read %s: there is no [[job]]", file)
	}
	return parsed.Jobs, nil
}

func (a *App) runJobs(ctx context.Context, folder string, jobs []jobSpec) error {
	byName := map[string]jobSpec{}
	var graph job.Graph
	for _, j := range jobs {
		byName[j.Name] = j
		graph = append(graph, job.Node{Name: j.Name, DependsOn: j.DependsOn})
	}
	if err := graph.Validate("job"); err != nil {
		return err
	}
	out := &lineWriter{w: a.talk()}
	var mu sync.Mutex
	outcome := map[string]string{}
	err := job.Run(ctx, graph, func(ctx context.Context, name string) error {
		err := a.runJob(ctx, folder, byName[name], out)
		said := "done"
		if err != nil {
			said = "failed: " + message(err)
		}
		out.line(name, said)
		mu.Lock()
		defer mu.Unlock()
		outcome[name] = said
		return err
	})
	if !a.JSON {
		return err
	}
	for _, j := range jobs {
		if outcome[j.Name] == "" {
			outcome[j.Name] = "not run"
		}
	}
	a.PrintJSON(map[string]any{"jobs": outcome})
	if err != nil {
		return &exitError{code: exitFailed}
	}
	return nil
}

// runJob runs one job to its end; interrupted, it ends the job's whole group.
func (a *App) runJob(ctx context.Context, folder string, j jobSpec, out *lineWriter) error {
	if j.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, j.Timeout, fmt.Errorf("not done within %s", j.Timeout))
		defer cancel()
	}
	if err := a.awaitServices(ctx, j, out); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, j.Command[0], j.Command[1:]...)
	cmd.Dir = folder
	if j.Cwd != "" {
		cmd.Dir = j.Cwd
	}
	cmd.Env = cmd.Environ()
	for name, value := range j.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	var copied sync.WaitGroup
	copied.Go(func() { out.copy(j.Name, read) })
	err := cmd.Run()
	write.Close()
	copied.Wait()
	if cmd.Process != nil && ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what did not heed TERM
		return context.Cause(ctx)
	}
	return err
}

// awaitServices returns once all services that the job needs are ready.
func (a *App) awaitServices(ctx context.Context, j jobSpec, out *lineWriter) error {
	if len(j.Needs) == 0 {
		return nil
	}
	client, _, err := a.Supervisor()
	if err != nil {
		return err
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(j.Needs))) {
		service := a.pluginFor(name)
		if service == "" {
			return hinted(fmt.Errorf("no service %q", name), "needs may name %v", a.serviceNames(ctx))
		}
		view, err := a.view(noBus{}, client, service)
		if err != nil {
			return err
		}
		said := false
		err = ready.Wait(ctx, 200*time.Millisecond, func(ctx context.Context) error {
			state, err := view.State(ctx)
			if err != nil || state.State == events.StateReady {
				return err
			}
			if !said {
				said = true
				out.line(j.Name, "waits until "+name+" is ready; it is "+stateLine(state))
			}
			return fmt.Errorf("%s is %s", name, stateLine(state))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lineWriter writes whole lines of several jobs, each with the job's name.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) line(name, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "%-16s %s\n", name, text)
}

func (l *lineWriter) copy(name string, r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadString('\n')
		if text != "" {
			l.line(name, strings.TrimRight(text, "\r\n"))
		}
		if err != nil {
			return
		}
	}
}
