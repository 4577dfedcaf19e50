//go:build linux

package proc_test

import (
	"errors"
	"slices"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/creachadair/jrpc2"
)

// TestEveryDescribedMethodIsAnswered holds the description against the
// handlers: what it names is there, and takes no other parameters.
func TestEveryDescribedMethodIsAnswered(t *testing.T) {
	t.Parallel()
	h := up(t)
	client := rpc.NewClient(h.paths.Socket(procclient.Supervisor), rpc.Patience)
	var described struct {
		Methods []struct {
			Name, Summary string
			Params        []struct{ Name string }
		}
	}
	h.is.NoErr(client.Call(t.Context(), "rpc.discover", nil, &described))
	var names []string
	for _, m := range described.Methods {
		names = append(names, m.Name)
		h.is.True(m.Summary != "")
		if len(m.Params) == 0 {
			continue // what takes no parameters does what it does
		}
		var refused *jrpc2.Error
		err := client.Call(t.Context(), m.Name, map[string]any{"no such parameter": 1}, nil)
		h.is.True(errors.As(err, &refused))
		h.is.Equal(refused.Code, jrpc2.InvalidParams)
	}
	for _, published := range []string{
		"service.set", "service.get", "service.list", "service.delete", "service.status", "service.start", "service.stop",
		"service.restart", "service.kill", "service.why", "service.tree", "action.set", "action.get", "job.list", "logs.tail",
		"secrets.create", "secrets.get", "secrets.list", "secrets.delete", "system.ping", "system.shutdown",
	} {
		h.is.True(slices.Contains(names, published))
	}
}
