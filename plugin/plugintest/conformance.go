package plugintest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/matryer/is"
)

// RunSupervisor checks that what fresh returns keeps every promise of
// [plugin.Supervisor] and [plugin.Action].
//
// Fresh is called once for each check, and checks run at the same time. It may
// return a supervisor of its own each time, or always the same one: no check
// knows of another's services. What a check has started is stopped by force
// when it ends.
//
// What is supervised are programs that every Unix has (a shell and the core
// utilities), so that the supervisor may be in another process, or be another
// program. It has to run on this machine, for this user: the checks look at
// processes and files. They read /proc, so they need Linux.
func RunSupervisor(t *testing.T, fresh func(t *testing.T) plugin.Supervisor) {
	for _, checks := range []map[string]func(*trial){registering, living, stopping, given} {
		for name, check := range checks {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				check(newTrial(t, fresh(t)))
			})
		}
	}
}

// lasting is how long a check waits for what must come.
const lasting = 20 * time.Second

// trial is one check: a service of a supervisor, and a folder in which its
// programs leave word.
type trial struct {
	plugin.Supervisor
	*is.I
	t       *testing.T
	service string
	dir     string
}

func newTrial(t *testing.T, supervisor plugin.Supervisor) *trial {
	t.Helper()
	dir, err := os.MkdirTemp("", "c") // short, for the sake of socket paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c := &trial{Supervisor: supervisor, I: is.New(t), t: t, dir: dir, service: "check-" + strings.ToLower(rand.Text()[:8])}
	t.Cleanup(c.cleanUp)
	return c
}

// cleanUp stops the service of the check by force.
func (c *trial) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), lasting)
	defer cancel()
	err := c.Stop(ctx, c.service, true)
	for status := (plugin.ServiceStatus{}); err == nil; pause() {
		if _, status, err = c.Get(ctx, c.service); err == nil && !status.Alive() {
			return
		}
	}
	if !errors.Is(err, plugin.ErrNotFound) {
		c.t.Errorf("stop service of the check: %v", err)
	}
}

func pause() { <-time.After(5 * time.Millisecond) }

// until waits until something holds.
func (c *trial) until(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(lasting); !holds(); pause() {
		if time.Now().After(deadline) {
			_, status, err := c.Get(c.t.Context(), c.service)
			c.t.Fatalf("waited in vain until %s: %v: %+v", what, err, status)
		}
	}
}

// spec is the registration of the check's service with the actions.
func (c *trial) spec(actions ...plugin.Action) plugin.ServiceSpec {
	return plugin.ServiceSpec{Name: c.service, Actions: actions}
}

// set registers the actions.
func (c *trial) set(actions ...plugin.Action) {
	c.t.Helper()
	c.NoErr(c.Set(c.t.Context(), c.spec(actions...)))
}

// up registers the actions and wants them.
func (c *trial) up(actions ...plugin.Action) {
	c.t.Helper()
	c.set(actions...)
	c.start()
}

func (c *trial) start() {
	c.t.Helper()
	c.NoErr(c.Start(c.t.Context(), c.service))
}

func (c *trial) stop() {
	c.t.Helper()
	c.NoErr(c.Stop(c.t.Context(), c.service, false))
}

func (c *trial) status() plugin.ServiceStatus {
	c.t.Helper()
	_, status, err := c.Get(c.t.Context(), c.service)
	c.NoErr(err)
	return status
}

func (c *trial) action(name string) plugin.ActionStatus {
	c.t.Helper()
	return c.status().Action(name)
}

// reaches waits until an action has the state, and returns it.
func (c *trial) reaches(name, state string) (a plugin.ActionStatus) {
	c.t.Helper()
	c.until(name+" is "+state, func() bool {
		a = c.action(name)
		return a.State == state
	})
	return a
}

// replaced waits until an action runs in another process than the one given.
func (c *trial) replaced(name string, pid int) (a plugin.ActionStatus) {
	c.t.Helper()
	c.until(fmt.Sprintf("%s has another process than %d", name, pid), func() bool {
		a = c.action(name)
		return a.State == plugin.Running && a.PID != pid && a.PID != 0
	})
	return a
}

// gone waits until the process is no more.
func (c *trial) gone(pid int) {
	c.t.Helper()
	c.until(fmt.Sprintf("PID %d has gone", pid), func() bool { return !runs(pid) })
}

// kill ends a process as nobody asked for.
func (c *trial) kill(pid int) {
	c.t.Helper()
	c.NoErr(syscall.Kill(pid, syscall.SIGKILL))
}

// runs reports whether there is a process that is no zombie.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// file is the path of a file by which programs and checks tell each other things.
func (c *trial) file(name string) string { return filepath.Join(c.dir, name) }

// touch makes such a file.
func (c *trial) touch(name string) {
	c.t.Helper()
	c.NoErr(os.WriteFile(c.file(name), nil, 0o600))
}

// words are what programs have written to a file.
func (c *trial) words(name string) []string {
	c.t.Helper()
	b, err := os.ReadFile(c.file(name))
	if !errors.Is(err, os.ErrNotExist) {
		c.NoErr(err)
	}
	return strings.Fields(string(b))
}

// says waits until programs have written so many words to a file.
func (c *trial) says(name string, count int) (words []string) {
	c.t.Helper()
	c.until(fmt.Sprintf("there are %d words in %s", count, name), func() bool {
		words = c.words(name)
		return len(words) >= count
	})
	return words
}

// listen makes the probe of the network and address pass until it is closed.
func (c *trial) listen(network, address string) net.Listener {
	c.t.Helper()
	l, err := net.Listen(network, address)
	c.NoErr(err)
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
	c.t.Cleanup(func() {
		_ = l.Close() // perhaps for the second time
		<-done
	})
	return l
}

// shell is an action that runs a script in the check's folder.
func (c *trial) shell(name, script string) plugin.Action {
	return plugin.Action{
		Name: name, Command: []string{"/bin/sh", "-c", script}, Cwd: c.dir,
		Env: map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin"},
	}
}

// stay is an action that stays until it is told to end.
func (c *trial) stay(name string) plugin.Action {
	return c.shell(name, "exec sleep 100000")
}

// heed is an action that says so in a file named up, and at a TERM in one
// named term, when it ends with the code once there is a file named done.
func (c *trial) heed(name string, code int) plugin.Action {
	return c.shell(name, fmt.Sprintf(`
		trap 'echo %[1]s >> term; while ! [ -e done ]; do sleep 0.02; done; exit %[2]d' TERM
		echo %[1]s >> up
		while :; do sleep 0.02; done`, name, code))
}

// deaf is an action that ignores every polite request.
func (c *trial) deaf(name string) plugin.Action {
	return c.shell(name, fmt.Sprintf(`trap "" TERM INT HUP; echo %s >> up; exec sleep 100000`, name))
}

// oneshot makes a oneshot of an action.
func oneshot(a plugin.Action) plugin.Action {
	a.Kind = plugin.Oneshot
	return a
}

// program is the path of a program.
func (c *trial) program(name string) string {
	c.t.Helper()
	path, err := exec.LookPath(name)
	c.NoErr(err)
	return path
}
