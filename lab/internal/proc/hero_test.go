//go:build linux

package proc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/proc"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"github.com/matryer/is"
)

// patience is how long a test waits for what must come.
const patience = 15 * time.Second

// hero is an installation of its own with a keeper, a supervisor, and whatever
// a test has them run.
type hero struct {
	*procclient.Client
	t      testing.TB
	is     *is.I
	paths  plugin.Paths
	logCap string
}

// newHero returns an installation without a keeper. At the end of the test
// everything of it is gone, or the test fails.
func newHero(t testing.TB) *hero {
	t.Helper()
	root, err := os.MkdirTemp("", "hp") // short, for the sake of socket paths
	if err != nil {
		t.Fatal(err)
	}
	paths, err := plugin.NewPaths(root)
	if err != nil {
		t.Fatal(err)
	}
	h := &hero{t: t, is: is.New(t), paths: paths, Client: procclient.New(paths), logCap: "0"}
	t.Cleanup(h.cleanUp)
	return h
}

// up is newHero with a keeper.
func up(t testing.TB) *hero {
	t.Helper()
	h := newHero(t)
	h.keep()
	return h
}

// keep starts a keeper and waits until its supervisor answers.
func (h *hero) keep() {
	h.t.Helper()
	h.start()
	h.until("the supervisor answers", func() bool {
		_, err := h.Info(h.t.Context())
		return err == nil
	})
}

// start starts a keeper and returns its PID and a function that waits for its
// end and returns its exit code. Edits change how it is started.
func (h *hero) start(edits ...func(*exec.Cmd)) (pid int, wait func() int) {
	h.t.Helper()
	log, err := os.OpenFile(h.said(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	h.is.NoErr(err)
	defer log.Close()
	cmd := exec.Command(self(), "role:keeper", h.paths.Root, h.logCap)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	for _, edit := range edits {
		edit(cmd)
	}
	h.is.NoErr(cmd.Start())
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its code is looked at by who wants to know
		close(done)
	}()
	return cmd.Process.Pid, func() int {
		<-done
		return cmd.ProcessState.ExitCode()
	}
}

// said is the file with what keepers and supervisors have said.
func (h *hero) said() string { return filepath.Join(h.paths.Root, "said") }

// cleanUp ends everything and checks that nothing is left.
func (h *hero) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	left := h.left()
	for ; len(left) > 0 && ctx.Err() == nil; left = h.left() {
		_ = procclient.Impatient(h.paths).Shutdown(ctx, true) // whether it worked shows in what is left
		<-time.After(20 * time.Millisecond)
	}
	for pid, what := range left {
		h.t.Errorf("left behind: PID %d: %s", pid, what)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if h.t.Failed() {
		b, _ := os.ReadFile(h.said())
		h.t.Logf("keeper and supervisor said:\n%s", b)
	}
	if err := os.RemoveAll(h.paths.Root); err != nil {
		h.t.Error(err)
	}
}

// left returns what runs of the installation: whatever names its root in its
// command line or its environment.
func (h *hero) left() map[int]string {
	left := map[int]string{}
	for _, pid := range pids() {
		command := kernelText(pid, "cmdline")
		if strings.Contains(command, h.paths.Root+" ") || strings.Contains(command, h.paths.Root+"/") ||
			strings.Contains(kernelText(pid, "environ"), "PATH_ROOT="+h.paths.Root+" ") {
			left[pid] = command
		}
	}
	return left
}

func pids() []int {
	entries, _ := os.ReadDir("/proc")
	var list []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			list = append(list, pid)
		}
	}
	return list
}

// kernelText reads a file of /proc whose parts end in zeros as words.
func kernelText(pid int, file string) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	return string(bytes.ReplaceAll(b, []byte{0}, []byte(" ")))
}

func pause() { <-time.After(5 * time.Millisecond) }

// until waits until something holds.
func (h *hero) until(what string, holds func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); pause() {
		if time.Now().After(deadline) {
			list, _ := h.List(h.t.Context())
			h.t.Fatalf("waited in vain until %s; services: %+v", what, list)
		}
	}
}

