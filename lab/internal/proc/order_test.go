//go:build linux

package proc_test

import (
	"strings"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	h := up(t)
	db, fails := play("db", "stay"), oneshot(play("migrate", "exit", "3", "no"))
	db.Ready = onSocket(h.file("nobody"))
	any, running := play("any", "stay"), play("running", "stay")
	any.DependsOn, running.DependsOn = []plugin.Dependency{"migrate:completed"}, []plugin.Dependency{"db:running"}
	strict, proper := play("strict", "stay"), play("proper", "stay")
	strict.DependsOn, proper.DependsOn = []plugin.Dependency{"migrate:succeeded"}, []plugin.Dependency{"db:ready"}
	h.set("s", db, fails, any, running, strict, proper)
	h.reaches("s", "any", plugin.Running)
	h.reaches("s", "running", plugin.Running)
	h.is.Equal(h.action("s", "strict").Why, "waits for migrate, which failed: exited 3: no")
	h.is.True(strings.HasPrefix(h.action("s", "proper").Why, "waits for db, which is not"))
	h.is.Equal(h.action("s", "proper").State, plugin.WaitingDeps)
}

// TestServicesInOrder has web require db and come after cache.
func TestServicesInOrder(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	spec := func(name string, a plugin.Action) plugin.ServiceSpec {
		return plugin.ServiceSpec{Name: name, Actions: []plugin.Action{a}}
	}
	web := spec("web", play("serve", "drain", h.file("up"), h.file("done")))
	web.Requires, web.After = []string{"db"}, []string{"cache"}
	web.Actions[0].Drain = true
	h.touch("up")
	h.is.NoErr(h.Set(ctx, web))
	h.is.NoErr(h.Start(ctx, "web"))
	h.is.Equal(h.action("web", "serve").Why, "waits for service db, which is not registered")

	db := spec("db", play("serve", "stay"))
	db.After = []string{"web"}
	err := h.Set(ctx, db)
	h.is.True(err != nil && strings.Contains(err.Error(), "cycle db -> web -> db"))
	db.After, db.Actions[0].Ready = nil, onSocket(h.file("db"))
	h.is.NoErr(h.Set(ctx, db))
	h.is.Equal(h.action("web", "serve").Why, "waits for service db, which is not to run: start it")
	h.is.NoErr(h.Start(ctx, "web")) // and what it requires, which nobody has stopped
	h.reaches("db", "serve", plugin.Starting)
	h.is.Equal(h.action("web", "serve").Why, "waits for service db, which is not ready")
	listen(t, h.file("db"))
	h.reaches("web", "serve", plugin.Running) // cache is not wanted
	h.says("web", "serve", "up", 1)

	h.is.NoErr(h.Shutdown(ctx, false))
	h.says("web", "serve", "TERM", 1)
	h.is.Equal(h.action("db", "serve").State, plugin.Running) // it is needed yet
	h.touch("done")
}

func TestExplicitStopIsNotOverridden(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	h.set("db", play("serve", "stay"))
	h.reaches("db", "serve", plugin.Running)
	h.is.NoErr(h.Stop(ctx, "db", false))
	h.reaches("db", "serve", plugin.Inactive)
	h.is.NoErr(h.Set(ctx, plugin.ServiceSpec{Name: "web", Requires: []string{"db"}, Actions: []plugin.Action{play("serve", "stay")}}))
	h.is.NoErr(h.Start(ctx, "web"))
	h.is.Equal(h.action("web", "serve").Why, "waits for service db, which is not to run: start it")
	h.is.Equal(h.action("db", "serve").State, plugin.Inactive)
}

func TestIgnoredServiceIsLeftToItself(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	h.set("s", play("a", "stay"))
	pid := h.reaches("s", "a", plugin.Running).PID
	h.is.NoErr(h.Ignore(ctx, "s"))
	h.is.Equal(h.action("s", "a").PID, pid)
	h.is.NoErr(h.Kill(ctx, "s", "a"))
	h.is.True(strings.HasPrefix(h.reaches("s", "a", plugin.Failed).Why, "killed on request"))
	h.is.NoErr(h.Start(ctx, "s"))
	h.reaches("s", "a", plugin.Running)
}
