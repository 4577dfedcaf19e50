//go:build linux

package proc_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// blows are the ways in which supervisor and keeper may be hit, after each of
// which there are both again.
var blows = map[string]func(h *hero){
	"supervisor killed": (*hero).killSupervisor,
	"keeper killed": func(h *hero) {
		was := h.info()
		h.kill(was.KeeperPID)
		h.until("the supervisor is the keeper", func() bool {
			info, err := h.Info(h.t.Context())
			return err == nil && info.KeeperPID == was.PID && info.PID != was.PID
		})
	},
	"both killed": func(h *hero) {
		was := h.info()
		h.is.NoErr(syscall.Kill(was.KeeperPID, syscall.SIGSTOP)) // so that it cannot start another
		h.kill(was.PID)
		h.kill(was.KeeperPID)
		h.keep()
	},
	"keeper asked to end": func(h *hero) {
		was := h.info()
		h.is.NoErr(syscall.Kill(was.KeeperPID, syscall.SIGTERM))
		h.until("both have gone", func() bool { return !runs(was.KeeperPID) && !runs(was.PID) })
		h.keep()
	},
	"restart": func(h *hero) {
		was := h.info()
		h.is.NoErr(h.RestartSupervisor(h.t.Context()))
		h.until("there is another supervisor", func() bool {
			info, err := h.Info(h.t.Context())
			return err == nil && info.PID != was.PID
		})
		h.is.Equal(h.info().KeeperPID, was.KeeperPID) // execve keeps the PID
	},
}

func TestProcessesSurvive(t *testing.T) {
	t.Parallel()
	for name, blow := range blows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := up(t)
			socket := h.file("s")
			listen(t, socket)
			steady := play("steady", "stay")
			steady.Ready, steady.DependsOn = onSocket(socket), []plugin.Dependency{"configure"}
			h.set("media", oneshot(play("configure", "exit", "0", "configured")), play("chatty", "chatty"), steady)
			steady1 := h.reaches("media", "steady", plugin.Running)
			chatty1 := h.reaches("media", "chatty", plugin.Running)
			for range 2 {
				blow(h)
				h.until("it is ready again", func() bool {
					_, status, err := h.Get(t.Context(), "media")
					return err == nil && status.Ready
				})
				h.is.Equal(h.action("media", "steady").PID, steady1.PID)
				h.is.Equal(h.action("media", "steady").StartedAt, steady1.StartedAt)
				h.is.Equal(h.action("media", "steady").Restarts, 0)
				h.is.Equal(h.action("media", "chatty").PID, chatty1.PID)
			}
			lines := h.lastChat()
			h.until("the log goes on", func() bool { return h.lastChat() > lines })
			h.is.Equal(h.count("media", "configure", "configured"), 1) // what has succeeded is not run again

			h.is.NoErr(syscall.Kill(chatty1.PID, syscall.SIGKILL)) // an adopted one is looked after like any other
			h.until("it is started again", func() bool {
				a := h.action("media", "chatty")
				return a.State == plugin.Running && a.PID != chatty1.PID
			})
			jobs, err := h.Jobs(t.Context(), "media")
			h.is.NoErr(err)
			h.is.Equal(jobs[1].Signal, "SIGKILL") // and how it ended is known
			h.is.NoErr(h.Stop(t.Context(), "media", false))
			h.reaches("media", "steady", plugin.Inactive)
			h.is.Equal(h.count("media", "steady", "down"), 1)
			h.is.True(!runs(steady1.PID))
		})
	}
}

// lastChat is the number in the last line of the chatty action.
func (h *hero) lastChat() (n int) {
	h.t.Helper()
	lines, err := h.Logs(h.t.Context(), "media", "chatty", 1)
	h.is.NoErr(err)
	_, err = fmt.Sscanf(strings.Join(lines, ""), "line %d", &n)
	h.is.NoErr(err)
	return n
}

