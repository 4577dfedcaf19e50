package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lookEvery is how often a test looks whether what it waits for has come.
const lookEvery = 20 * time.Millisecond

// installation is a lab of its own, below a root of its own, with the real
// livekit-server in its store. Nothing of it outlives its test.
type installation struct {
	t    *testing.T
	root string
	lab  string // the executable

	extraEnv []string // of commands, besides what they always have

	mu         sync.Mutex
	transcript bytes.Buffer // all that its commands printed, but for tokens
}

// outcome is how a command ended.
type outcome struct {
	args           []string
	code           int // -1: it had to be killed
	stdout, stderr string
	took           time.Duration
}

// newInstallation makes an installation that was never brought up.
func newInstallation(t *testing.T) *installation {
	t.Helper()
	l := bareInstallation(t)
	store, err := livekitStore()
	if err != nil {
		t.Fatal(err)
	}
	if err := linkTree(store, filepath.Join(l.root, "var", "store")); err != nil {
		t.Fatalf("put livekit-server into the store: %v", err)
	}
	return l
}

// bareInstallation is one with nothing in its store.
func bareInstallation(t *testing.T) *installation {
	t.Helper()
	lab, err := buildLab()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp("", "lab") // t.TempDir is too long for a socket below it
	if err != nil {
		t.Fatal(err)
	}
	l := &installation{t: t, root: root, lab: lab}
	t.Cleanup(l.remove)
	return l
}

// upInstallation makes an installation and brings it up.
func upInstallation(t *testing.T) *installation {
	t.Helper()
	l := newInstallation(t)
	l.must("up", "--timeout", "2m")
	return l
}

// env is the whole environment of the commands: nothing of the machine's user.
func (l *installation) env() []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.root, "PATH_ROOT=" + l.root}, l.extraEnv...)
}

// command prepares lab with the arguments.
func (l *installation) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.lab, args...)
	cmd.Env, cmd.Dir = l.env(), l.root
	cmd.WaitDelay = 2 * time.Second // what it left behind may hold its output
	return cmd
}

// run runs lab to its end.
func (l *installation) run(args ...string) outcome {
	l.t.Helper()
	got := l.runQuietly(args...)
	l.note(got)
	return got
}

// runQuietly is run for commands whose very purpose is to print a secret.
func (l *installation) runQuietly(args ...string) outcome {
	l.t.Helper()
	return l.runWith("", args...)
}

// runWith is runQuietly with the text on standard input.
func (l *installation) runWith(stdin string, args ...string) outcome {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute) // also after the test
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := l.command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	begun := time.Now()
	err := cmd.Run()
	got := outcome{args: args, took: time.Since(begun), stdout: stdout.String(), stderr: stderr.String()}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got.code = exit.ExitCode()
	} else if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		l.t.Errorf("run lab %s: %v", strings.Join(args, " "), err)
		got.code = -1
	}
	return got
}

func (l *installation) note(got outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.transcript.WriteString("$ lab " + strings.Join(got.args, " ") + "\n" + got.stdout + got.stderr)
}

// printed is what the commands printed so far.
func (l *installation) printed() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.transcript.String()
}

// must is run for what has to succeed.
func (l *installation) must(args ...string) outcome {
	l.t.Helper()
	got := l.run(args...)
	got.expect(l.t, 0)
	return got
}

// expect fails the test unless the command ended with the code.
func (o outcome) expect(t *testing.T, code int) {
	t.Helper()
	if o.code != code {
		t.Fatalf("lab %s: exit %d after %s, expected %d\nstdout: %s\nstderr: %s",
			strings.Join(o.args, " "), o.code, o.took.Round(time.Millisecond), code, o.stdout, o.stderr)
	}
}

// decode reads the command's standard output as JSON.
func (o outcome) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(o.stdout), into); err != nil {
		t.Fatalf("lab %s: %v in %q", strings.Join(o.args, " "), err, o.stdout)
	}
}

// eventually waits until check finds nothing wrong any more, and returns how
// long that took.
func eventually(t *testing.T, within time.Duration, check func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		err := check()
		took := time.Since(begun)
		if err == nil {
			return took
		}
		if took > within {
			t.Fatalf("after %s: %v", took.Round(time.Millisecond), err)
		}
		<-tick.C
	}
}

// throughout checks for some time that nothing goes wrong. It is for what must
// never happen, for which there is nothing to wait.
func throughout(t *testing.T, length time.Duration, check func() error) {
	t.Helper()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < length; <-tick.C {
		if err := check(); err != nil {
			t.Fatalf("after %s: %v", time.Since(begun).Round(time.Millisecond), err)
		}
	}
}

// remove ends everything of the installation. That something of it outlives
// lab down, or that a secret of it has got about, fails the test.
func (l *installation) remove() {
	if l.t.Failed() {
		l.describe()
	}
	l.checkSecrets()
	if got := l.run("down", "--force", "--timeout", "1m"); got.code != 0 {
		l.t.Errorf("lab down --force: exit %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	for _, p := range processesBelow(l.root) {
		l.t.Errorf("left over after lab down: %s", p)
		p.kill()
	}
	if err := os.RemoveAll(l.root); err != nil {
		l.t.Errorf("remove the installation: %v", err)
	}
}

// describe logs what helps to understand a failure.
func (l *installation) describe() {
	l.t.Logf("%s", l.printed())
	l.t.Logf("lab status:\n%s", l.run("status").stdout)
	for _, file := range filesBelow(filepath.Join(l.root, "var"), ".log") {
		text, err := os.ReadFile(file)
		if err != nil || len(text) == 0 {
			continue
		}
		l.t.Logf("%s ends:\n%s", strings.TrimPrefix(file, l.root), text[max(0, len(text)-2000):])
	}
}
