//go:build linux

package proc_test

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"golang.org/x/sys/unix"
)

func TestForceEndsADrain(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.touch("up")
	call := play("call", "drain", h.file("up"), h.file("never"))
	call.Drain, call.StopTimeoutMS = true, 400
	h.set("media", call)
	h.says("media", "call", "up", 1)
	h.is.NoErr(h.Stop(t.Context(), "media", false))
	h.says("media", "call", "TERM", 1)
	h.is.Equal(h.action("media", "call").State, plugin.Stopping) // for as long as it likes
	h.is.NoErr(h.Stop(t.Context(), "media", true))
	h.reaches("media", "call", plugin.Inactive)
	h.is.Equal(h.count("media", "call", "TERM"), 1)

	h.is.NoErr(h.Start(t.Context(), "media")) // force does not last
	h.says("media", "call", "up", 2)
	h.is.NoErr(h.Stop(t.Context(), "media", true)) // force sends the signal first
	h.reaches("media", "call", plugin.Inactive)
	h.is.Equal(h.count("media", "call", "TERM"), 2)
}

func TestNothingToDrain(t *testing.T) {
	t.Parallel()
	h := up(t)
	call := play("call", "drain", h.file("never"), h.file("never"))
	call.Drain, call.Ready = true, onSocket(h.file("nobody"))
	h.set("media", call)
	h.reaches("media", "call", plugin.Starting)
	h.is.NoErr(h.Stop(t.Context(), "media", false))
	h.reaches("media", "call", plugin.Inactive) // it never was ready: killed, without a word
	h.is.Equal(h.count("media", "call", "TERM"), 0)
}

func TestDeafProcessIsKilled(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := play("a", "deaf")
	a.StopTimeoutMS = 400
	h.set("s", a)
	h.says("s", "a", "up", 1)
	h.is.NoErr(h.Stop(t.Context(), "s", false))
	h.reaches("s", "a", plugin.Inactive)
	h.is.Equal(h.count("s", "a", "TERM"), 1)
}

// TestWantedAgainWhileItStops starts a service whose process has its stop
// signal: that cannot be taken back, so the process is replaced.
func TestWantedAgainWhileItStops(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.touch("up")
	call := play("call", "drain", h.file("up"), h.file("done"))
	call.Drain = true
	h.set("media", call)
	h.says("media", "call", "up", 1)
	pid := h.action("media", "call").PID
	h.is.NoErr(h.Stop(t.Context(), "media", false))
	h.says("media", "call", "TERM", 1)
	h.is.NoErr(h.Start(t.Context(), "media"))
	h.is.Equal(h.action("media", "call").State, plugin.Stopping)
	h.is.Equal(h.action("media", "call").PID, pid)
	h.touch("done")
	h.until("there is another", func() bool {
		a := h.action("media", "call")
		return a.State == plugin.Running && a.PID != pid
	})
	h.is.Equal(h.action("media", "call").Restarts, 0)
	h.is.NoErr(h.Stop(t.Context(), "media", true))
}

// relatives are the processes that the role "tree" leaves around.
var relatives = []string{"group", "session", "unmarked", "unmarked-group", "orphan"}

func TestNoStrayIsLeft(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(h *hero, leader int){
		"stop":    func(h *hero, _ int) { h.is.NoErr(h.Stop(t.Context(), "s", false)) },
		"force":   func(h *hero, _ int) { h.is.NoErr(h.Stop(t.Context(), "s", true)) },
		"adopted": func(h *hero, _ int) { h.killSupervisor(); h.is.NoErr(h.Stop(t.Context(), "s", false)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := up(t)
			dir := t.TempDir()
			a := play("a", "tree", dir, "unmarked-session")
			a.StopTimeoutMS = 50
			h.set("s", a)
			pids := h.family(dir, append(relatives, "unmarked-session")...)
			end(h, h.action("s", "a").PID)
			h.reaches("s", "a", plugin.Inactive)
			for name, pid := range pids {
				if runs(pid) {
					t.Errorf("%s is left", name)
				}
			}
		})
	}
}

