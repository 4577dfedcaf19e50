//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/creachadair/jrpc2"
)

// defaultContext keeps the secrets that are stored without a context.
const defaultContext = "core"

// api is the service that the supervisor offers on its socket.
func (s *supervisor) api() rpc.Service {
	return rpc.Service{
		Name: Name, Version: s.cfg.Version, Health: s.health,
		Methods: map[string]rpc.Method{
			"service.set":     rpc.Func("Registers a service, or replaces its registration.", s.setService),
			"service.get":     rpc.Func("Returns the registration and the state of a service.", s.getService),
			"service.list":    rpc.Func("Returns the states of all services, by name.", s.listServices),
			"service.delete":  rpc.Func("Stops a service and forgets it once it is down.", s.deleteService),
			"service.status":  rpc.Func("Returns the state of a service.", s.serviceStatus),
			"service.start":   rpc.Func("Records that a service is wanted, and starts what is not up.", s.startService),
			"service.stop":    rpc.Func("Records that a service is not wanted, and stops it.", s.stopService),
			"service.restart": rpc.Func("Stops what is up of a service and starts all of it anew.", s.restartService),
			"service.ignore":  rpc.Func("Leaves a service to itself: what runs is not restarted when it ends.", s.ignoreService),
			"service.kill":    rpc.Func("Kills the processes of an action, or of all; what is wanted stays.", s.killService),
			"service.why":     rpc.Func("Says in words how each action of a service stands.", s.serviceWhy),
			"service.tree":    rpc.Func("Returns what depends on what, and the processes of each action.", s.serviceTree),
			"action.set":      rpc.Func("Registers an action of a service, or replaces its registration.", s.setAction),
			"action.get":      rpc.Func("Returns the registration and the state of an action.", s.getAction),
			"job.list":        rpc.Func("Returns the last job of every action.", s.listJobs),
			"logs.tail":       rpc.Func("Returns the last lines of output.", s.tailLogs),
			"logs.get":        rpc.Func("Returns output from a position on, with times and levels.", s.getLogs),
			"secrets.create":  rpc.Func("Stores a value where there is none.", s.createSecret),
			"secrets.set":     rpc.Func("Stores a value, whatever is there.", s.setSecret),
			"secrets.rotate":  rpc.Func("Stores a value in place of the one that is there.", s.rotateSecret),
			"secrets.rekey":   rpc.Func("Seals all values by a new key.", s.rekeySecrets),
			"secrets.get":     rpc.Func("Returns a value.", s.getSecret),
			"secrets.list":    rpc.Func("Returns the names of the values in a context.", s.listSecrets),
			"secrets.delete":  rpc.Func("Forgets a value.", s.deleteSecret),
			"system.info":     rpc.Func("Says who supervises.", s.info),
			"system.shutdown": rpc.Func("Stops every service, and then the supervisor.", s.shutdown),
			"system.restart":  rpc.Func("Replaces supervisor and keeper by a new start of their program; processes go on.", s.restart),
		},
		Routes: map[string]http.Handler{
			"GET /events": http.HandlerFunc(s.stream),
			"GET /logs":   http.HandlerFunc(s.streamLogs),
		},
	}
}

// answer gives err the code by which callers know it.
func answer(err error) error {
	for code, sentinel := range map[jrpc2.Code]error{
		procclient.CodeNotFound: plugin.ErrNotFound, procclient.CodeExists: plugin.ErrExists,
		procclient.CodeLeaving: procclient.ErrShuttingDown, procclient.CodeEnding: errEnding,
	} {
		if errors.Is(err, sentinel) {
			return jrpc2.Errorf(code, "%s", err)
		}
	}
	return err
}

func refuse(err error) error { return jrpc2.Errorf(jrpc2.InvalidParams, "%s", err) }

// find returns a registered service.
func (s *supervisor) find(name string) (*service, error) {
	if svc := s.services[name]; svc != nil {
		return svc, nil
	}
	return nil, fmt.Errorf("service %s: %w", name, plugin.ErrNotFound)
}

// change has fn change a service, and what follows from it done.
func (s *supervisor) change(ctx context.Context, name string, fn func(*service) error) (bool, error) {
	return s.changeBy(ctx, s.do, name, fn)
}

// changeAnyway is change for what has to happen even where it cannot be
// written down.
func (s *supervisor) changeAnyway(ctx context.Context, name string, fn func(*service) error) (bool, error) {
	return s.changeBy(ctx, s.insist, name, fn)
}

func (s *supervisor) changeBy(ctx context.Context, do func(context.Context, func() error) error, name string, fn func(*service) error) (bool, error) {
	err := do(ctx, func() error {
		svc, err := s.find(name)
		if err != nil {
			return err
		}
		return fn(svc)
	})
	return err == nil, answer(err)
}

