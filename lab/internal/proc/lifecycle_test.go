//go:build linux

package proc_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

func TestGating(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	media, backend := play("media", "stay"), play("backend", "stay")
	media.DependsOn, backend.DependsOn = []plugin.Dependency{"configure"}, []plugin.Dependency{"configure"}
	h.set("livekit", oneshot(play("configure", "gate", h.file("gate"))), media, backend)

	h.reaches("livekit", "configure", plugin.Failed)
	a := h.action("livekit", "media")
	h.is.Equal(a.State, plugin.WaitingDeps)
	h.is.Equal(a.Why, "waits for configure, which failed: exited 1: cannot configure: no gate")
	h.is.Equal(a.PID, 0)
	why, err := h.Why(ctx, "livekit")
	h.is.NoErr(err)
	h.is.True(strings.Contains(why, "no gate"))

	h.touch("gate")
	h.is.NoErr(h.Start(ctx, "livekit"))
	media1 := h.reaches("livekit", "media", plugin.Running)
	backend1 := h.reaches("livekit", "backend", plugin.Running)
	_, status, err := h.Get(ctx, "livekit")
	h.is.NoErr(err)
	h.is.True(status.Ready)
	h.is.Equal(status.State, plugin.Running)
	h.is.Equal(*status.Action("configure").ExitCode, 0)

	h.is.NoErr(h.Start(ctx, "livekit")) // starting what is up changes nothing
	h.is.Equal(h.action("livekit", "media").PID, media1.PID)
	h.is.Equal(h.action("livekit", "backend").PID, backend1.PID)
	jobs, err := h.Jobs(ctx, "livekit")
	h.is.NoErr(err)
	h.is.Equal(len(jobs), 3)
}

func TestWaitsForReadiness(t *testing.T) {
	t.Parallel()
	h := up(t)
	socket := h.file("s")
	db, web := play("db", "stay"), play("web", "stay")
	db.Ready, web.DependsOn = onSocket(socket), []plugin.Dependency{"db"}
	h.set("shop", db, web)
	h.reaches("shop", "db", plugin.Starting)
	h.until("the reason is told", func() bool {
		return strings.Contains(h.action("shop", "web").Why, "waits for db, which is not ready: unix")
	})
	h.is.Equal(h.action("shop", "web").State, plugin.WaitingDeps)
	l := listen(t, socket)
	h.reaches("shop", "web", plugin.Running)
	h.is.True(h.action("shop", "db").Ready)

	h.is.NoErr(l.Close())
	h.is.NoErr(ignoreNotExist(os.Remove(socket)))
	h.until("db is not ready any more", func() bool { return !h.action("shop", "db").Ready })
	a := h.action("shop", "db")
	h.is.Equal(a.State, plugin.Running) // it runs, which is not the same
	h.is.True(strings.HasPrefix(a.Why, "not ready: unix"))
	listen(t, socket)
	h.until("db is ready again", func() bool { return h.action("shop", "db").Ready })
}

func TestUnaskedExitIsAFailure(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.is.NoErr(h.CreateSecret(t.Context(), "livekit", "secret", "a-very-long-secret"))
	a := play("media", "exit", "0", "\x1b[31mcould not parse config:\x1b[0m a-very-long-secret eyJhbGciOiJI.eyJzdWIi.c2ln access_token=abc&x=1")
	a.MaxRestarts, a.RestartDelayMS = 3, 1
	h.set("livekit", a)
	got := h.reaches("livekit", "media", plugin.Failed)
	h.is.Equal(got.Restarts, 3)
	h.is.Equal(*got.ExitCode, 0)
	h.is.Equal(got.Why, "exited 0 though it should run: could not parse config: [redacted] [redacted] access_token=[redacted]&x=1 (given up after 3 restarts)")

	lines, err := h.Logs(t.Context(), "livekit", "media", 2)
	h.is.NoErr(err)
	h.is.Equal(lines, []string{"could not parse config: [redacted] [redacted] access_token=[redacted]&x=1", ""})
}

