//go:build linux

package proc_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

var (
	chaosRounds = flag.Int("chaos.rounds", 30, "how often TestChaos strikes; 200 is thorough")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "what TestChaos draws its blows from; 0 picks one and says it")
)

// TestChaos has fifty services live through blows at random moments: supervisor,
// keeper or both are killed while services run, crash, start and stop. Every
// process counts aloud, so that its output tells whether a line is missing and
// with what code it ended. What the supervisor says afterwards has to agree.
//
// It is not parallel to other tests: they would slow down each other.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("go test -run TestChaos -chaos.seed=%d -chaos.rounds=%d", seed, *chaosRounds)
	c := &chaos{hero: up(t), rand: rand.New(rand.NewPCG(seed, 0)), lives: map[string][]life{}}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			if err := c.Watch(ctx, c.seq, c.note); err != nil {
				t.Log(err) // on a busy machine there may be no supervisor for longer than it waits
			}
		}
	})
	defer watching.Wait()
	defer cancel()

	c.cast()
	for range *chaosRounds {
		c.round()
	}
	c.settle()
	c.stopAll()
	cancel()
	watching.Wait()
	c.check()
	t.Logf("%d blows, %d gaps, %d lives, %d of unknown end, %d untold", c.blows, len(c.gaps), c.total, c.unknown, c.untold)
}

// chaos is an installation under blows.
type chaos struct {
	*hero
	rand   *rand.Rand
	steady map[string]plugin.ActionStatus // by service: what nothing may touch
	moving []string                       // services that are started and stopped all the time
	all    []string

	blows   int
	outages []span // when there was no supervisor for some or all of the time
	gaps    []span // those in which a keeper fell, and another blow before all was well again
	seq     int64  // of the last event
	mu      sync.Mutex
	lives   map[string][]life // by service and action: what the supervisor told
	total   int
	unknown int
	untold  int
}

// clock is how moments are told.
const clock = "15:04:05.000"

// span is a time from one moment to another.
type span struct{ from, to time.Time }

// cast registers fifty services and starts them.
func (c *chaos) cast() {
	steady := func(name string, i int) []plugin.Action {
		return []plugin.Action{counter(name, 0, 10+i, 0)}
	}
	crashing := func(name string, i int) []plugin.Action {
		a := counter(name, 3+5*i, 30, i) // one of them ends with 0
		a.RestartDelayMS, a.RestartDelayMaxMS = 5, 100
		return []plugin.Action{a}
	}
	gated := func(name string, i int) []plugin.Action {
		b := counter(name+"-b", 0, 20, 0)
		b.Name, b.DependsOn = "b", []plugin.Dependency{"a"}
		return []plugin.Action{oneshot(counter(name, 1+3*i, 3, 0)), b}
	}
	failing := func(name string, i int) []plugin.Action {
		return []plugin.Action{oneshot(counter(name, 2+4*i, 3, 20+i))}
	}
	deaf := func(name string, i int) []plugin.Action {
		a := counter(name, 0, 20, 0, "deaf")
		a.StopTimeoutMS = 20 + 30*i
		return []plugin.Action{a}
	}
	family := func(name string, i int) []plugin.Action {
		a := counter(name, 10*(i%2)*(i+1), 20, 30+i, "family", c.file(name))
		a.RestartDelayMS, a.RestartDelayMaxMS = 50, 100
		return []plugin.Action{a}
	}
	steadies := c.players("steady", 12, steady)
	c.players("crashing", 14, crashing)
	c.moving = slices.Concat(c.players("gated", 10, gated), c.players("failing", 6, failing),
		c.players("deaf", 4, deaf), c.players("family", 4, family))
	c.steady = map[string]plugin.ActionStatus{}
	for _, name := range steadies {
		c.steady[name] = c.reaches(name, "a", plugin.Running)
	}
}

// players registers and starts so many services of a kind.
func (c *chaos) players(kind string, n int, actions func(string, int) []plugin.Action) []string {
	var names []string
	for i := range n {
		name := kind + strconv.Itoa(i)
		c.set(name, actions(name, i)...)
		names = append(names, name)
	}
	c.all = append(c.all, names...)
	return names
}