// TestNoStrayIsLeftByACrash has a leader end by itself: what is in its session
// or carries its name goes before the leader is replaced.
func TestNoStrayIsLeftByACrash(t *testing.T) {
	t.Parallel()
	h := up(t)
	dir := t.TempDir()
	a := play("a", "tree", append([]string{dir, "leave"}, "group", "session", "orphan", "unmarked", "unmarked-group")...)
	a.Restart = plugin.RestartNever
	h.set("s", a)
	h.is.Equal(h.reaches("s", "a", plugin.Failed).Why, "exited 3: leaves its children behind")
	for name, pid := range h.family(dir, "group", "session", "orphan", "unmarked") {
		if runs(pid) {
			t.Errorf("%s is left", name)
		}
	}
	// A group of its own in the leader's session is of the session.
	for name, pid := range h.family(dir, "unmarked-group") {
		if runs(pid) {
			t.Errorf("%s is left", name)
		}
	}
}

// family waits until the processes have written their PIDs, and returns them.
func (h *hero) family(dir string, names ...string) map[string]int {
	h.t.Helper()
	found := map[string]int{}
	h.until("all relatives are there", func() bool {
		for _, name := range names {
			b, _ := os.ReadFile(dir + "/" + name)
			pid, err := strconv.Atoi(string(b))
			if err != nil {
				return false
			}
			found[name] = pid
		}
		return true
	})
	return found
}

// TestWhatAProcessGets starts a keeper the way careless parents do, with
// signals ignored and blocked and a file left open: nothing of this goes on.
func TestWhatAProcessGets(t *testing.T) {
	t.Parallel()
	h := newHero(t)
	leak, err := os.Open(os.DevNull)
	h.is.NoErr(err)
	defer leak.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	block, before := new(unix.Sigset_t), new(unix.Sigset_t)
	block.Val[0] = 1<<(unix.SIGTERM-1) | 1<<(unix.SIGUSR1-1)
	h.is.NoErr(unix.PthreadSigmask(unix.SIG_BLOCK, block, before))
	keeper, _ := h.start(func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `trap "" HUP INT QUIT TERM TSTP TTOU USR2; exec "$@"`, "sh", self()}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.ExtraFiles = []*os.File{leak}
	})
	h.is.NoErr(unix.PthreadSigmask(unix.SIG_SETMASK, before, nil))
	h.until("the supervisor answers", func() bool {
		info, err := h.Info(t.Context())
		return err == nil && info.KeeperPID == keeper
	})
	a := oneshot(play("a", "show"))
	a.Env["MINE"], a.Env["HERO_SOCKET_DIR"] = "yes", "/elsewhere"
	h.set("s", a)
	h.reaches("s", "a", plugin.Succeeded)
	lines, err := h.Logs(t.Context(), "s", "a", 100)
	h.is.NoErr(err)
	text := strings.Join(lines, "\n") + "\n"
	for _, want := range []string{
		"env MINE=yes\n", "env HERO_SOCKET_DIR=/elsewhere\n", "env PATH_ROOT=" + h.paths.Root + "\n",
		"cwd " + h.paths.Var("s") + "\n", "SigBlk: 0000000000000000\n", "SigIgn: 0000000000000000\n", "stdin /dev/null\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for _, line := range lines {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "env "), "=")
		if strings.HasPrefix(line, "env ") && !strings.Contains(" GORACE MINE HERO_SOCKET_DIR PATH_ROOT HERO_PROC_JOB PATH ", " "+name+" ") {
			t.Errorf("unwanted variable %s", name)
		}
		if strings.HasPrefix(line, "fd ") && !strings.Contains(line, "/sys/fs/cgroup/") { // which Go opens itself
			t.Errorf("inherited %s", line)
		}
	}
}
