//go:build linux

package proc_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
)

func TestReadyWhenAProgramSaysSo(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "stay")
	a.Env["WORD"] = "secret-word"
	a.Ready = []ready.Probe{{Exec: []string{"/bin/sh", "-c", `test -e ` + h.file("go") + ` || { echo "no $WORD"; exit 4; }`}}}
	h.is.NoErr(h.CreateSecret(t.Context(), "s", "word", "secret-word"))
	h.set("s", a)
	h.until("it says why", func() bool {
		return h.action("s", "a").Why == "not ready: exec /bin/sh: exit status 4: no [redacted]"
	})
	h.touch("go")
	h.reaches("s", "a", plugin.Running)
}

func TestReadyWhenALineIsWritten(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "drain", h.file("go"), h.file("done"))
	a.Ready = []ready.Probe{{Log: "^u[p]$"}}
	h.set("s", a)
	h.until("it says why", func() bool {
		return h.action("s", "a").Why == "not ready: log ^u[p]$: no line of the output matches"
	})
	h.touch("go")
	first := h.reaches("s", "a", plugin.Running)
	h.kill(h.info().PID)
	h.until("it is ready under the next supervisor", func() bool { return h.action("s", "a").Ready })
	h.is.Equal(h.action("s", "a").PID, first.PID)

	h.is.NoErr(os.Remove(h.file("go"))) // the next process has not written it
	h.kill(first.PID)
	h.until("there is another", func() bool { a := h.action("s", "a"); return a.PID != 0 && a.PID != first.PID })
	h.is.Equal(h.action("s", "a").State, plugin.Starting)
	h.touch("done")
}

// TestReadyWhenNotified has the process say that it is ready while there is no
// supervisor: what it said waits for the next.
func TestReadyWhenNotified(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "notify", h.file("go"))
	a.Ready = []ready.Probe{{Notify: true}}
	deaf := play("deaf", "show")
	deaf.Kind = plugin.Oneshot
	h.set("s", a, deaf)
	h.until("it says what it is at", func() bool {
		return h.action("s", "a").Why == "not ready: notify: the process has not said READY=1; it says: warming up"
	})
	keeper := h.info().KeeperPID
	h.is.NoErr(syscall.Kill(keeper, syscall.SIGSTOP)) // so that there is no next supervisor yet
	h.kill(h.info().PID)
	h.touch("go")
	h.until("it has said it", func() bool { return strings.Contains(h.wrote("s", "a"), "notified") })
	h.is.NoErr(syscall.Kill(keeper, syscall.SIGCONT))
	h.reaches("s", "a", plugin.Running)
	h.kill(h.info().KeeperPID) // the supervisor takes the keeper's place, and the socket with it
	h.until("it is ready under the next supervisor", func() bool { return h.action("s", "a").Ready })
	h.is.True(!strings.Contains(h.wrote("s", "deaf"), "NOTIFY_SOCKET")) // only who declares it gets one
}

func TestNotReadyInTimeIsAFailure(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "stay")
	a.Ready, a.StartTimeoutMS, a.Restart = onSocket(h.file("nobody")), 100, plugin.RestartNever
	h.set("s", a)
	got := h.reaches("s", "a", plugin.Failed)
	h.is.True(strings.HasPrefix(got.Why, "was not ready within 100ms, killed by SIGKILL"))
}

func TestUnhealthyIsRestarted(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "stay")
	a.Health = []ready.Probe{{Exec: []string{"/bin/sh", "-c", "! test -e " + h.file("sick")}}}
	a.ProbeIntervalMS, a.FailureThreshold, a.MaxRestarts, a.RestartDelayMS = 10, 2, 2, 1
	h.set("s", a)
	first := h.reaches("s", "a", plugin.Running)
	h.touch("sick")
	got := h.reaches("s", "a", plugin.Failed)
	h.is.True(strings.HasPrefix(got.Why, "health check failed: exec /bin/sh: exit status 1, killed by SIGKILL"))
	h.is.True(strings.HasSuffix(got.Why, "(given up after 2 restarts)"))
	h.is.NoErr(os.Remove(h.file("sick")))
	h.is.NoErr(h.Start(t.Context(), "s"))
	h.is.True(h.reaches("s", "a", plugin.Running).PID != first.PID)
}

func TestReadyAfterSoManyLooks(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "stay")
	looks := h.file("looks")
	a.Ready = []ready.Probe{{Exec: []string{"/bin/sh", "-c", "echo >> " + looks}}}
	a.SuccessThreshold = 3
	h.set("s", a)
	h.reaches("s", "a", plugin.Running)
	b, err := os.ReadFile(looks)
	h.is.NoErr(err)
	h.is.True(len(b) >= 3)
}

// TestHealthIsLookedAtOnce restarts a process and sees who is looked at: nobody
// looks at the health of one that has gone.
func TestHealthIsLookedAtOnce(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "stay")
	looks := h.file("looks")
	a.Ready = onSocket(h.file("s"))
	listen(t, h.file("s"))
	a.Health = []ready.Probe{{Exec: []string{"/bin/sh", "-c", "echo $HERO_PROC_JOB >> " + looks}}}
	a.ProbeIntervalMS = 10
	h.set("s", a)
	of := func() (job string, seen int) {
		jobs, err := h.Jobs(t.Context(), "s")
		h.is.NoErr(err)
		b, _ := os.ReadFile(looks) // none yet
		return jobs[0].ID, strings.Count(string(b), jobs[0].ID)
	}
	first := ""
	seen := func() bool { job, n := of(); return job != first && n > 10 }
	h.until("the first is looked at", seen)
	first, _ = of()
	h.is.NoErr(h.Kill(t.Context(), "s", "a"))
	h.until("the second is looked at", seen)
	b, err := os.ReadFile(looks)
	h.is.NoErr(err)
	lines := strings.Fields(string(b))
	for _, job := range lines[len(lines)-5:] {
		h.is.True(job != first)
	}
}
