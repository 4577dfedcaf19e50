//go:build linux

package proc

import (
	"bytes"
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
)

// serviceTree returns what the service needs, and of each action what it needs
// and all its processes.
func (s *supervisor) serviceTree(ctx context.Context, p procclient.Name) (tree procclient.Tree, err error) {
	held := map[string]*process{}
	err = s.read(ctx, p.Name, func(svc *service) error {
		tree = procclient.Tree{Name: p.Name, Requires: svc.Spec.Requires, After: svc.Spec.After, Actions: []procclient.Branch{}}
		for _, u := range svc.units {
			branch := procclient.Branch{Name: u.Action, State: u.State, DependsOn: u.action().DependsOn, Processes: []procclient.Process{}}
			tree.Actions = append(tree.Actions, branch)
			if u.proc != nil {
				held[u.Action] = u.proc
			}
		}
		return nil
	})
	if err != nil {
		return tree, err
	}
	for i, branch := range tree.Actions {
		if proc := held[branch.Name]; proc != nil {
			if tree.Actions[i].Processes, err = proc.list(); err != nil {
				return tree, err
			}
		}
	}
	return tree, nil
}

// list describes all that belongs to the process, the leader first.
func (p *process) list() ([]procclient.Process, error) {
	members, err := p.members(time.Now())
	if err != nil {
		return nil, err
	}
	list := []procclient.Process{}
	for _, pid := range slices.Sorted(maps.Keys(members)) {
		st, err := readStat(pid)
		if err != nil || st.ticks != members[pid] {
			continue // it has gone meanwhile
		}
		one := procclient.Process{PID: pid, Parent: st.parent, Command: program(pid)}
		if pid == p.PID {
			list = slices.Insert(list, 0, one)
		} else {
			list = append(list, one)
		}
	}
	return list, nil
}

// program is the name of the program that the process runs, without its
// arguments, which may be secret.
func program(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return ""
	}
	return plain(string(bytes.TrimSpace(b)))
}
