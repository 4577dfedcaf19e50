//go:build linux

package proc

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// registration is what is kept of a service: what it is and what is wanted.
type registration struct {
	Spec   plugin.ServiceSpec
	Wanted string
	registrationData
}

// registrationData is the part of a registration that needs no column.
type registrationData struct {
	Cycling  bool      `json:"cycling,omitempty"`  // all of it goes down first, then what is wanted holds again
	Deleting bool      `json:"deleting,omitempty"` // it is forgotten once it is down
	ForcedAt time.Time `json:"forced_at,omitzero"` // since then nothing may drain
}

// record is what is kept of an action: its last process and what became of it.
type record struct {
	Service string        `json:"service"`
	Action  string        `json:"action"`
	ID      string        `json:"id"`   // of the job, in the environment of its processes
	Spec    plugin.Action `json:"spec"` // as it was started
	State   string        `json:"state"`

	identity           // of the process; PID 0 when there is none
	Spawning bool      `json:"spawning,omitempty"` // about to be forked: the PID is not known yet
	Started  time.Time `json:"started,omitzero"`
	LogFrom  int64     `json:"log_from,omitempty"` // where in the file the output of this process begins
	// EverReady says that the process has been ready: there may be something
	// to drain.
	EverReady bool `json:"ever_ready,omitempty"`
	// Notified says that the process has said READY=1, which it does once.
	Notified bool `json:"notified,omitempty"`
	// StopSent is when the one stop signal was about to be sent. It is never
	// sent to the process again.
	StopSent time.Time `json:"stop_sent,omitzero"`

	Ended    time.Time `json:"ended,omitzero"`
	ExitCode *int      `json:"exit_code,omitempty"`
	Signal   string    `json:"signal,omitempty"`
	Why      string    `json:"why,omitempty"` // it failed

	Restarts int       `json:"restarts,omitempty"` // since the service was last started
	Streak   int       `json:"streak,omitempty"`   // failures in a row
	NextTry  time.Time `json:"next_try,omitzero"`  // of a restarting action
}

// leaving is that the supervisor stops everything and then ends.
type leaving struct {
	Force bool      `json:"force,omitempty"`
	Last  []string  `json:"last,omitempty"` // services that go after all others
	At    time.Time `json:"at"`
	Boot  string    `json:"boot"`
}

// service is a registered service with its actions, in their order; those that
// are registered no more but still there come last.
type service struct {
	registration
	units []*unit
	dirty bool
	held  string // by which other service its actions are kept from starting; empty: none
}

// unit is one action of a service.
type unit struct {
	record
	svc   *service
	spec  *plugin.Action // as registered; nil: not any more
	proc  *process       // what runs or is being cleared away; nil: nothing
	dirty bool

	ready       bool      // the probes pass
	readySince  time.Time // of ready
	probed      string    // what the probes said when they did not pass
	said        string    // the last STATUS= of the process
	looking     bool      // it is being found out whether anybody is in the way of a start
	clear       bool      // nobody is
	killed      string    // why the process was killed by us, empty when it was not
	stopProbes  func()    // of the running process, and its health checks
	watchHealth func()    // begins the health checks of the running process
	notified    func()    // tells the probes that the process has said READY=1
}

// action is the specification that holds for the unit now: that of the process
// while there is one.
func (u *unit) action() plugin.Action {
	if u.proc != nil || u.spec == nil {
		return u.record.Spec
	}
	return *u.spec
}

func (u *unit) oneshot() bool { return u.action().Kind == plugin.Oneshot }

func (u *unit) key() key { return key{u.Service, u.Action} }

// satisfies reports whether what depends on the unit by that condition may
// start.
func (u *unit) satisfies(condition string) bool {
	ended := u.proc == nil && !u.outdated()
	switch {
	case condition == plugin.WhenCompleted:
		return ended && (u.State == plugin.Succeeded || u.State == plugin.Failed)
	case condition == plugin.WhenRunning:
		return u.proc != nil && u.State != plugin.Stopping
	case u.oneshot():
		return ended && u.State == plugin.Succeeded
	}
	return u.ready && u.State == plugin.Running
}

// unit returns the named action of the service, nil when there is none.
func (s *service) unit(name string) *unit {
	for _, u := range s.units {
		if u.Action == name {
			return u
		}
	}
	return nil
}

func (s *service) alive() bool {
	return slices.ContainsFunc(s.units, func(u *unit) bool { return u.proc != nil })
}

