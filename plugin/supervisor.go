package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
)

// Supervisor is what the bring-up asks of hero_proc, or of anything that keeps
// processes alive in its place.
//
// Every method may be repeated: setting what is set, starting what runs and
// stopping what is down do nothing. An unknown service is [ErrNotFound].
type Supervisor interface {
	// Set registers the service, or replaces its registration. It touches no
	// process that has been ready: a changed action takes effect when it next
	// starts. One that has never been is started anew, and so is a oneshot that
	// has ended as it was registered before. An action that is new to a wanted
	// service is started; one that is gone is stopped.
	Set(ctx context.Context, spec ServiceSpec) error
	// Get returns the registration and the state of a service.
	Get(ctx context.Context, name string) (ServiceSpec, ServiceStatus, error)
	// Start records that the service is wanted and starts the actions that are
	// not up. A oneshot that has succeeded runs again when nothing of the
	// service is up. It does not wait for them.
	Start(ctx context.Context, name string) error
	// Stop records that the service is not wanted and stops its actions,
	// dependents first. It does not wait for them. Force does not let an
	// action drain: it is killed after its grace.
	Stop(ctx context.Context, name string, force bool) error
	// Restart stops what is up, dependents first, and starts all actions anew,
	// oneshots included.
	Restart(ctx context.Context, name string) error
}

// Secrets is the secret store of hero_proc, where every process has its
// configuration from. Names are kept apart by context.
type Secrets interface {
	// CreateSecret stores a value once; [ErrExists] when there is one already.
	CreateSecret(ctx context.Context, context, name, value string) error
	// GetSecret returns a value; [ErrNotFound] when there is none.
	GetSecret(ctx context.Context, context, name string) (string, error)
}

// What a [Supervisor] or [Secrets] answers when callers have to branch.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
)

// ServiceSpec registers a service with the supervisor.
type ServiceSpec struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Version     string            `json:"version,omitempty"` // of what it runs
	Ports       map[string]int    `json:"ports,omitempty"`   // chosen once, then kept
	Tags        map[string]string `json:"tags,omitempty"`    // for the registrant; the supervisor only keeps them
	// Requires names the services that must be ready before an action of this
	// one starts. Starting it starts those of them that nobody has stopped.
	Requires []string `json:"requires,omitempty"`
	// After names services that must be ready first if they are wanted at all.
	After   []string `json:"after,omitempty"`
	Actions []Action `json:"actions,omitempty"`
}