func TestRestartPolicies(t *testing.T) {
	t.Parallel()
	h := up(t)
	never := play("never", "exit", "7", "bye")
	never.Restart = plugin.RestartNever
	once := oneshot(play("once", "exit", "4", "no"))
	retried := oneshot(play("retried", "gate", h.file("gate")))
	retried.Restart, retried.RestartDelayMS = plugin.RestartOnFailure, 5
	slow := oneshot(play("slow", "stay"))
	slow.TimeoutMS = 50
	missing := plugin.Action{Name: "missing", Command: []string{"/does/not/exist"}, Restart: plugin.RestartNever}
	h.set("s", never, once, retried, slow, missing)

	got := h.reaches("s", "never", plugin.Failed)
	h.is.Equal(got.Why, "exited 7: bye")
	h.is.Equal(*got.ExitCode, 7)
	h.is.Equal(h.reaches("s", "once", plugin.Failed).Why, "exited 4: no")
	h.is.True(strings.HasPrefix(h.reaches("s", "slow", plugin.Failed).Why, "did not end within 50ms, killed by SIGKILL"))
	h.is.True(strings.Contains(h.reaches("s", "missing", plugin.Failed).Why, "no such file"))
	h.until("it is tried again", func() bool { return h.action("s", "retried").Restarts > 1 })
	h.touch("gate")
	h.reaches("s", "retried", plugin.Succeeded)
}

func TestKilledProcessComesBack(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.set("s", play("a", "stay"))
	first := h.reaches("s", "a", plugin.Running)
	h.is.NoErr(syscall.Kill(first.PID, syscall.SIGKILL))
	h.until("there is another", func() bool {
		a := h.action("s", "a")
		return a.State == plugin.Running && a.PID != first.PID
	})
	a := h.action("s", "a")
	h.is.Equal(a.Restarts, 1)
	h.is.Equal(a.ExitCode, nil) // it was a signal
	jobs, err := h.Jobs(t.Context(), "")
	h.is.NoErr(err)
	h.is.Equal(jobs[0].Signal, "SIGKILL")

	h.is.NoErr(h.Kill(t.Context(), "s", "a"))
	h.until("there is a third", func() bool { return h.action("s", "a").Restarts == 2 })
}

func TestStopAndRestart(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	base, top := play("base", "stay"), play("top", "drain", h.file("up"), h.file("done"))
	top.DependsOn, top.Drain = []plugin.Dependency{"base", "configure"}, true
	h.touch("up")
	h.set("s", oneshot(play("configure", "exit", "0", "configured")), base, top)
	h.reaches("s", "top", plugin.Running)
	h.says("s", "top", "up", 1)
	basePID := h.action("s", "base").PID

	h.is.NoErr(h.Restart(ctx, "s"))
	h.says("s", "top", "TERM", 1)
	a := h.action("s", "base")
	h.is.Equal(a.State, plugin.Stopping) // held until its dependent has gone
	h.is.Equal(a.PID, basePID)
	h.is.True(strings.Contains(a.Why, "top"))
	h.touch("done")
	h.until("base is another", func() bool {
		a := h.action("s", "base")
		return a.State == plugin.Running && a.PID != basePID
	})
	h.reaches("s", "top", plugin.Running)
	h.says("s", "configure", "configured", 2) // oneshots run anew

	h.is.NoErr(h.Stop(ctx, "s", false))
	h.reaches("s", "base", plugin.Inactive)
	_, status, err := h.Get(ctx, "s")
	h.is.NoErr(err)
	h.is.Equal(status.Wanted, plugin.WantStop)
	h.is.True(!status.Alive())
	h.is.Equal(status.State, plugin.Inactive)
}

