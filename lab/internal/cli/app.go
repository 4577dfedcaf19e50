// Package cli is the command line of lab.
//
// Commands only ask: the supervisor for processes, the bus for services. What
// they bring about goes on when they are interrupted. Exit codes: 0 done, 1
// failed, 2 usage, 3 timed out waiting, 4 not ready.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"forge.ourworld.tf/lhumina_code/lab/events/jetstream"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/proc"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/creachadair/jrpc2"
	"github.com/spf13/cobra"
)

// The exit codes besides 0.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitTimedOut = 3
	exitNotReady = 4
)

// Config is what the program adds to the commands that every lab has.
type Config struct {
	Version string
	Plugins []plugin.Factory
	// Boxes are the services that belong to lab besides bus and host.
	Boxes func(app *App, paths plugin.Paths) []plugin.ServiceSpec
	// Commands are those of the services.
	Commands func(app *App) []*cobra.Command
	// Media is the plugin that `lab up` brings up.
	Media string
}

// App is one run of the command line: its flags and where it speaks.
type App struct {
	Config
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	JSON           bool

	root     string
	logLevel string
	out      *output
}

// Run runs the command line and returns the exit code.
func Run(ctx context.Context, config Config, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &output{Writer: stdout}
	app := &App{Config: config, Stdin: stdin, Stdout: out, Stderr: stderr, out: out}
	root := app.command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = out.failure()
	}
	if err == nil {
		return 0
	}
	return app.fail(err)
}

// output is standard output, and remembers that it could not be written: what
// was printed is what many commands are for.
type output struct {
	io.Writer
	mu  sync.Mutex
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
	return n, err
}

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return fmt.Errorf("write output: %w", o.err)
	}
	return nil
}

// fail tells of the error once, in the form that was asked for.
func (a *App) fail(err error) int {
	code := exitFailed
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if exit != nil && exit.err == nil {
		return code // it has been told
	}
	var structured interface{ JSON() any }
	switch {
	case a.out.failure() != nil:
		fmt.Fprintln(a.Stderr, "lab:", message(err)) // there is nowhere else to say it
	case a.JSON && errors.As(err, &structured):
		a.PrintJSON(map[string]any{"error": structured.JSON()})
	case a.JSON:
		a.PrintJSON(map[string]any{"error": map[string]any{"message": message(err), "hint": hint(err)}})
	default:
		fmt.Fprintln(a.Stderr, "lab:", message(err))
		if h := hint(err); h != "" {
			fmt.Fprintln(a.Stderr, "     "+h)
		}
	}
	return code
}

// message is what people read: without the numbers of JSON-RPC.
func message(err error) string {
	if rpc.IsDown(err) {
		return "hero_proc is not running here"
	}
	text := err.Error()
	var rpcErr *jrpc2.Error
	if errors.As(err, &rpcErr) {
		text = strings.ReplaceAll(text, rpcErr.Error(), rpcErr.Message)
	}
	return text
}

// hint is the next step for errors that have the same one everywhere.
func hint(err error) string {
	var hinted *hintError
	switch {
	case errors.As(err, &hinted):
		return hinted.hint
	case rpc.IsDown(err):
		return "lab up starts it; another installation is named by --root or PATH_ROOT"
	}
	return ""
}

// exitError ends the program with a code of its own. Without an error it has
// been told what there is to tell.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Usage makes err one about how the command was called: exit code 2.
func Usage(err error) error { return &exitError{exitUsage, err} }

func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// hintError is an error with the next step.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