// Equal reports whether both registrations are the same to a supervisor, which
// gets them as JSON.
func (s ServiceSpec) Equal(other ServiceSpec) bool {
	a, errA := json.Marshal(s)
	b, errB := json.Marshal(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// Kind says how an action ends.
type Kind string

// The kinds of actions.
const (
	Process Kind = "process" // stays; an exit nobody asked for is a failure whatever its code
	Oneshot Kind = "oneshot" // runs to its end and succeeds with code 0
)

// The restart policies of an action.
const (
	RestartAlways    = "always"     // default of a process
	RestartOnFailure = "on-failure" // for a process the same as always: any unasked exit is a failure
	RestartNever     = "never"      // default of a oneshot
)

// Action is one process of a service. It runs in a session and process group
// of its own, with exactly the environment given here (and the forwarded Hero
// variables), standard input empty, output in a file.
//
// Durations are in milliseconds; zero takes the default.
type Action struct {
	Name      string            `json:"name"`
	Kind      Kind              `json:"kind,omitempty"` // default process
	Command   []string          `json:"command"`        // program (absolute) and arguments; no shell
	Cwd       string            `json:"cwd,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	DependsOn []Dependency      `json:"depends_on,omitempty"` // actions of the same service
	Ready     []ready.Probe     `json:"ready,omitempty"`      // all must pass; without any, the action is ready while it runs
	// Health is looked at once the process has been ready. When it fails the
	// process is killed with all it started, and restarted as after a crash.
	Health []ready.Probe `json:"health_checks,omitempty"`

	Limits Limits `json:"limits,omitzero"`

	// Sockets are what the process will listen on: "tcp:PORT", "udp:PORT" or
	// "unix:PATH". While another process has one of them this one is not
	// started, and the reason names the other.
	Sockets []string `json:"sockets,omitempty"`
	// Singleton says that no other process may run the very same program file.
	Singleton bool `json:"singleton,omitempty"`
	// KillOther ends the process that is in the way for one of these two
	// reasons, unless it belongs to a service.
	KillOther bool `json:"kill_other,omitempty"`

	TimeoutMS        int `json:"timeout_ms,omitempty"`        // of a oneshot: killed and failed after that; default none
	StartTimeoutMS   int `json:"start_timeout_ms,omitempty"`  // of a process: killed and failed when it was not ready by then; default none
	ProbeIntervalMS  int `json:"probe_interval_ms,omitempty"` // between two looks at what is ready; default 1000
	ProbeTimeoutMS   int `json:"probe_timeout_ms,omitempty"`  // of one look; default 2000
	FailureThreshold int `json:"failure_threshold,omitempty"` // failed looks in a row that make ready not ready, or unhealthy; default 3
	SuccessThreshold int `json:"success_threshold,omitempty"` // good looks in a row that make not ready ready; default 1

	Restart           string `json:"restart,omitempty"`
	RestartDelayMS    int    `json:"restart_delay_ms,omitempty"`     // the first restart is at once, then this, doubling; default 200
	RestartDelayMaxMS int    `json:"restart_delay_max_ms,omitempty"` // default 30000
	MaxRestarts       int    `json:"max_restarts,omitempty"`         // in a row; 0 is unlimited
	StabilityPeriodMS int    `json:"stability_period_ms,omitempty"`  // ready for so long ends the row; default 10000

	StopSignal    string `json:"stop_signal,omitempty"`     // default TERM, sent once to the leader
	StopTimeoutMS int    `json:"stop_timeout_ms,omitempty"` // then the whole group is killed; default 10000
	// Drain lets a stop take as long as the process needs: only force applies
	// the stop timeout. The one stop signal is recorded before it is sent.
	Drain bool `json:"drain,omitempty"`
	// StopDelayMS is how long the process must have run before the stop signal
	// may reach it, for programs that lose a signal while they start.
	StopDelayMS int `json:"stop_delay_ms,omitempty"`
}

// Limits are what a process may not exceed, and who it is. They hold for all it
// starts, from its first instruction on. What cannot be given is a failure to
// start, never left out.
type Limits struct {
	User        string           `json:"user,omitempty"`          // default the supervisor's; another only where that is root
	Group       string           `json:"group,omitempty"`         // default the user's
	Umask       string           `json:"umask,omitempty"`         // octal, such as "0077"; default the supervisor's
	NoNewPrivs  bool             `json:"no_new_privs,omitempty"`  // no program it starts gains rights, as by setuid
	OOMScoreAdj int              `json:"oom_score_adj,omitempty"` // -1000 to 1000: the higher, the earlier it ends when memory runs out
	Rlimits     map[string]int64 `json:"rlimits,omitempty"`       // by name, such as nofile, core, as; -1 is unlimited
}

// Dependency is an action of the same service and the condition that it must
// meet before another one starts: "NAME", or "NAME:CONDITION".
type Dependency string

// The conditions of a dependency.
const (
	WhenSucceeded = "succeeded" // a oneshot has ended with code 0; default for one
	WhenCompleted = "completed" // a oneshot has ended, with whatever code
	WhenReady     = "ready"     // the probes of a process pass; default for one
	WhenRunning   = "running"   // a process is there
)

// Action is the name of the action that is depended on.
func (d Dependency) Action() string {
	name, _, _ := strings.Cut(string(d), ":")
	return name
}

// Condition is what the action must meet; empty means its kind's default.
func (d Dependency) Condition() string {
	_, condition, _ := strings.Cut(string(d), ":")
	return condition
}

// The states of an action.
const (
	Inactive    = "inactive"     // never started, or stopped as asked
	WaitingDeps = "waiting_deps" // wanted, held by depends_on
	Starting    = "starting"     // runs, its probes have not passed yet
	Running     = "running"      // runs and has been ready; see [ActionStatus.Ready] for now
	Restarting  = "restarting"   // failed, waits for its next try
	Stopping    = "stopping"     // asked to stop, still there
	Succeeded   = "succeeded"    // a oneshot that ended with code 0
	Failed      = "failed"       // ended and is not tried again by itself
)

// What is wanted of a service.
const (
	WantStart  = "start"
	WantStop   = "stop"
	WantIgnore = "ignore" // nobody has said yet: what is down stays down, what runs goes on and is not restarted
)

// ServiceStatus is what the supervisor knows of a service at this moment.
type ServiceStatus struct {
	Name    string `json:"name"`
	Wanted  string `json:"wanted"` // start, stop or ignore
	State   string `json:"state"`  // the least advanced of its actions
	Ready   bool   `json:"ready"`  // wanted, and every action is ready or has succeeded
	Version string `json:"version,omitempty"`
	// Deleting says that the service is forgotten once it is down. To set it
	// again takes that back.
	Deleting bool           `json:"deleting,omitempty"`
	Actions  []ActionStatus `json:"actions"`
}

// ActionStatus is what the supervisor knows of an action at this moment.
type ActionStatus struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Ready     bool   `json:"ready"` // its probes pass now, never a mere PID; of a oneshot: it succeeded
	PID       int    `json:"pid"`   // 0 when there is none
	PGID      int    `json:"pgid"`
	StartedAt string `json:"started_at"`         // RFC 3339; empty when there is no process
	Restarts  int    `json:"restarts"`           // since the service was last started
	ExitCode  *int   `json:"exit_code"`          // of the last process that ended; null: none yet, by a signal, or unknown (Why tells)
	Outdated  bool   `json:"outdated,omitempty"` // it is registered otherwise by now than the process was started
	Why       string `json:"why"`                // what it waits for or why it failed, for people; no secret
}

// Alive reports whether the action has a process.
func (s ActionStatus) Alive() bool { return s.PID != 0 }

// Action returns the status of the named action, zero when there is none.
func (s ServiceStatus) Action(name string) ActionStatus {
	for _, a := range s.Actions {
		if a.Name == name {
			return a
		}
	}
	return ActionStatus{}
}

// Alive reports whether any action of the service has a process.
func (s ServiceStatus) Alive() bool {
	for _, a := range s.Actions {
		if a.Alive() {
			return true
		}
	}
	return false
}
