package plugintest

import (
	"net"
	"strings"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
)

// living checks how actions start, get ready, and come back.
var living = map[string]func(*trial){
	"a oneshot that fails holds those that depend on it": (*trial).gate,
	"a probe of a unix socket says what is ready":        (*trial).probeUnix,
	"a probe of a tcp port says what is ready":           (*trial).probeTCP,
	"all probes have to pass":                            (*trial).allProbes,
	"a killed process comes back":                        (*trial).comesBack,
	"an exit of a process is a failure":                  (*trial).unaskedExit,
	"what is never restarted is not":                     (*trial).neverRestarted,
	"a oneshot is tried again on failure":                (*trial).retried,
	"a oneshot that takes too long is killed":            (*trial).timeout,
	"a program that is not there fails":                  (*trial).missing,
	"starting what is up does nothing":                   (*trial).startAgain,
	"starting what has failed tries again":               (*trial).startFailed,
	"starting runs oneshots anew when all is down":       (*trial).startAnew,
	"the state is told in every detail":                  (*trial).details,
}

func (c *trial) gate() {
	configure := oneshot(c.shell("configure", "echo ran >> said; [ -e gate ]"))
	media, backend := c.stay("media"), c.stay("backend")
	media.DependsOn, backend.DependsOn = []plugin.Dependency{"configure"}, []plugin.Dependency{"configure"}
	c.up(media, configure, backend)
	failed := c.reaches("configure", plugin.Failed)
	c.Equal(*failed.ExitCode, 1)
	for _, name := range []string{"media", "backend"} {
		held := c.reaches(name, plugin.WaitingDeps)
		c.True(!held.Alive())
		c.True(strings.Contains(held.Why, "configure"))
		c.Equal(held.StartedAt, "")
	}
	status := c.status()
	c.Equal(status.State, plugin.Failed)
	c.True(!status.Ready)

	c.touch("gate")
	c.start()
	c.reaches("media", plugin.Running)
	c.reaches("backend", plugin.Running)
	c.until("it is ready", func() bool { return c.status().Ready })
	c.Equal(c.status().State, plugin.Running)
	done := c.action("configure")
	c.Equal(done.State, plugin.Succeeded)
	c.True(done.Ready)
	c.True(!done.Alive())
	c.Equal(*done.ExitCode, 0)
	c.Equal(len(c.words("said")), 2)
}

func (c *trial) probeUnix() {
	socket := c.file("s")
	c.probe(ready.Probe{Unix: socket}, func() net.Listener { return c.listen("unix", socket) })
}

func (c *trial) probeTCP() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	c.NoErr(err)
	address := l.Addr().String()
	c.NoErr(l.Close())
	c.probe(ready.Probe{TCP: address}, func() net.Listener { return c.listen("tcp", address) })
}

func (c *trial) probe(probe ready.Probe, listen func() net.Listener) {
	db, web := c.stay("db"), c.stay("web")
	db.Ready, web.DependsOn = []ready.Probe{probe}, []plugin.Dependency{"db"}
	c.up(web, db)
	var first plugin.ActionStatus
	c.until("db has a process", func() bool { first = c.action("db"); return first.Alive() })
	c.Equal(c.reaches("db", plugin.Starting).Ready, false)
	held := c.reaches("web", plugin.WaitingDeps)
	c.True(!held.Alive())
	c.True(strings.Contains(held.Why, "db"))
	c.True(!c.status().Ready)

	l := listen()
	c.reaches("web", plugin.Running)
	c.until("it is ready", func() bool { return c.status().Ready })
	web1 := c.action("web")
	c.NoErr(l.Close())
	c.until("db is not ready any more", func() bool { return !c.action("db").Ready })
	now := c.status()
	c.True(!now.Ready)
	c.Equal(now.Action("db").State, plugin.Running) // it runs, and has been ready
	c.Equal(now.Action("db").PID, first.PID)
	c.True(now.Action("db").Why != "")
	c.Equal(now.Action("web").PID, web1.PID)
	listen()
	c.until("it is ready again", func() bool { return c.status().Ready })
}

func (c *trial) allProbes() {
	a := c.stay("a")
	a.Ready = []ready.Probe{{Unix: c.file("one")}, {Unix: c.file("two")}}
	c.listen("unix", c.file("one"))
	c.up(a)
	c.until("it waits for the second", func() bool { return strings.Contains(c.action("a").Why, c.file("two")) })
	c.True(!c.status().Ready)
	c.listen("unix", c.file("two"))
	c.until("it is ready", func() bool { return c.status().Ready })
}

func (c *trial) comesBack() {
	c.up(c.stay("a"), c.stay("b"))
	b := c.reaches("b", plugin.Running)
	pid := c.reaches("a", plugin.Running).PID
	for restarts := 1; restarts <= 2; restarts++ {
		c.kill(pid)
		now := c.replaced("a", pid)
		c.Equal(now.Restarts, restarts)
		c.Equal(now.ExitCode, nil) // it was a signal
		pid = now.PID
	}
	c.Equal(c.action("b"), b)
}