func hinted(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// command builds the tree of commands.
func (a *App) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "lab",
		Short: "Bring external binaries to supervised, proven-ready services, by events",
		Long: `lab brings an external binary from a manifest to a supervised, proven-ready
service, by events, so that restarting anything else never touches it.

  lab up       brings up a LiveKit whose calls outlive every restart
  lab status   says what runs, and why something does not
  lab down     stops everything, calls last`,
		Version:       a.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.root, "root", "", "`folder` of everything lab keeps (default $PATH_ROOT, or ~/hero)")
	flags.BoolVar(&a.JSON, "json", false, "print JSON for programs")
	flags.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error: `level` of what the processes log")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if err := c.ValidateRequiredFlags(); err != nil {
			return usagef("%w (see %s --help)", err, c.CommandPath())
		}
		if err := c.ValidateFlagGroups(); err != nil {
			return usagef("%w (see %s --help)", err, c.CommandPath())
		}
		if c.Flags().Changed("root") && a.root == "" {
			return usagef("--root is empty: leave it out for the default")
		}
		if err := new(slog.Level).UnmarshalText([]byte(a.logLevel)); err != nil {
			return usagef("--log-level %q is none of debug, info, warn, error", a.logLevel)
		}
		return nil
	}
	root.AddCommand(
		a.upCommand(), a.downCommand(), a.statusCommand(), a.serviceCommand(),
		a.eventsCommand(), a.binaryCommand(), a.jobCommand(),
		a.procCommand(), a.busCommand(), a.hostCommand(),
	)
	if a.Commands != nil {
		root.AddCommand(a.Commands(a)...)
	}
	usageErrors(root)
	return root
}

// usageErrors makes every complaint about arguments, anywhere below, exit 2.
func usageErrors(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &exitError{exitUsage, fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
			}
			return nil
		}
	} else if !c.Runnable() {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return usagef("unknown command %q for %q%s", args[0], c.CommandPath(), suggestions(c, args[0]))
		}
	}
	for _, sub := range c.Commands() {
		usageErrors(sub)
	}
}

func suggestions(c *cobra.Command, word string) string {
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
	if near := c.SuggestionsFor(word); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Sprintf(" (see %s --help)", c.CommandPath())
}

// Paths is the layout of the installation that this run is about.
func (a *App) Paths() (plugin.Paths, error) {
	paths, err := plugin.NewPaths(a.root)
	if err == nil {
		err = rpc.CheckPath(paths.Socket(proc.Name))
	}
	return paths, err
}

// Logger logs to w at the level asked for.
func (a *App) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.logLevel)) // checked before every command
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// Supervisor is a client of the installation's supervisor. It waits for one
// only where a keeper lives, which is about to have one.
func (a *App) Supervisor() (*procclient.Client, plugin.Paths, error) {
	paths, err := a.Paths()
	if err != nil {
		return nil, paths, err
	}
	if proc.Kept(paths) {
		return procclient.New(paths), paths, nil
	}
	return procclient.Impatient(paths), paths, nil
}

// Bus connects to the installation's bus under the name, which shows up in the
// server's list of connections. It waits for the bus as long as ctx allows.
func (a *App) Bus(ctx context.Context, name string, log *slog.Logger) (*jetstream.Bus, error) {
	client, paths, err := a.Supervisor()
	if err != nil {
		return nil, err
	}
	url, err := client.GetSecret(ctx, busName, secretBusURL)
	if errors.Is(err, plugin.ErrNotFound) {
		return nil, hinted(errors.New("there is no bus yet"), "lab up sets it up")
	}
	if err != nil {
		return nil, err
	}
	return jetstream.Connect(ctx, jetstream.Options{URL: url, Node: paths.Node(), Name: name, Log: log})
}

// quickBus connects for a command, which would rather fail than wait for long.
func (a *App) quickBus(ctx context.Context) (*jetstream.Bus, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*rpc.Patience, errors.New("the bus does not answer: lab status tells more"))
	defer cancel()
	bus, err := a.Bus(ctx, "lab command", a.quiet())
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return bus, err
}

// Say tells people what happens. Programs that asked for JSON have standard
// output to themselves.
func (a *App) Say(format string, args ...any) {
	fmt.Fprintf(a.talk(), format+"\n", args...)
}

func (a *App) talk() io.Writer {
	if a.JSON {
		return a.Stderr
	}
	return a.Stdout
}

// PrintJSON writes v to standard output as one line of JSON.
func (a *App) PrintJSON(v any) {
	encoder := json.NewEncoder(a.Stdout)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // nobody listens any more
}

// executable is the lab that the supervisor runs.
func executable(paths plugin.Paths) string { return paths.Bin() + string(os.PathSeparator) + "lab" }