// TestExitWhileNobodySupervises ends processes in the moments in which there
// is no supervisor: the keeper knows how they ended.
func TestExitWhileNobodySupervises(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "await", h.file("go"), "42", "last words")
	a.Restart = plugin.RestartNever
	adopted := play("adopted", "await", h.file("go"), "43", "other words")
	adopted.Restart = plugin.RestartNever
	h.set("first", adopted)
	h.reaches("first", "adopted", plugin.Running)
	h.killSupervisor()
	h.set("s", a, oneshot(play("o", "await", h.file("go"), "0", "done")))
	child := h.reaches("s", "a", plugin.Running).PID
	h.reaches("s", "o", plugin.Running)

	info := h.info()
	h.is.NoErr(syscall.Kill(info.KeeperPID, syscall.SIGSTOP)) // so that there is none for as long as the test needs
	h.kill(info.PID)
	h.touch("go")
	h.until("it has ended", func() bool { return !runs(child) })
	h.is.NoErr(syscall.Kill(info.KeeperPID, syscall.SIGCONT))
	got := h.reaches("s", "a", plugin.Failed)
	h.is.Equal(*got.ExitCode, 42)
	h.is.Equal(got.Why, "exited 42: last words")
	h.is.Equal(h.reaches("first", "adopted", plugin.Failed).Why, "exited 43: other words")
	h.reaches("s", "o", plugin.Succeeded)
	h.until("the keeper's notes are cleared away", func() bool {
		notes, err := os.ReadDir(filepath.Join(h.paths.Var("hero_proc"), "exits"))
		return err == nil && len(notes) == 0
	})
}

// TestExitWhileBothAreDead ends a process while there is neither supervisor
// nor keeper: nobody can know how, and that is said.
func TestExitWhileBothAreDead(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "await", h.file("go"), "0", "last words")
	a.Restart = plugin.RestartNever
	h.set("s", a)
	pid := h.reaches("s", "a", plugin.Running).PID
	info := h.info()
	h.is.NoErr(syscall.Kill(info.KeeperPID, syscall.SIGSTOP))
	h.kill(info.PID)
	h.kill(info.KeeperPID)
	h.touch("go")
	h.until("it has ended", func() bool { return !runs(pid) })
	h.until("it is forgotten", func() bool { return !exists(fmt.Sprintf("/proc/%d", pid)) })
	h.keep()
	got := h.reaches("s", "a", plugin.Failed)
	h.is.Equal(got.ExitCode, nil)
	h.is.Equal(got.Why, "ended while nobody watched, how is not known: last words")
}

// TestKilledWhileStarting kills the supervisor again and again at random
// moments of starting a service: there is never a second copy of anything.
func TestKilledWhileStarting(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			h := up(t)
			const actions = 4
			spec := plugin.ServiceSpec{Name: "s"}
			for i := range actions {
				a := play(fmt.Sprintf("a%d", i), "leaf", h.file(fmt.Sprintf("pid%d", i)))
				a.RestartDelayMS, a.RestartDelayMaxMS = 1, 5
				spec.Actions = append(spec.Actions, a)
			}
			h.is.NoErr(h.Set(t.Context(), spec))
			for round := range 5 {
				h.killWhileStarting("s", time.Duration(rand.IntN(15))*time.Millisecond)
				var status plugin.ServiceStatus
				h.until("all run", func() (ready bool) {
					var err error
					_, status, err = h.Get(t.Context(), "s")
					return err == nil && status.Ready
				})
				copies := h.copies()
				h.is.Equal(len(copies), actions)
				for _, a := range status.Actions {
					h.is.True(copies[a.PID]) // the one that runs is the one that is known
				}
				h.clear("s", copies, round%2 == 0)
			}
		})
	}
}

// killWhileStarting has a service started and kills the supervisor so long
// after that was asked for.
func (h *hero) killWhileStarting(name string, after time.Duration) {
	h.t.Helper()
	supervisor := h.info().PID
	done := make(chan error, 1)
	go func() { done <- h.Start(h.t.Context(), name) }()
	<-time.After(after)
	h.kill(supervisor)
	h.is.NoErr(<-done)
}

// clear kills the copies, by stopping the service or under its eyes.
func (h *hero) clear(name string, copies map[int]bool, stop bool) {
	h.t.Helper()
	if stop {
		h.is.NoErr(h.Stop(h.t.Context(), name, true))
	}
	h.is.NoErr(h.Kill(h.t.Context(), name, ""))
	h.until("all have gone", func() bool {
		now := h.copies()
		for pid := range copies {
			if now[pid] {
				return false
			}
		}
		return true
	})
}

// copies are the PIDs of all leaves of this installation.
func (h *hero) copies() map[int]bool {
	found := map[int]bool{}
	for pid, command := range h.left() {
		if strings.Contains(command, "role:leaf") && runs(pid) {
			found[pid] = true
		}
	}
	return found
}