func (c *trial) unaskedExit() {
	a := c.shell("a", "echo ran >> said; exit 0")
	a.MaxRestarts, a.RestartDelayMS = 2, 1
	c.up(a)
	got := c.reaches("a", plugin.Failed)
	c.Equal(got.Restarts, 2)
	c.Equal(*got.ExitCode, 0)
	c.True(got.Why != "")
	c.True(!got.Alive())
	c.Equal(len(c.words("said")), 3)
}

func (c *trial) neverRestarted() {
	never, once := c.shell("never", "echo ran >> said; exit 7"), oneshot(c.shell("once", "echo ran >> said; exit 8"))
	never.Restart = plugin.RestartNever
	c.up(never, once)
	for name, code := range map[string]int{"never": 7, "once": 8} {
		got := c.reaches(name, plugin.Failed)
		c.Equal(*got.ExitCode, code)
		c.Equal(got.Restarts, 0)
		c.True(got.Why != "")
		c.True(!got.Ready)
	}
	c.Equal(len(c.words("said")), 2)
}

func (c *trial) retried() {
	once := oneshot(c.shell("once", "[ -e gate ]"))
	once.Restart, once.RestartDelayMS, once.RestartDelayMaxMS = plugin.RestartOnFailure, 5, 20
	c.up(once)
	c.until("it is tried again", func() bool { return c.action("once").Restarts > 1 })
	c.touch("gate")
	c.reaches("once", plugin.Succeeded)
	c.True(c.status().Ready)
}

func (c *trial) timeout() {
	slow := oneshot(c.deaf("slow"))
	slow.TimeoutMS = 300
	c.up(slow)
	var pid int
	c.until("it runs", func() bool { pid = c.action("slow").PID; return pid != 0 })
	got := c.reaches("slow", plugin.Failed)
	c.True(got.Why != "")
	c.Equal(got.ExitCode, nil)
	c.True(!runs(pid))
}

func (c *trial) missing() {
	a, after := c.stay("a"), c.stay("after")
	a.Command, a.Restart, after.DependsOn = []string{c.file("none")}, plugin.RestartNever, []plugin.Dependency{"a"}
	c.up(a, after)
	c.True(c.reaches("a", plugin.Failed).Why != "")
	c.reaches("after", plugin.WaitingDeps)
}

func (c *trial) startAgain() {
	once, a := oneshot(c.shell("once", "echo ran >> said")), c.stay("a")
	a.DependsOn = []plugin.Dependency{"once"}
	c.up(once, a)
	c.until("it is ready", func() bool { return c.status().Ready })
	before := c.status()
	for range 3 {
		c.start()
	}
	c.Equal(c.status(), before)
	c.Equal(len(c.words("said")), 1)
}

func (c *trial) startFailed() {
	a := c.shell("a", "[ -e gate ] && exec sleep 100000")
	a.Restart = plugin.RestartNever
	c.up(a, oneshot(c.shell("once", "echo ran >> said")), c.stay("b"))
	c.reaches("a", plugin.Failed)
	c.reaches("once", plugin.Succeeded)
	b := c.reaches("b", plugin.Running)
	c.touch("gate")
	c.start()
	c.reaches("a", plugin.Running)
	c.Equal(c.action("b").PID, b.PID)
	c.Equal(len(c.words("said")), 1) // not anew: b was up
}

func (c *trial) startAnew() {
	c.up(oneshot(c.shell("once", "echo ran >> said")), c.stay("a"))
	c.until("it is ready", func() bool { return c.status().Ready })
	c.stop()
	c.until("it is down", func() bool { return c.status().State == plugin.Inactive })
	c.start()
	c.says("said", 2)
	c.until("it is ready", func() bool { return c.status().Ready })
}

func (c *trial) details() {
	before := time.Now().Add(-2 * time.Second) // clocks of the kernel are coarse
	c.up(c.stay("a"))
	a := c.reaches("a", plugin.Running)
	c.until("it is ready", func() bool { return c.status().Ready })
	c.True(a.Alive())
	c.Equal(a.PGID, a.PID)
	c.Equal(a.Restarts, 0)
	c.Equal(a.ExitCode, nil)
	at, err := time.Parse(time.RFC3339, a.StartedAt)
	c.NoErr(err)
	c.True(at.After(before) && at.Before(time.Now().Add(2*time.Second)))
	status := c.status()
	c.Equal(status.Wanted, plugin.WantStart)
	c.Equal(status.State, plugin.Running)
	c.True(status.Alive())

	c.stop()
	a = c.reaches("a", plugin.Inactive)
	c.Equal(a, plugin.ActionStatus{Name: "a", State: plugin.Inactive, Why: a.Why})
	status = c.status()
	c.Equal(status.Wanted, plugin.WantStop)
	c.Equal(status.State, plugin.Inactive)
	c.True(!status.Alive())
	c.True(!status.Ready)
}