// set registers a service of the actions, and starts it.
func (h *hero) set(name string, actions ...plugin.Action) {
	h.t.Helper()
	h.is.NoErr(h.Set(h.t.Context(), plugin.ServiceSpec{Name: name, Actions: actions}))
	h.is.NoErr(h.Start(h.t.Context(), name))
}

// action returns the state of an action.
func (h *hero) action(service, action string) plugin.ActionStatus {
	h.t.Helper()
	_, status, err := h.Get(h.t.Context(), service)
	h.is.NoErr(err)
	return status.Action(action)
}

// reaches waits until an action has a state and returns it.
func (h *hero) reaches(service, action, state string) plugin.ActionStatus {
	h.t.Helper()
	var a plugin.ActionStatus
	h.until(fmt.Sprintf("%s of %s is %s", action, service, state), func() bool {
		a = h.action(service, action)
		return a.State == state
	})
	return a
}

// says waits until an action has written a line so many times.
func (h *hero) says(service, action, line string, times int) {
	h.t.Helper()
	h.until(fmt.Sprintf("%s of %s says %q %d times", action, service, line, times), func() bool {
		return h.count(service, action, line) >= times
	})
}

// count counts the lines of an action that are line.
func (h *hero) count(service, action, line string) int {
	lines, err := h.Logs(h.t.Context(), service, action, 1000)
	h.is.NoErr(err)
	n := 0
	for _, l := range lines {
		if l == line {
			n++
		}
	}
	return n
}

// wrote is the output of an action as it is, which needs no supervisor.
func (h *hero) wrote(service, action string) string {
	b, err := os.ReadFile(filepath.Join(h.paths.Var(proc.Name), "logs", service, action+".log"))
	h.is.NoErr(err)
	return string(b)
}

// file is the path of a file that tests and programs tell each other things by.
func (h *hero) file(name string) string { return filepath.Join(h.paths.Root, name) }

// touch makes such a file.
func (h *hero) touch(name string) {
	h.t.Helper()
	h.is.NoErr(os.WriteFile(h.file(name), nil, 0o600))
}

// info returns the supervisor and its keeper.
func (h *hero) info() procclient.Info {
	h.t.Helper()
	info, err := h.Info(h.t.Context())
	h.is.NoErr(err)
	return info
}

// kill kills a process and waits until it has gone.
func (h *hero) kill(pid int) {
	h.t.Helper()
	h.is.NoErr(syscall.Kill(pid, syscall.SIGKILL))
	h.until(fmt.Sprintf("PID %d has gone", pid), func() bool { return !runs(pid) })
}

// killSupervisor kills the supervisor and waits for the next one.
func (h *hero) killSupervisor() {
	h.t.Helper()
	old := h.info().PID
	h.kill(old)
	h.until("there is another supervisor", func() bool {
		info, err := h.Info(h.t.Context())
		return err == nil && info.PID != old
	})
}

// runs reports whether there is a process that is no zombie.
func runs(pid int) bool {
	state := kernelState(pid)
	return state != nil && state[0] != "Z" && state[0] != "X"
}

// parent is the PID of the parent of a process, 0 when it has gone.
func parent(pid int) int {
	state := kernelState(pid)
	if state == nil {
		return 0
	}
	n, _ := strconv.Atoi(state[1])
	return n
}

// kernelState is what /proc/PID/stat says after the name of the process; nil
// when there is none.
func kernelState(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// play is an action that runs a role of the test binary.
func play(name, role string, args ...string) plugin.Action {
	return plugin.Action{
		Name: name, Command: append([]string{self(), "role:" + role}, args...),
		Env: map[string]string{"GORACE": noNap},
	}
}

// oneshot makes a oneshot of an action.
func oneshot(a plugin.Action, dependsOn ...plugin.Dependency) plugin.Action {
	a.Kind, a.DependsOn = plugin.Oneshot, dependsOn
	return a
}

// onSocket is ready when something listens on a Unix socket.
func onSocket(path string) []ready.Probe { return []ready.Probe{{Unix: path}} }

// listen accepts on a Unix socket until it is closed.
func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close() // it only wants to know
		}
	}()
	t.Cleanup(func() {
		_ = l.Close() // perhaps for the second time
		<-done
	})
	return l
}

func ignoreNotExist(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// self is the test binary.
func self() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}
