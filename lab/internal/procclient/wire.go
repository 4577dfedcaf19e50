package procclient

import (
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/creachadair/jrpc2"
)

// The JSON-RPC error codes that the supervisor answers with where a caller has
// to branch. A parameter that makes no sense is [jrpc2.InvalidParams].
const (
	CodeNotFound jrpc2.Code = -32004 // becomes [plugin.ErrNotFound]
	CodeExists   jrpc2.Code = -32009 // becomes [plugin.ErrExists]
	CodeLeaving  jrpc2.Code = -32010 // becomes [ErrShuttingDown]
	CodeEnding   jrpc2.Code = -32011 // nothing was done, ask the next supervisor; only seen when there is none
)

// Name is the parameter of the methods that speak of one service.
type Name struct {
	Name string `json:"name"`
}

// Stop is the parameter of service.stop and service.delete.
type Stop struct {
	Name  string `json:"name"`
	Force bool   `json:"force,omitempty"`
}

// Service is the result of service.get.
type Service struct {
	Spec   plugin.ServiceSpec   `json:"spec"`
	Status plugin.ServiceStatus `json:"status"`
}

// SetService is the parameter of service.set.
type SetService struct {
	Spec plugin.ServiceSpec `json:"spec"`
}

// ActionName is the parameter of action.get and, with or without an action, of
// service.kill.
type ActionName struct {
	Service string `json:"service"`
	Action  string `json:"action,omitempty"`
}

// SetAction is the parameter of action.set.
type SetAction struct {
	Service string        `json:"service"`
	Action  plugin.Action `json:"action"`
}

// Action is the result of action.get.
type Action struct {
	Spec   plugin.Action       `json:"spec"`
	Status plugin.ActionStatus `json:"status"`
}

// Tree is the result of service.tree.
type Tree struct {
	Name     string   `json:"name"`
	Requires []string `json:"requires,omitempty"`
	After    []string `json:"after,omitempty"`
	Actions  []Branch `json:"actions"`
}

// Branch is an action in a [Tree].
type Branch struct {
	Name      string              `json:"name"`
	State     string              `json:"state"`
	DependsOn []plugin.Dependency `json:"depends_on,omitempty"`
	Processes []Process           `json:"processes"` // all that belongs to it, its leader first
}

// Process is a process of an action, whoever started it.
type Process struct {
	PID     int    `json:"pid"`
	Parent  int    `json:"parent"`
	Command string `json:"command"` // name of the program, without its arguments
}

// Jobs is the parameter of job.list; an empty service means all.
type Jobs struct {
	Service string `json:"service,omitempty"`
}

// Job is what the supervisor keeps of the last process of an action.
type Job struct {
	ID        string    `json:"id"` // HERO_PROC_JOB in the environment of its processes
	Service   string    `json:"service"`
	Action    string    `json:"action"`
	State     string    `json:"state"`
	PID       int       `json:"pid"`
	Restarts  int       `json:"restarts"`
	ExitCode  *int      `json:"exit_code"`
	Signal    string    `json:"signal,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Why       string    `json:"why,omitempty"`
}

// Tail is the parameter of logs.tail; an empty action means all of the service.
type Tail struct {
	Service string `json:"service"`
	Action  string `json:"action,omitempty"`
	Lines   int    `json:"lines,omitempty"` // at most 10000; zero: 100
}

// LogQuery is the parameter of logs.get.
type LogQuery struct {
	Service string `json:"service"`
	Action  string `json:"action"`
	After   int64  `json:"after,omitempty"` // the position behind which to begin; negative: the last lines
	Limit   int    `json:"limit,omitempty"` // lines, at most 10000; zero: 100
}

// LogLine is one line of output.
type LogLine struct {
	Pos     int64     `json:"pos"`  // behind it: what to ask for next
	Time    time.Time `json:"time"` // when it was written, to a tenth of a second
	Service string    `json:"service"`
	Action  string    `json:"action"`
	Level   string    `json:"level,omitempty"` // trace, debug, info, warn or error, where the line says
	Text    string    `json:"text"`            // without colours, control characters and secrets
}

// Secret is the parameter of secrets.create, secrets.set and secrets.rotate, and without its
// value of secrets.get and secrets.delete.
type Secret struct {
	Context string `json:"context"`
	Name    string `json:"name"`
	Value   string `json:"value,omitempty"`
}

// SecretContext is the parameter of secrets.list.
type SecretContext struct {
	Context string `json:"context"`
}

// Shutdown is the parameter of system.shutdown.
type Shutdown struct {
	Force bool     `json:"force,omitempty"` // let nothing drain
	Last  []string `json:"last,omitempty"`  // services that are stopped after all others
}

// Info is the result of system.info.
type Info struct {
	PID       int       `json:"pid"`
	KeeperPID int       `json:"keeper_pid"`
	Version   string    `json:"version"`
	Socket    string    `json:"socket"`
	StartedAt time.Time `json:"started_at"`
	// Leaving says that the supervisor stops everything in order to end.
	Leaving bool `json:"leaving,omitempty"`
	// Trouble says why the supervisor cannot write down what it does, such as a
	// full disk. Until it can, it changes nothing that it is asked to.
	Trouble string `json:"trouble,omitempty"`
}

// Event is one line of GET /events. A line with nothing but Seq only tells the
// position.
type Event struct {
	Seq  int64     `json:"seq"`
	Time time.Time `json:"time,omitzero"`
	*events.JobState
}
