package proc

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/job"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
)

// jobVariable carries the job's ID in the environment of its processes, by
// which they are found again.
const jobVariable = "HERO_PROC_JOB"

// longest is the longest duration that a registration may ask for.
const longest = 10 * 365 * 24 * time.Hour

// name is what services and actions may be called: it becomes part of paths.
var name = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// signals are the stop signals a registration may choose from.
var signals = map[string]syscall.Signal{
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "HUP": syscall.SIGHUP,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "KILL": syscall.SIGKILL,
}

// limited are the resources that can be limited.
var limited = []string{"as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack"}

// Validate returns every mistake in a registration, joined, each beginning
// with its path, such as `actions[1].depends_on[0]: unknown name "confgure"`.
func Validate(spec plugin.ServiceSpec) error {
	var errs problems
	errs.name("name", spec.Name)
	if spec.Name == Name {
		errs.add("name", "%q is the supervisor itself", spec.Name)
	}
	for _, port := range slices.Sorted(maps.Keys(spec.Ports)) {
		if n := spec.Ports[port]; n < 0 || n > 65535 {
			errs.add("ports."+port, "%d is not a port", n)
		}
	}
	kinds := make(map[string]plugin.Kind, len(spec.Actions))
	for _, action := range spec.Actions {
		kinds[action.Name] = action.Kind
	}
	graph := make(job.Graph, 0, len(spec.Actions))
	for i, action := range spec.Actions {
		path := fmt.Sprintf("actions[%d]", i)
		errs.action(path, action)
		node := job.Node{Name: action.Name}
		for k, needs := range action.DependsOn {
			errs.condition(fmt.Sprintf("%s.depends_on[%d]", path, k), needs.Condition(), kinds[needs.Action()])
			node.DependsOn = append(node.DependsOn, needs.Action())
		}
		graph = append(graph, node)
	}
	errs.services("requires", spec, spec.Requires)
	errs.services("after", spec, spec.After)
	return errors.Join(errors.Join(errs...), graph.Validate("actions"))
}

// condition refuses one that an action of the kind can never meet.
func (p *problems) condition(path, condition string, of plugin.Kind) {
	if of == plugin.Oneshot {
		p.oneOf(path, condition, plugin.WhenSucceeded, plugin.WhenCompleted)
	} else {
		p.oneOf(path, condition, plugin.WhenReady, plugin.WhenRunning)
	}
}

// services checks the names of other services.
func (p *problems) services(path string, spec plugin.ServiceSpec, names []string) {
	for i, n := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		p.name(at, n)
		if n == spec.Name {
			p.add(at, "a service cannot wait for itself")
		}
		if slices.Index(names, n) < i {
			p.add(at, "%q is named twice", n)
		}
	}
}

// problems are mistakes found so far.
type problems []error

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %w", path, fmt.Errorf(format, args...)))
}

func (p *problems) name(path, value string) {
	if !name.MatchString(value) || value == "." || value == ".." {
		p.add(path, "%q is not 1 to 64 letters, digits, '_', '-' or '.'", value)
	}
}

func (p *problems) oneOf(path, value string, known ...string) {
	if value != "" && !slices.Contains(known, value) {
		p.add(path, "%q is none of %s", value, strings.Join(known, ", "))
	}
}

func (p *problems) text(path, value string) {
	if strings.ContainsRune(value, 0) {
		p.add(path, "contains a zero byte")
	}
}

func (p *problems) action(path string, a plugin.Action) {
	p.name(path+".name", a.Name)
	p.oneOf(path+".kind", string(a.Kind), string(plugin.Process), string(plugin.Oneshot))
	p.oneOf(path+".restart", a.Restart, plugin.RestartAlways, plugin.RestartOnFailure, plugin.RestartNever)
	if _, ok := stopSignal(a); !ok {
		p.add(path+".stop_signal", "%q is none of %s", a.StopSignal, strings.Join(slices.Sorted(maps.Keys(signals)), ", "))
	}
	p.command(path, a)
	p.environment(path+".env", a.Env)
	p.limits(path+".limits", a.Limits)
	p.sockets(path, a)
	p.numbers(path, a)
	p.probes(path+".ready", a.Ready)
	p.probes(path+".health_checks", a.Health)
	p.kind(path, a)
}

