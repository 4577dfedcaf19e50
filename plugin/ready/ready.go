// Package ready proves that a process serves: probes that look from outside,
// and waiting for them.
//
// A probe never trusts a PID, a file or a handle: it connects, asks, or looks
// at what the kernel says the process has bound. A probe that cannot tell on
// this platform fails and says so.
package ready

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Probe is one condition. Exactly one field is set.
type Probe struct {
	HTTP   string   `json:"http,omitempty" mapstructure:"http"`     // URL that answers 2xx
	TCP    string   `json:"tcp,omitempty" mapstructure:"tcp"`       // host:port that accepts
	UDP    string   `json:"udp,omitempty" mapstructure:"udp"`       // host:port that the process itself has bound
	Unix   string   `json:"unix,omitempty" mapstructure:"unix"`     // socket path that accepts
	Hero   string   `json:"hero,omitempty" mapstructure:"hero"`     // socket path of a Hero service that answers GET /health with 2xx
	Alive  string   `json:"alive,omitempty" mapstructure:"alive"`   // socket path of a Hero service that answers at all: it does not hang
	Exec   []string `json:"exec,omitempty" mapstructure:"exec"`     // program (absolute) and arguments that end with code 0
	Notify bool     `json:"notify,omitempty" mapstructure:"notify"` // the process says READY=1 as sd_notify does
	Log    string   `json:"log,omitempty" mapstructure:"log"`       // regular expression that a line of its output matches
}

// Process is what a probe has to know of the process it speaks of, each
// only for some kinds of probes.
type Process struct {
	PID int      // for udp
	Dir string   // where exec runs its program
	Env []string // with which exec runs its program, "NAME=value"
	// Notified reports whether the process has said that it is ready. Unset:
	// nobody listens.
	Notified func() bool
	// Said reports whether a line of the output matches. Unset: nobody knows.
	Said func(*regexp.Regexp) (bool, error)
}

// String names the probe for people.
func (p Probe) String() string {
	kind, target := p.parts()
	return strings.TrimSpace(kind + " " + target)
}

// Validate refuses a probe that has none or several conditions, or one that
// can never hold.
func (p Probe) Validate() error {
	set := 0
	for _, given := range []bool{
		p.HTTP != "", p.TCP != "", p.UDP != "", p.Unix != "", p.Hero != "", p.Alive != "", len(p.Exec) > 0, p.Notify, p.Log != "",
	} {
		if given {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("a probe has exactly one of http, tcp, udp, unix, hero, alive, exec, notify, log; this one has %d", set)
	}
	if len(p.Exec) > 0 && !filepath.IsAbs(p.Exec[0]) {
		return fmt.Errorf("exec: %q is not an absolute path", p.Exec[0])
	}
	if _, err := regexp.Compile(p.Log); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}

func (p Probe) parts() (kind, target string) {
	switch {
	case p.HTTP != "":
		return "http", p.HTTP
	case p.TCP != "":
		return "tcp", p.TCP
	case p.UDP != "":
		return "udp", p.UDP
	case p.Unix != "":
		return "unix", p.Unix
	case p.Alive != "":
		return "alive", p.Alive
	case len(p.Exec) > 0:
		return "exec", p.Exec[0] // its arguments are its own affair
	case p.Notify:
		return "notify", ""
	case p.Log != "":
		return "log", p.Log
	default:
		return "hero", p.Hero
	}
}

// Check looks once, within ctx, at that process.
func (p Probe) Check(ctx context.Context, of Process) error {
	kind, target := p.parts()
	var err error
	switch kind {
	case "http":
		err = get(ctx, http.DefaultTransport, target)
	case "tcp":
		err = connect(ctx, "tcp", target)
	case "udp":
		err = Bound(ctx, "udp", of.PID, target)
	case "unix":
		err = connect(ctx, "unix", target)
	case "hero":
		err = health(ctx, target, http.StatusOK)
	case "alive":
		err = health(ctx, target, http.StatusOK, http.StatusServiceUnavailable)
	case "exec":
		err = run(ctx, p.Exec, of)
	case "notify":
		err = notified(of)
	case "log":
		err = said(p.Log, of)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// errUnseen says that a probe was given to one who cannot tell.
var errUnseen = errors.New("only the supervisor of the process can tell")

func notified(of Process) error {
	switch {
	case of.Notified == nil:
		return errUnseen
	case !of.Notified():
		return errors.New("the process has not said READY=1")
	}
	return nil
}

func said(pattern string, of Process) error {
	if of.Said == nil {
		return errUnseen
	}
	expression, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	ok, err := of.Said(expression)
	if err == nil && !ok {
		err = errors.New("no line of the output matches")
	}
	return err
}

// run runs the program to its end, or with all of its group until ctx ends.
// What it says last is why it fails.
func run(ctx context.Context, argv []string, of Process) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = of.Dir, of.Env
	out := &end{limit: 256}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 100 * time.Millisecond // for children of its own that keep the output open
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has left in its group; mostly nothing
	}
	if ctx.Err() != nil {
		return fmt.Errorf("did not end in time: %w", ctx.Err())
	}
	if said := strings.TrimSpace(string(out.text)); err != nil && said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// end keeps the last bytes of what is written to it.
type end struct {
	limit int
	text  []byte
}

func (e *end) Write(b []byte) (int, error) {
	e.text = append(e.text, b...)
	e.text = e.text[max(0, len(e.text)-e.limit):]
	return len(b), nil
}

func connect(ctx context.Context, network, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// health asks a Hero service for /health over its socket, which is to answer
// with one of those.
func health(ctx context.Context, socket string, answers ...int) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	return get(ctx, transport, "http://hero/health", answers...)
}

// get asks for the URL, which is to answer with one of those; any 2xx when none
// is given.
func get(ctx context.Context, transport http.RoundTripper, url string, answers ...int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
	if !slices.Contains(answers, resp.StatusCode) && (len(answers) > 0 || resp.StatusCode/100 != 2) {
		return fmt.Errorf("answered %s %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// Stop is what a check returns to make [Wait] end with err: waiting longer would
// not help.
func Stop(err error) error { return &stopped{err} }

type stopped struct{ error }

func (s *stopped) Unwrap() error { return s.error }

// Wait repeats check every interval until it succeeds, stops, or ctx ends; then
// the error names both why ctx ended and what check last said.
func Wait(ctx context.Context, interval time.Duration, check func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if stop := new(stopped); errors.As(err, &stop) {
			return stop.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
