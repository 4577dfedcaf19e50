//go:build linux

package proc_test

import (
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/plugintest"
)

// TestConforms has the supervisor checked over its socket, as everybody else
// meets it.
func TestConforms(t *testing.T) {
	t.Parallel()
	plugintest.RunSupervisor(t, func(t *testing.T) plugin.Supervisor { return up(t) })
}
