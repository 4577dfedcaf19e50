package plugintest

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// stopping checks how actions end.
var stopping = map[string]func(*trial){
	"what depends on others stops before them":       (*trial).stopOrder,
	"a process ends by its stop signal":              (*trial).stopSignal,
	"a deaf process is killed after its grace":       (*trial).stopDeaf,
	"nothing that a process started is left":         (*trial).stopStrays,
	"nothing that a crashed process started is left": (*trial).crashStrays,
	"a drain waits and force ends it":                (*trial).drain,
	"a process gets one stop signal only":            (*trial).oneSignal,
	"a stop signal waits for its delay":              (*trial).stopDelay,
	"a stop ends what waits and what is tried again": (*trial).stopWaiting,
	"a stop of what is down does nothing":            (*trial).stopAgain,
	"a start while it stops starts it anew":          (*trial).startWhileStopping,
	"a restart starts everything anew":               (*trial).restart,
	"a restart of what is down starts it":            (*trial).restartDown,
}

func (c *trial) stopOrder() {
	base, middle, top := c.heed("base", 0), c.heed("middle", 0), c.heed("top", 3)
	middle.DependsOn, top.DependsOn = []plugin.Dependency{"base"}, []plugin.Dependency{"middle"}
	c.up(top, base, middle)
	c.says("up", 3)
	c.until("it is ready", func() bool { return c.status().Ready })
	before := c.status()
	c.stop()
	c.Equal(c.says("term", 1), []string{"top"})
	now := c.status()
	for _, name := range []string{"base", "middle", "top"} {
		c.Equal(now.Action(name).State, plugin.Stopping)
		c.Equal(now.Action(name).PID, before.Action(name).PID)
	}
	c.Equal(now.State, plugin.Stopping)
	c.True(!now.Ready)
	c.Equal(c.words("term"), []string{"top"})
	c.touch("done")
	c.until("it is down", func() bool { return c.status().State == plugin.Inactive })
	c.Equal(c.words("term"), []string{"top", "middle", "base"})
	c.Equal(*c.action("top").ExitCode, 3)
	c.Equal(*c.action("base").ExitCode, 0)
}

func (c *trial) stopSignal() {
	a := c.shell("a", `trap 'echo USR1 >> said; exit 0' USR1; trap 'echo TERM >> said' TERM; echo up >> up; while :; do sleep 0.02; done`)
	a.StopSignal = "USR1"
	c.up(a)
	c.says("up", 1)
	c.reaches("a", plugin.Running)
	c.stop()
	c.reaches("a", plugin.Inactive)
	c.Equal(c.words("said"), []string{"USR1"})
}

func (c *trial) stopDeaf() {
	a := c.deaf("a")
	a.StopTimeoutMS = 200
	c.up(a)
	c.says("up", 1)
	pid := c.reaches("a", plugin.Running).PID
	c.stop()
	got := c.reaches("a", plugin.Inactive)
	c.True(!runs(pid))
	c.Equal(got.ExitCode, nil)
}

// brood is a script that starts relatives of several kinds of loyalty, all of
// them deaf, and writes their PIDs to a file.
const brood = `
	leaf='trap "" TERM INT HUP; echo $$ >> pids; exec sleep 100000'
	sh -c "$leaf" &
	setsid sh -c "$leaf" &
	setsid sh -c "sh -c '$leaf' & sh -c '$leaf' &" &
	while [ "$(wc -l < pids)" -lt 4 ]; do sleep 0.02; done`

// relatives waits for the brood of an action and returns it.
func (c *trial) relatives() []int {
	c.t.Helper()
	var pids []int
	for _, word := range c.says("pids", 4) {
		pid, err := strconv.Atoi(word)
		c.NoErr(err)
		pids = append(pids, pid)
	}
	return pids
}

// allGone checks that none of the processes is left.
func (c *trial) allGone(pids []int) {
	c.t.Helper()
	c.Equal(len(pids), 4)
	if i := slices.IndexFunc(pids, runs); i >= 0 {
		c.t.Errorf("relative %d of the process is left", i)
	}
}

func (c *trial) stopStrays() {
	c.touch("pids")
	a := c.shell("a", brood+"\ntrap 'exit 0' TERM\n echo up >> up; while :; do sleep 0.02; done")
	a.StopTimeoutMS = 1000
	c.up(a)
	c.says("up", 1)
	pids := c.relatives()
	c.reaches("a", plugin.Running)
	c.stop()
	c.reaches("a", plugin.Inactive)
	c.allGone(pids)
}

func (c *trial) crashStrays() {
	for _, code := range []int{0, 3} {
		c.NoErr(c.Stop(c.t.Context(), c.fresh("pids"), true))
		a := c.shell("a", brood+fmt.Sprintf("\nexit %d", code))
		a.Restart = plugin.RestartNever
		c.up(a)
		got := c.reaches("a", plugin.Failed)
		c.Equal(*got.ExitCode, code)
		c.allGone(c.relatives())
	}
}

// fresh empties a file and registers the service with nothing in it.
func (c *trial) fresh(name string) string {
	c.t.Helper()
	c.touch(name)
	c.set()
	return c.service
}