// register takes spec as the registration of the service. What runs stays as
// it is.
func (s *service) register(spec plugin.ServiceSpec) {
	s.Spec, s.Deleting, s.dirty = spec, false, true
	units := make([]*unit, 0, len(spec.Actions))
	for i, action := range spec.Actions {
		u := s.unit(action.Name)
		if u == nil {
			u = &unit{svc: s, dirty: true, record: record{
				Service: spec.Name, Action: action.Name, State: plugin.Inactive,
			}}
		}
		u.spec = &spec.Actions[i]
		units = append(units, u)
	}
	for _, u := range s.units {
		if !slices.Contains(units, u) {
			u.spec = nil
			units = append(units, u)
		}
	}
	s.units = units
}

// dependents are the actions with a process that are to end before u does.
func (s *service) dependents(u *unit) []*unit {
	var list []*unit
	for _, d := range s.units {
		if d == u || d.proc == nil {
			continue
		}
		// Of what is registered no more only its own, last word is known. It
		// counts toward what still is: so the order cannot be a circle.
		needs := d.record.Spec.DependsOn
		if d.spec != nil {
			needs = d.spec.DependsOn
		} else if u.spec == nil {
			continue
		}
		if slices.ContainsFunc(needs, func(n plugin.Dependency) bool { return n.Action() == u.Action }) {
			list = append(list, d)
		}
	}
	return list
}

// progress orders the states of the actions of a service: the first that any
// of them has is the state of the service.
var progress = []string{
	plugin.Failed, plugin.Stopping, plugin.Inactive, plugin.WaitingDeps,
	plugin.Restarting, plugin.Starting, plugin.Running, plugin.Succeeded,
}

// status is what callers get to know of the service.
func (s *service) status(now time.Time) plugin.ServiceStatus {
	status := plugin.ServiceStatus{
		Name: s.Spec.Name, Wanted: s.Wanted, State: plugin.Inactive, Version: s.Spec.Version, Deleting: s.Deleting,
		Ready: s.Wanted == plugin.WantStart && len(s.units) > 0, Actions: []plugin.ActionStatus{},
	}
	least := len(progress)
	for _, u := range s.units {
		a := u.status(now)
		status.Actions = append(status.Actions, a)
		status.Ready = status.Ready && a.Ready
		least = min(least, slices.Index(progress, a.State))
	}
	if least >= 0 && least < len(progress) {
		status.State = progress[least]
	}
	return status
}

func (u *unit) status(now time.Time) plugin.ActionStatus {
	a := plugin.ActionStatus{
		Name: u.Action, State: u.State, Restarts: u.Restarts, ExitCode: u.ExitCode, Why: u.why(now),
		Ready: u.ready && u.State == plugin.Running || u.oneshot() && u.State == plugin.Succeeded,
	}
	if u.proc != nil && u.proc.file != nil {
		a.Outdated = u.outdated()
		a.PID, a.PGID = u.PID, u.PID // it leads its group
		a.StartedAt = u.Started.UTC().Format(time.RFC3339Nano)
	}
	return a
}

// job is what callers get to know of the unit's last process.
func (u *unit) job(now time.Time) procclient.Job {
	j := procclient.Job{
		ID: u.ID, Service: u.Service, Action: u.Action, State: u.State, Restarts: u.Restarts,
		ExitCode: u.ExitCode, Signal: u.Signal, StartedAt: u.Started, EndedAt: u.Ended, Why: u.why(now),
	}
	if u.proc != nil && u.proc.file != nil {
		j.PID = u.PID
	}
	return j
}

// The defaults of an action.
func restartDelay(a plugin.Action) time.Duration    { return ms(a.RestartDelayMS, 200) }
func restartDelayMax(a plugin.Action) time.Duration { return ms(a.RestartDelayMaxMS, 30_000) }
func stabilityPeriod(a plugin.Action) time.Duration { return ms(a.StabilityPeriodMS, 10_000) }
func stopTimeout(a plugin.Action) time.Duration     { return ms(a.StopTimeoutMS, 10_000) }
func probeInterval(a plugin.Action) time.Duration   { return ms(a.ProbeIntervalMS, 1000) }
func probeTimeout(a plugin.Action) time.Duration    { return ms(a.ProbeTimeoutMS, 2000) }
func stopDelay(a plugin.Action) time.Duration       { return ms(a.StopDelayMS, 0) }

func ms(n, otherwise int) time.Duration {
	return time.Duration(cmp.Or(n, otherwise)) * time.Millisecond
}

// outdated reports whether the action is registered otherwise than it was when
// it last ran.
func (u *unit) outdated() bool {
	return u.spec != nil && !reflect.DeepEqual(u.record.Spec, *u.spec)
}

// superseded reports whether the process is of no use as the action is
// registered now: it has never been ready, and may never be by the probes it
// was started with.
func (u *unit) superseded() bool {
	return !u.oneshot() && !u.EverReady && u.outdated()
}