// read has fn look at a service.
func (s *supervisor) read(ctx context.Context, name string, fn func(*service) error) error {
	return answer(s.ask(ctx, func() error {
		svc, err := s.find(name)
		if err != nil {
			return err
		}
		return fn(svc)
	}))
}

func (s *supervisor) health(ctx context.Context) error {
	return s.ask(ctx, func() error { return s.storeError })
}

func (s *supervisor) setService(ctx context.Context, p procclient.SetService) (bool, error) {
	if err := Validate(p.Spec); err != nil {
		return false, refuse(err)
	}
	err := s.do(ctx, func() error {
		if err := s.checkOrder(p.Spec); err != nil {
			return refuse(err)
		}
		svc := s.services[p.Spec.Name]
		if svc == nil {
			svc = &service{registration: registration{Wanted: plugin.WantIgnore}}
			s.services[p.Spec.Name] = svc
		}
		svc.register(p.Spec)
		return nil
	})
	return err == nil, answer(err)
}

func (s *supervisor) setAction(ctx context.Context, p procclient.SetAction) (bool, error) {
	return s.change(ctx, p.Service, func(svc *service) error {
		spec := svc.Spec
		spec.Actions = slices.Clone(spec.Actions)
		i := slices.IndexFunc(spec.Actions, func(a plugin.Action) bool { return a.Name == p.Action.Name })
		if i < 0 {
			spec.Actions = append(spec.Actions, p.Action)
		} else {
			spec.Actions[i] = p.Action
		}
		if err := Validate(spec); err != nil {
			return refuse(err)
		}
		svc.register(spec)
		return nil
	})
}

func (s *supervisor) getService(ctx context.Context, p procclient.Name) (got procclient.Service, err error) {
	err = s.read(ctx, p.Name, func(svc *service) error {
		got = procclient.Service{Spec: svc.Spec, Status: svc.status(time.Now())}
		return nil
	})
	return got, err
}

func (s *supervisor) serviceStatus(ctx context.Context, p procclient.Name) (plugin.ServiceStatus, error) {
	got, err := s.getService(ctx, p)
	return got.Status, err
}

func (s *supervisor) getAction(ctx context.Context, p procclient.ActionName) (got procclient.Action, err error) {
	err = s.read(ctx, p.Service, func(svc *service) error {
		u := svc.unit(p.Action)
		if u == nil {
			return fmt.Errorf("action %s of service %s: %w", p.Action, p.Service, plugin.ErrNotFound)
		}
		got.Status = u.status(time.Now())
		if got.Spec = u.record.Spec; u.spec != nil {
			got.Spec = *u.spec
		}
		return nil
	})
	return got, err
}

func (s *supervisor) listServices(ctx context.Context) ([]plugin.ServiceStatus, error) {
	list := []plugin.ServiceStatus{}
	err := s.ask(ctx, func() error {
		for _, svc := range s.sorted() {
			list = append(list, svc.status(time.Now()))
		}
		return nil
	})
	return list, answer(err)
}

func (s *supervisor) listJobs(ctx context.Context, p procclient.Jobs) ([]procclient.Job, error) {
	list := []procclient.Job{}
	err := s.ask(ctx, func() error {
		for _, svc := range s.sorted() {
			for _, u := range svc.units {
				if u.ID != "" && (p.Service == "" || p.Service == svc.Spec.Name) {
					list = append(list, u.job(time.Now()))
				}
			}
		}
		return nil
	})
	return list, answer(err)
}

// serviceWhy says in words how each action stands and how its last process
// ended.
func (s *supervisor) serviceWhy(ctx context.Context, p procclient.Name) (string, error) {
	var out strings.Builder
	err := s.read(ctx, p.Name, func(svc *service) error {
		now := time.Now()
		fmt.Fprintf(&out, "%s: wanted: %s, state: %s\n", svc.Spec.Name, svc.Wanted, svc.status(now).State)
		for _, u := range svc.units {
			fmt.Fprintf(&out, "%s: %s", u.Action, u.State)
			if why := u.why(now); why != "" {
				fmt.Fprintf(&out, ", %s", why)
			}
			if !u.Ended.IsZero() {
				fmt.Fprintf(&out, "; last ended at %s with %s", u.Ended.Local().Format(time.DateTime), u.last())
			}
			fmt.Fprintln(&out)
		}
		return nil
	})
	return out.String(), err
}

// last says how the last process that ended did.
func (u *unit) last() string {
	switch {
	case u.ExitCode != nil:
		return fmt.Sprintf("code %d", *u.ExitCode)
	case u.Signal != "":
		return u.Signal
	}
	return "nobody knows what"
}