func TestSetTouchesNoProcessThatWasReady(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	h.set("s", play("a", "stay"), play("gone", "stay"))
	pid := h.reaches("s", "a", plugin.Running).PID
	gone := h.reaches("s", "gone", plugin.Running).PID
	changed := play("a", "exit", "5", "changed")
	changed.Restart = plugin.RestartNever
	h.is.NoErr(h.Set(ctx, plugin.ServiceSpec{Name: "s", Actions: []plugin.Action{changed, play("new", "stay")}}))
	h.reaches("s", "new", plugin.Running) // a new action of a wanted service starts
	h.until("the action that is registered no more has gone", func() bool {
		_, status, err := h.Get(ctx, "s")
		return err == nil && len(status.Actions) == 2
	})
	h.is.True(!runs(gone))
	h.is.Equal(h.action("s", "a").PID, pid) // a changed one goes on as it is
	h.is.NoErr(h.Restart(ctx, "s"))
	h.is.Equal(h.reaches("s", "a", plugin.Failed).Why, "exited 5: changed")

	h.is.NoErr(h.SetAction(ctx, "s", play("a", "stay")))
	h.is.NoErr(h.Start(ctx, "s"))
	h.reaches("s", "a", plugin.Running)

	h.is.NoErr(h.Delete(ctx, "s", false))
	h.until("the service has gone", func() bool {
		_, _, err := h.Get(ctx, "s")
		return errors.Is(err, plugin.ErrNotFound)
	})
	list, err := h.List(ctx)
	h.is.NoErr(err)
	h.is.Equal(len(list), 0)
	h.is.True(errors.Is(h.Start(ctx, "s"), plugin.ErrNotFound))
}

// TestSetReplacesWhatWasNeverReady has a process wait for what its action does
// not want any more.
func TestSetReplacesWhatWasNeverReady(t *testing.T) {
	t.Parallel()
	h := up(t)
	socket := h.file("s")
	listen(t, socket)
	spec := func(configured, socket string) plugin.ServiceSpec {
		media := play("media", "drain", h.file("up"), h.file("done"))
		media.DependsOn, media.Drain, media.Ready = []plugin.Dependency{"configure"}, true, onSocket(socket)
		return plugin.ServiceSpec{Name: "s", Actions: []plugin.Action{media, oneshot(play("configure", "exit", "0", configured))}}
	}
	h.touch("up")
	h.is.NoErr(h.Set(t.Context(), spec("before", h.file("nobody"))))
	h.is.NoErr(h.Start(t.Context(), "s"))
	h.says("s", "media", "up", 1)
	first := h.reaches("s", "media", plugin.Starting)

	h.is.NoErr(h.Set(t.Context(), spec("after", socket)))
	second := h.reaches("s", "media", plugin.Running)
	h.is.True(second.PID != first.PID)
	h.is.True(!runs(first.PID))
	h.is.Equal(second.Restarts, 0) // it has not failed
	h.says("s", "configure", "after", 1)

	h.is.NoErr(h.Set(t.Context(), spec("again", h.file("nobody"))))
	h.says("s", "configure", "again", 1)
	h.is.Equal(h.action("s", "media").PID, second.PID) // it has been ready
	h.touch("done")
}

// TestOneshotRegisteredWhileItRuns runs again as it is registered by then.
func TestOneshotRegisteredWhileItRuns(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.set("s", oneshot(play("configure", "await", h.file("go"), "0", "before")))
	h.reaches("s", "configure", plugin.Running)
	h.is.NoErr(h.SetAction(t.Context(), "s", oneshot(play("configure", "exit", "0", "after"))))
	h.touch("go")
	h.says("s", "configure", "before", 1)
	h.says("s", "configure", "after", 1)
	h.reaches("s", "configure", plugin.Succeeded)
}

func TestDeletedIsToldUntilItHasGone(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "drain", h.file("up"), h.file("done"))
	a.Drain = true
	h.touch("up")
	h.set("s", a)
	h.says("s", "a", "up", 1)
	h.is.NoErr(h.Delete(t.Context(), "s", false))
	_, status, err := h.Get(t.Context(), "s")
	h.is.NoErr(err)
	h.is.True(status.Deleting)
	h.touch("done")
	h.until("it has gone", func() bool { _, _, err := h.Get(t.Context(), "s"); return errors.Is(err, plugin.ErrNotFound) })
}