func (c *trial) drain() {
	call, clock := c.heed("call", 0), c.deaf("clock")
	call.Drain, call.StopTimeoutMS, clock.StopTimeoutMS = true, 200, 400
	c.up(call, clock)
	c.says("up", 2)
	c.until("it is ready", func() bool { return c.status().Ready })
	pid := c.action("call").PID
	c.stop()
	c.says("term", 1)
	c.reaches("clock", plugin.Inactive) // so its own grace would be over
	now := c.action("call")
	c.Equal(now.State, plugin.Stopping)
	c.Equal(now.PID, pid)
	c.True(now.Why != "")

	c.NoErr(c.Stop(c.t.Context(), c.service, true))
	c.reaches("call", plugin.Inactive)
	c.True(!runs(pid))
	c.Equal(c.words("term"), []string{"call"})

	c.start() // force does not last
	again := c.replaced("call", pid)
	c.says("up", 4)
	c.until("it is ready", func() bool { return c.status().Ready })
	c.stop()
	c.says("term", 2)
	c.touch("done")
	c.reaches("call", plugin.Inactive)
	c.True(!runs(again.PID))
	c.Equal(*c.action("call").ExitCode, 0)
}

func (c *trial) oneSignal() {
	a := c.heed("a", 0)
	a.Drain = true
	c.up(a)
	c.says("up", 1)
	c.until("it is ready", func() bool { return c.status().Ready })
	for range 5 {
		c.stop()
	}
	c.says("term", 1)
	c.stop()
	c.touch("done")
	c.reaches("a", plugin.Inactive)
	c.Equal(len(c.words("term")), 1)
}

func (c *trial) stopDelay() {
	const delay = 700 * time.Millisecond
	a := c.shell("a", `trap 'date +%s%N >> said; exit 0' TERM; echo up >> up; while :; do sleep 0.02; done`)
	a.StopDelayMS = int(delay.Milliseconds())
	c.up(a)
	c.says("up", 1)
	started, err := time.Parse(time.RFC3339, c.reaches("a", plugin.Running).StartedAt)
	c.NoErr(err)
	c.stop()
	c.reaches("a", plugin.Inactive)
	said, err := strconv.ParseInt(c.says("said", 1)[0], 10, 64)
	c.NoErr(err)
	c.True(time.Unix(0, said).Sub(started) >= delay-50*time.Millisecond) // clocks of the kernel are coarse
}

func (c *trial) stopWaiting() {
	broken, after := c.shell("broken", "exit 1"), c.stay("after")
	broken.RestartDelayMS, broken.RestartDelayMaxMS, after.DependsOn = 100_000, 100_000, []plugin.Dependency{"once"}
	c.up(broken, after, oneshot(c.stay("once")))
	c.reaches("broken", plugin.Restarting)
	c.reaches("after", plugin.WaitingDeps)
	c.until("the oneshot runs", func() bool { return c.action("once").Alive() })
	c.stop()
	for _, name := range []string{"broken", "after", "once"} {
		c.True(!c.reaches(name, plugin.Inactive).Alive())
	}
	c.Equal(c.status().State, plugin.Inactive)
}

func (c *trial) stopAgain() {
	c.set(c.stay("a"))
	c.NoErr(c.Stop(c.t.Context(), c.service, false))
	before := c.status()
	for _, force := range []bool{false, true, false} {
		c.NoErr(c.Stop(c.t.Context(), c.service, force))
	}
	c.Equal(c.status(), before)
	c.start()
	c.reaches("a", plugin.Running)
}

func (c *trial) startWhileStopping() {
	a := c.heed("a", 0)
	a.Drain = true
	c.up(a)
	c.says("up", 1)
	c.until("it is ready", func() bool { return c.status().Ready })
	pid := c.action("a").PID
	c.stop()
	c.says("term", 1)
	c.start()
	now := c.status()
	c.Equal(now.Wanted, plugin.WantStart)
	c.Equal(now.Action("a").State, plugin.Stopping) // its signal cannot be taken back
	c.Equal(now.Action("a").PID, pid)
	c.touch("done")
	c.Equal(c.replaced("a", pid).Restarts, 0)
}

func (c *trial) restart() {
	once, base, top := oneshot(c.shell("once", "echo ran >> said")), c.heed("base", 0), c.heed("top", 0)
	base.DependsOn, top.DependsOn = []plugin.Dependency{"once"}, []plugin.Dependency{"base"}
	c.touch("done")
	c.up(once, base, top)
	c.says("up", 2)
	c.until("it is ready", func() bool { return c.status().Ready })
	before := c.status()
	c.NoErr(c.Restart(c.t.Context(), c.service))
	c.replaced("base", before.Action("base").PID)
	c.replaced("top", before.Action("top").PID)
	c.until("it is ready", func() bool { return c.status().Ready })
	c.Equal(c.words("term"), []string{"top", "base"})
	c.says("up", 4)
	c.Equal(len(c.words("said")), 2)
	c.Equal(c.action("top").Restarts, 0)
}

func (c *trial) restartDown() {
	c.set(c.stay("a"))
	c.NoErr(c.Restart(c.t.Context(), c.service))
	c.reaches("a", plugin.Running)
	c.Equal(c.status().Wanted, plugin.WantStart)
}