// round has services started and stopped, strikes meanwhile, and looks whether
// anything runs twice, until there are keeper and supervisor again.
func (c *chaos) round() {
	c.t.Helper()
	var orders sync.WaitGroup
	for range 1 + c.rand.IntN(6) {
		order, name := c.rand.IntN(3), c.moving[c.rand.IntN(len(c.moving))]
		orders.Go(func() { c.order(order, name) })
	}
	outage := span{from: time.Now()}
	hits := map[string]int{}
	for range 1 + c.rand.IntN(2)*c.rand.IntN(3) {
		<-time.After(time.Duration(c.rand.IntN(120_000)) * time.Microsecond)
		c.strike([]string{"supervisor", "supervisor", "supervisor", "keeper", "keeper", "both"}[c.rand.IntN(6)], hits)
		c.once()
	}
	c.until("the supervisor answers", func() bool {
		if len(c.crew()) == 0 {
			c.start()
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), patience/3)
		defer cancel()
		_, err := c.Info(ctx)
		return err == nil
	})
	outage.to = time.Now()
	c.t.Logf("%s: there are %v", outage.to.Format(clock), c.crew())
	c.outages = append(c.outages, outage)
	if hits["keeper"] > 0 && hits["keeper"]+hits["supervisor"] > 1 {
		c.gaps = append(c.gaps, outage)
	}
	orders.Wait()
	c.once()
}

// order asks for a change. The answer may get lost in a blow; what comes of it
// is looked at in the end.
func (c *chaos) order(order int, name string) {
	switch order {
	case 0:
		_ = c.Stop(c.t.Context(), name, true)
	case 1:
		_ = c.Start(c.t.Context(), name)
	case 2:
		_ = c.Restart(c.t.Context(), name)
	}
}

// strike kills keepers, supervisors, or all of them until there is none, and
// counts whom it hit.
func (c *chaos) strike(whom string, hits map[string]int) {
	c.blows++
	c.t.Logf("%s: kill %s of %v", time.Now().Format(clock), whom, c.crew())
	for {
		crew := c.crew()
		for pid, role := range crew {
			if (whom == "both" || whom == role) && syscall.Kill(pid, syscall.SIGKILL) == nil {
				hits[role]++
			}
		}
		if whom != "both" || len(crew) == 0 {
			return
		}
	}
}

// crew is what runs of keeper and supervisor, by PID. A process that has been
// forked and not executed its program yet looks like one of them, and may be
// hit as well.
func (c *chaos) crew() map[int]string {
	crew := map[int]string{}
	for _, pid := range pids() {
		args := strings.Fields(kernelText(pid, "cmdline"))
		if len(args) < 4 || args[1] != "role:keeper" || args[2] != c.paths.Root || !runs(pid) {
			continue
		}
		if crew[pid] = "keeper"; len(args) > 4 {
			crew[pid] = "supervisor"
		}
	}
	return crew
}

// once checks that nothing runs twice at this moment, and returns what runs. A
// child that has not executed its own program yet looks like its parent.
func (c *chaos) once() map[string]int {
	c.t.Helper()
	found := map[string]int{}
	for _, pid := range pids() {
		args := strings.Fields(kernelText(pid, "cmdline"))
		if len(args) < 3 || args[1] != "role:count" || !runs(pid) ||
			!strings.Contains(kernelText(pid, "environ"), "PATH_ROOT="+c.paths.Root+" ") {
			continue
		}
		other := found[args[2]]
		if other == 0 {
			found[args[2]] = pid
		} else if runs(other) && runs(pid) && parent(pid) != other && parent(other) != pid {
			c.t.Errorf("%s runs twice: PIDs %d and %d", args[2], other, pid)
		}
	}
	return found
}

// settle has everything started, and checks that what was never touched still
// is what it was.
func (c *chaos) settle() {
	c.t.Helper()
	for _, name := range c.moving {
		c.is.NoErr(c.Start(c.t.Context(), name))
	}
	for _, name := range c.moving {
		if !strings.HasPrefix(name, "failing") {
			c.until(name+" is ready", func() bool {
				_, status, err := c.Get(c.t.Context(), name)
				return err == nil && status.Ready
			})
		}
	}
	found := c.once()
	for name, was := range c.steady {
		is := c.action(name, "a")
		if is.PID != was.PID || is.StartedAt != was.StartedAt || is.Restarts != 0 || found[name] != was.PID {
			c.t.Errorf("%s was %+v, is %+v, runs as %d", name, was, is, found[name])
		}
	}
}

// stopAll stops everything and checks that nothing is left but keeper and
// supervisor.
func (c *chaos) stopAll() {
	c.t.Helper()
	for _, name := range c.all {
		c.is.NoErr(c.Stop(c.t.Context(), name, true))
	}
	c.until("all is told to be down", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, lives := range c.lives {
			if !lives[len(lives)-1].over {
				return false
			}
		}
		return true
	})
	for _, name := range c.all {
		_, status, err := c.Get(c.t.Context(), name)
		c.is.NoErr(err)
		c.is.Equal(status.State, plugin.Inactive)
	}
	for pid, what := range c.left() {
		if !strings.Contains(what, "role:keeper") {
			c.t.Errorf("PID %d is left: %s", pid, what)
		}
	}
}
