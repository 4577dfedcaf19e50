package plugintest

import (
	"errors"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
)

// registering checks what Set does, and to what it does nothing.
var registering = map[string]func(*trial){
	"what is set is what one gets":                          (*trial).roundTrip,
	"an unknown service is not found":                       (*trial).unknown,
	"a set leaves alone what has been ready":                (*trial).setLeavesReady,
	"a set replaces what never was ready":                   (*trial).setReplacesNeverReady,
	"a set starts what is new and stops what is gone":       (*trial).setNewAndGone,
	"a set of what is not wanted starts nothing":            (*trial).setUnwanted,
	"a set runs a oneshot again that is registered anew":    (*trial).setOneshot,
	"a set of the same changes nothing":                     (*trial).setSame,
	"a set lets what failed for the old registration start": (*trial).setMends,
}

func (c *trial) roundTrip() {
	stay := c.stay("stay")
	stay.DependsOn, stay.Ready = []plugin.Dependency{"once"}, []ready.Probe{{Unix: c.file("s")}, {TCP: "127.0.0.1:1"}}
	stay.Restart, stay.RestartDelayMS, stay.RestartDelayMaxMS, stay.MaxRestarts = plugin.RestartOnFailure, 1, 2, 3
	stay.StabilityPeriodMS, stay.StopSignal, stay.StopTimeoutMS, stay.Drain, stay.StopDelayMS = 4, "INT", 5, true, 6
	once := oneshot(c.stay("once"))
	once.TimeoutMS, once.Restart = 7, plugin.RestartNever
	spec := c.spec(stay, once)
	spec.Description, spec.Version = "says what it is for", "1.2.3"
	spec.Ports, spec.Tags = map[string]int{"rpc": 1234}, map[string]string{"colour": "blue"}
	for range 2 {
		c.NoErr(c.Set(c.t.Context(), spec))
		got, status, err := c.Get(c.t.Context(), c.service)
		c.NoErr(err)
		c.Equal(got, spec)
		c.Equal(status.Name, c.service)
		c.Equal(status.Version, "1.2.3")
		c.Equal(status.Wanted, plugin.WantIgnore) // nobody has said yet
		c.Equal(status.State, plugin.Inactive)
		c.Equal(len(status.Actions), 2)
		c.Equal(status.Actions[0], plugin.ActionStatus{Name: "stay", State: plugin.Inactive, Why: status.Actions[0].Why})
		c.True(!status.Ready)
		c.True(!status.Alive())
	}
}

func (c *trial) unknown() {
	ctx := c.t.Context()
	_, _, err := c.Get(ctx, c.service)
	c.True(errors.Is(err, plugin.ErrNotFound))
	c.True(errors.Is(c.Start(ctx, c.service), plugin.ErrNotFound))
	c.True(errors.Is(c.Stop(ctx, c.service, false), plugin.ErrNotFound))
	c.True(errors.Is(c.Stop(ctx, c.service, true), plugin.ErrNotFound))
	c.True(errors.Is(c.Restart(ctx, c.service), plugin.ErrNotFound))
}

func (c *trial) setLeavesReady() {
	c.up(c.stay("a"), c.stay("b"))
	a, b := c.reaches("a", plugin.Running), c.reaches("b", plugin.Running)
	changed := c.shell("a", "echo changed >> said; exec sleep 100000")
	c.set(changed, c.stay("b"), oneshot(c.shell("new", "exit 0")))
	c.reaches("new", plugin.Succeeded) // by then the rest would have happened as well
	c.Equal(c.action("a").PID, a.PID)
	c.Equal(c.action("b").PID, b.PID)
	c.Equal(len(c.words("said")), 0)

	c.kill(a.PID) // now it next starts
	c.replaced("a", a.PID)
	c.says("said", 1)
	c.Equal(c.action("b").PID, b.PID)
}

func (c *trial) setReplacesNeverReady() {
	socket := c.file("s")
	c.listen("unix", socket)
	before, after := c.deaf("a"), c.stay("a")
	before.Drain, before.Ready = true, []ready.Probe{{Unix: c.file("nobody")}}
	after.Ready = []ready.Probe{{Unix: socket}}
	before.StopTimeoutMS = 100
	c.up(before)
	c.says("up", 1)
	first := c.reaches("a", plugin.Starting)
	c.True(first.Alive())

	c.set(after)
	second := c.replaced("a", first.PID)
	c.True(!runs(first.PID))
	c.Equal(second.Restarts, 0) // it has not failed
	c.until("it is ready", func() bool { return c.status().Ready })
}

func (c *trial) setNewAndGone() {
	c.up(c.stay("a"), c.stay("old"))
	a, old := c.reaches("a", plugin.Running), c.reaches("old", plugin.Running)
	c.set(c.stay("a"), c.stay("new"))
	c.reaches("new", plugin.Running)
	c.gone(old.PID)
	c.until("the old action has gone", func() bool { return len(c.status().Actions) == 2 })
	c.Equal(c.action("a").PID, a.PID)
	c.True(c.status().Ready)
}

func (c *trial) setUnwanted() {
	c.up(c.stay("a"))
	c.reaches("a", plugin.Running)
	c.stop()
	c.reaches("a", plugin.Inactive)
	c.set(c.shell("a", "echo a >> said"), c.shell("new", "echo new >> said"))
	status := c.status()
	c.Equal(status.Wanted, plugin.WantStop)
	c.Equal(status.State, plugin.Inactive)
	c.up(c.stay("a"), c.stay("new"))
	c.reaches("a", plugin.Running)
	c.reaches("new", plugin.Running)
	c.Equal(len(c.words("said")), 0)
}

func (c *trial) setOneshot() {
	c.up(oneshot(c.shell("once", "echo before >> said")), c.stay("a"))
	c.reaches("once", plugin.Succeeded)
	pid := c.reaches("a", plugin.Running).PID
	c.set(oneshot(c.shell("once", "echo after >> said")), c.stay("a"))
	c.Equal(c.says("said", 2), []string{"before", "after"})
	c.reaches("once", plugin.Succeeded)
	c.Equal(c.action("a").PID, pid)
}

func (c *trial) setSame() {
	spec := c.spec(oneshot(c.shell("once", "echo ran >> said")), c.stay("a"))
	c.NoErr(c.Set(c.t.Context(), spec))
	c.start()
	c.until("it is ready", func() bool { return c.status().Ready })
	before := c.status()
	for range 3 {
		c.NoErr(c.Set(c.t.Context(), spec))
	}
	c.Equal(c.status(), before)
	c.Equal(len(c.words("said")), 1)
}

func (c *trial) setMends() {
	c.up(oneshot(c.shell("once", "exit 1")))
	c.reaches("once", plugin.Failed)
	c.set(oneshot(c.shell("once", "exit 0")))
	c.reaches("once", plugin.Succeeded)
	c.until("it is ready", func() bool { return c.status().Ready })
}
