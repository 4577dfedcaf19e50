//go:build linux

package proc_test

import (
	"os"
	"strings"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// TestLimits looks from inside, and with a probe from outside, at what a
// process was given.
func TestLimits(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := plugin.Action{Name: "a", Kind: plugin.Oneshot, Command: []string{"/bin/sh", "-c", `
umask; ulimit -n; ulimit -c; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj; grep SigBlk /proc/self/status; ps -o sid= $$ | tr -d ' ' | sed "s/^$$$/leads its session/"`}}
	a.Limits = plugin.Limits{Umask: "0027", NoNewPrivs: true, OOMScoreAdj: 500, Rlimits: map[string]int64{"nofile": 77, "core": 0}}
	plain := plugin.Action{Name: "plain", Kind: plugin.Oneshot, Command: []string{"/bin/sh", "-c", "grep NoNewPrivs /proc/self/status; umask"}}
	h.set("s", a, plain)
	h.reaches("s", "a", plugin.Succeeded)
	h.reaches("s", "plain", plugin.Succeeded)
	h.is.Equal(strings.Fields(h.wrote("s", "a")), strings.Fields("0027 77 0 NoNewPrivs: 1 500 SigBlk: 0000000000000000 leads its session"))
	h.is.True(strings.HasPrefix(h.wrote("s", "plain"), "NoNewPrivs:\t0")) // nothing rubs off on others
	h.is.True(!strings.Contains(h.wrote("s", "plain"), "0027"))
}

// TestLimitsThatCannotBeGiven has a limit fail: the process does not run
// without it.
func TestLimitsThatCannotBeGiven(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "stay")
	a.Restart, a.Limits = plugin.RestartNever, plugin.Limits{User: "no such user"}
	h.set("s", a)
	got := h.reaches("s", "a", plugin.Failed)
	h.is.True(strings.HasPrefix(got.Why, "start: "))
	h.is.Equal(got.PID, 0)
}

// TestAnotherUser has the process run as nobody, which takes root; others are
// told so.
func TestAnotherUser(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := plugin.Action{Name: "a", Kind: plugin.Oneshot, Command: []string{"/bin/sh", "-c", "id -un; pwd"}}
	a.Limits.User = "nobody"
	h.set("s", a)
	if os.Geteuid() != 0 {
		h.is.True(strings.Contains(h.reaches("s", "a", plugin.Failed).Why, "as root"))
		return
	}
	h.reaches("s", "a", plugin.Succeeded)
	h.is.Equal(h.wrote("s", "a"), "nobody\n/\n")
}
