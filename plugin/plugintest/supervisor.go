package plugintest

import (
	"context"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// Supervisor is a supervisor whose actions are ready, or have succeeded, as
// soon as they are started, unless [Supervisor.Break] says otherwise.
type Supervisor struct {
	mu       sync.Mutex
	services map[string]*service
	pid      int
	restarts int
}

type service struct {
	spec    plugin.ServiceSpec
	wanted  string
	actions map[string]*plugin.ActionStatus
	broken  map[string]string // action to why it fails
}

var _ plugin.Supervisor = (*Supervisor)(nil)

// Break makes the action fail, for the reason, whenever it is started; no
// reason mends it.
func (s *Supervisor) Break(unit, action, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.services[unit]; !ok {
		s.services[unit] = newService(plugin.ServiceSpec{Name: unit})
	}
	s.services[unit].broken[action] = why
}

// Replace gives the action another process, as when it died and was restarted.
func (s *Supervisor) Replace(unit, action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spawn(s.services[unit].actions[action])
}

// Restarts is how often a service was restarted.
func (s *Supervisor) Restarts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts
}

func newService(spec plugin.ServiceSpec) *service {
	return &service{spec: spec, wanted: plugin.WantIgnore, actions: map[string]*plugin.ActionStatus{}, broken: map[string]string{}}
}

// Set registers the service.
func (s *Supervisor) Set(_ context.Context, spec plugin.ServiceSpec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.services[spec.Name]
	if !ok {
		known = newService(spec)
		s.services[spec.Name] = known
	}
	known.spec = spec
	s.settle(known)
	return nil
}

// Get returns the service.
func (s *Supervisor) Get(_ context.Context, name string) (plugin.ServiceSpec, plugin.ServiceStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.services[name]
	if !ok {
		return plugin.ServiceSpec{}, plugin.ServiceStatus{}, plugin.ErrNotFound
	}
	status := plugin.ServiceStatus{Name: name, Wanted: known.wanted, Ready: known.wanted == plugin.WantStart}
	for _, a := range known.spec.Actions {
		action := plugin.ActionStatus{Name: a.Name, State: plugin.Inactive}
		if now, ok := known.actions[a.Name]; ok {
			action = *now
		}
		status.Actions = append(status.Actions, action)
		status.Ready = status.Ready && action.Ready
	}
	return known.spec, status, nil
}

// Start wants the service and starts what is not up.
func (s *Supervisor) Start(_ context.Context, name string) error {
	return s.change(name, func(known *service) {
		known.wanted = plugin.WantStart
		for action, status := range known.actions {
			if !status.Ready {
				delete(known.actions, action)
			}
		}
	})
}

// Stop stops the service.
func (s *Supervisor) Stop(_ context.Context, name string, _ bool) error {
	return s.change(name, func(known *service) {
		known.wanted = plugin.WantStop
		clear(known.actions)
	})
}

// Restart gives all actions other processes.
func (s *Supervisor) Restart(_ context.Context, name string) error {
	return s.change(name, func(known *service) {
		s.restarts++
		known.wanted = plugin.WantStart
		clear(known.actions)
	})
}

func (s *Supervisor) change(name string, do func(*service)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.services[name]
	if !ok {
		return plugin.ErrNotFound
	}
	do(known)
	s.settle(known)
	return nil
}

// settle starts what is wanted and has not been started.
func (s *Supervisor) settle(known *service) {
	if known.wanted != plugin.WantStart {
		return
	}
	for _, a := range known.spec.Actions {
		if _, ok := known.actions[a.Name]; ok {
			continue
		}
		status := &plugin.ActionStatus{Name: a.Name}
		known.actions[a.Name] = status
		switch why := known.broken[a.Name]; {
		case why != "":
			status.State, status.Why = plugin.Failed, why
		case a.Kind == plugin.Oneshot:
			status.State, status.Ready = plugin.Succeeded, true
		default:
			s.spawn(status)
		}
	}
}

func (s *Supervisor) spawn(status *plugin.ActionStatus) {
	s.pid++
	status.State, status.Ready, status.PID, status.PGID = plugin.Running, true, s.pid, s.pid
	status.StartedAt = time.Now().Format(time.RFC3339Nano)
}