func (p *problems) sockets(path string, a plugin.Action) {
	for i, socket := range a.Sockets {
		at := fmt.Sprintf("%s.sockets[%d]", path, i)
		network, address, _ := strings.Cut(socket, ":")
		p.oneOf(at, cmp.Or(network, "nothing"), "tcp", "udp", "unix")
		port, err := strconv.ParseUint(address, 10, 16)
		switch {
		case network == "unix" && !filepath.IsAbs(address):
			p.add(at, "%q is not an absolute path", address)
		case network != "unix" && (err != nil || port == 0):
			p.add(at, "%q is not a port", address)
		}
	}
	if a.KillOther && len(a.Sockets) == 0 && !a.Singleton {
		p.add(path+".kill_other", "says what to do about others in the way, but neither sockets nor singleton says who is")
	}
}

func (p *problems) limits(path string, l plugin.Limits) {
	if mask, err := strconv.ParseUint(l.Umask, 8, 32); l.Umask != "" && (err != nil || mask > 0o777) {
		p.add(path+".umask", "%q is not octal, such as 0077", l.Umask)
	}
	if l.OOMScoreAdj < -1000 || l.OOMScoreAdj > 1000 {
		p.add(path+".oom_score_adj", "%d is not between -1000 and 1000", l.OOMScoreAdj)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Rlimits)) {
		p.oneOf(path+".rlimits", name, limited...)
		if name == "" || l.Rlimits[name] < -1 {
			p.add(path+".rlimits."+name, "%d is no limit", l.Rlimits[name])
		}
	}
}

func (p *problems) probes(path string, probes []ready.Probe) {
	for i, probe := range probes {
		if err := probe.Validate(); err != nil {
			p.add(fmt.Sprintf("%s[%d]", path, i), "%w", err)
		}
	}
}

// kind refuses what would silently mean nothing for the kind of action.
func (p *problems) kind(path string, a plugin.Action) {
	if a.Kind != plugin.Oneshot {
		if a.TimeoutMS > 0 {
			p.add(path+".timeout_ms", "only a oneshot has one")
		}
		return
	}
	if a.Restart == plugin.RestartAlways {
		p.add(path+".restart", "a oneshot is not restarted once it has succeeded: use on-failure or never")
	}
	if len(a.Ready) > 0 {
		p.add(path+".ready", "a oneshot is not waited for to be ready but to succeed")
	}
	if len(a.Health) > 0 {
		p.add(path+".health_checks", "a oneshot has none: give it timeout_ms")
	}
	if a.StartTimeoutMS > 0 {
		p.add(path+".start_timeout_ms", "a oneshot has timeout_ms")
	}
}

func (p *problems) command(path string, a plugin.Action) {
	if len(a.Command) == 0 {
		p.add(path+".command", "is empty")
	} else if !filepath.IsAbs(a.Command[0]) {
		p.add(path+".command[0]", "%q is not an absolute path", a.Command[0])
	}
	for i, arg := range a.Command {
		p.text(fmt.Sprintf("%s.command[%d]", path, i), arg)
	}
	if a.Cwd != "" && !filepath.IsAbs(a.Cwd) {
		p.add(path+".cwd", "%q is not an absolute path", a.Cwd)
	}
	p.text(path+".cwd", a.Cwd)
}

func (p *problems) environment(path string, env map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(env)) {
		switch {
		case key == "" || strings.ContainsAny(key, "=\x00"):
			p.add(path, "%q is not the name of a variable", key)
		case key == jobVariable:
			p.add(path+"."+key, "is set by the supervisor")
		}
		p.text(path+"."+key, env[key])
	}
}

func (p *problems) numbers(path string, a plugin.Action) {
	for _, n := range []struct {
		name  string
		value int
	}{
		{"timeout_ms", a.TimeoutMS},
		{"start_timeout_ms", a.StartTimeoutMS},
		{"probe_interval_ms", a.ProbeIntervalMS},
		{"probe_timeout_ms", a.ProbeTimeoutMS},
		{"failure_threshold", a.FailureThreshold},
		{"success_threshold", a.SuccessThreshold},
		{"restart_delay_ms", a.RestartDelayMS},
		{"restart_delay_max_ms", a.RestartDelayMaxMS},
		{"max_restarts", a.MaxRestarts},
		{"stability_period_ms", a.StabilityPeriodMS},
		{"stop_timeout_ms", a.StopTimeoutMS},
		{"stop_delay_ms", a.StopDelayMS},
	} {
		switch {
		case n.value < 0:
			p.add(path+"."+n.name, "%d is negative", n.value)
		case int64(n.value) > longest.Milliseconds():
			p.add(path+"."+n.name, "%d is more than ten years", n.value)
		}
	}
}

// stopSignal is the signal that asks the action to end.
func stopSignal(a plugin.Action) (syscall.Signal, bool) {
	if a.StopSignal == "" {
		return syscall.SIGTERM, true
	}
	signal, ok := signals[strings.TrimPrefix(a.StopSignal, "SIG")]
	return signal, ok
}