// TestOneStopSignal kills the supervisor after it has sent the stop signal.
func TestOneStopSignal(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	h.touch("up")
	call := play("call", "drain", h.file("up"), h.file("done"))
	call.Drain, call.StopTimeoutMS, call.StopDelayMS = true, 50, 2000
	h.set("media", call)
	h.says("media", "call", "up", 1)
	pid := h.action("media", "call").PID
	h.is.NoErr(h.Stop(ctx, "media", false))
	h.is.True(strings.Contains(h.action("media", "call").Why, "run for 2s")) // held back, not lost
	h.says("media", "call", "TERM", 1)
	for range 2 {
		h.killSupervisor()
		h.is.NoErr(h.Stop(ctx, "media", false))
		a := h.action("media", "call")
		h.is.Equal(a.State, plugin.Stopping)
		h.is.Equal(a.PID, pid)
	}
	h.is.Equal(h.count("media", "call", "TERM"), 1)
	h.is.True(strings.Contains(h.action("media", "call").Why, "ends when its work is done"))
	h.touch("done")
	h.reaches("media", "call", plugin.Inactive)
	h.is.Equal(*h.action("media", "call").ExitCode, 0)
	h.is.Equal(h.count("media", "call", "TERM"), 1)
}

func TestStoppedStaysStopped(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.set("a", play("a", "stay"))
	h.set("b", play("b", "stay"))
	h.reaches("a", "a", plugin.Running)
	pid := h.reaches("b", "b", plugin.Running).PID
	h.is.NoErr(h.Stop(t.Context(), "a", false))
	h.reaches("a", "a", plugin.Inactive)
	h.killSupervisor()
	h.is.Equal(h.action("a", "a").State, plugin.Inactive)
	h.is.Equal(h.action("b", "b").PID, pid)

	h.is.NoErr(h.Shutdown(t.Context(), false)) // what is wanted outlives a shutdown
	h.until("the supervisor has gone", func() bool { return !exists(h.paths.Socket("hero_proc")) })
	h.is.Equal(len(h.copies()), 0)
	h.keep()
	h.reaches("b", "b", plugin.Running)
	h.is.Equal(h.action("a", "a").State, plugin.Inactive)
}

func TestOneKeeper(t *testing.T) {
	t.Parallel()
	h := newHero(t)
	first, waitFirst := h.start()
	second, waitSecond := h.start()
	ends := make(chan int, 2)
	go func() { ends <- waitFirst() }()
	go func() { ends <- waitSecond() }()
	h.until("the supervisor answers", func() bool {
		_, err := h.Info(t.Context())
		return err == nil
	})
	h.is.Equal(<-ends, 1) // one gives up
	keeper := h.info().KeeperPID
	h.is.True(keeper == first || keeper == second)
	h.is.True(runs(keeper))
	b, err := os.ReadFile(h.said())
	h.is.NoErr(err)
	h.is.True(strings.Contains(string(b), fmt.Sprintf("hero_proc is running already: locked by PID %d", keeper)))
	h.is.NoErr(h.Shutdown(t.Context(), false))
	h.is.Equal(<-ends, 0) // the other ends when it is asked to
}

// TestShutdownOutlivesTheSupervisor kills the supervisor while it waits for a
// process that drains, before it ends.
func TestShutdownOutlivesTheSupervisor(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	h.touch("up")
	call := play("call", "drain", h.file("up"), h.file("done"))
	call.Drain = true
	h.set("media", call)
	h.set("bus", play("bus", "stay"))
	h.says("media", "call", "up", 1)
	bus := h.reaches("bus", "bus", plugin.Running).PID
	h.is.NoErr(h.Shutdown(ctx, false, "bus"))
	h.says("media", "call", "TERM", 1)
	h.killSupervisor()
	h.is.True(h.info().Leaving)
	h.is.True(runs(bus)) // it goes last
	h.is.Equal(h.Start(ctx, "bus") != nil, true)
	h.touch("done")
	h.until("the supervisor has gone", func() bool { return !exists(h.paths.Socket("hero_proc")) })
	h.is.True(!runs(bus))
	h.is.Equal(h.output("media", "call"), "up\nTERM\n")
}

// output is the output of an action, read without the supervisor.
func (h *hero) output(service, action string) string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.paths.Var("hero_proc"), "logs", service, action+".log"))
	h.is.NoErr(err)
	return string(b)
}
