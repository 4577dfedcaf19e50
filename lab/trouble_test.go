package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestWrongSettingsRestartNothing writes settings that nothing can be made of.
func TestWrongSettingsRestartNothing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	media := l.readyStatus().livekit().PID
	file := filepath.Join(l.root, "etc", "lab.toml")
	is.NoErr(os.MkdirAll(filepath.Dir(file), 0o755))
	for settings, complaint := range map[string]string{
		"[livekit]\nprot = 7880":      "unknown key prot",
		"[livkit]\nport = 7880":       "unknown table livkit",
		"[livekit]\nport = \"7880\"":  "key port: expected",
		"[livekit]\nport = 99999":     "port",
		"\x00\x01":                    "line 1",
		strings.Repeat("# ", 600_000): "at most",
	} {
		is.NoErr(os.WriteFile(file, []byte(settings), 0o644))
		got := l.run("service", "livekit", "--restart", "--timeout", "30s")
		got.expect(t, 1)
		if !strings.Contains(got.stderr, complaint) || !strings.Contains(got.stderr, "was not restarted") {
			t.Errorf("%q is answered by %s", settings[:min(len(settings), 40)], got.stderr)
		}
	}
	is.NoErr(os.Remove(file))
	is.NoErr(syscall.Mkfifo(file, 0o644)) // whoever opened it would wait for ever
	l.run("service", "livekit", "--restart", "--timeout", "30s").expect(t, 1)
	is.Equal(l.readyStatus().livekit().PID, media)
	is.NoErr(os.Remove(file))
	l.must("service", "livekit", "--restart")
	is.True(l.readyStatus().livekit().PID != media)
}

// TestHungProcessIsReplaced stops processes that go on to hold their sockets.
func TestHungProcessIsReplaced(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	before := l.readyStatus()
	for _, unit := range []string{busUnit, hostUnit, controlUnit} {
		is.NoErr(syscall.Kill(before.pid(unit), syscall.SIGSTOP))
	}
	eventually(t, 2*time.Minute, func() error {
		now := l.status()
		for _, unit := range []string{busUnit, hostUnit, controlUnit} {
			if now.pid(unit) == before.pid(unit) || !now.Ready {
				return fmt.Errorf("%s is not replaced, or not ready", unit)
			}
		}
		return nil
	})
	is.Equal(l.status().livekit().PID, before.livekit().PID)
}

// TestHungSupervisorIsTold stops the supervisor, which freezes nobody.
func TestHungSupervisorIsTold(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	supervisor := l.readyStatus().Supervisor.PID
	is.NoErr(syscall.Kill(supervisor, syscall.SIGSTOP))
	got := l.run("status")
	is.NoErr(syscall.Kill(supervisor, syscall.SIGCONT))
	got.expect(t, 1)
	is.True(strings.Contains(got.stderr, "does not answer"))
	is.True(got.took < 30*time.Second)
	l.readyStatus()
}

// TestRemovedSocketsComeBack removes every socket of an installation.
func TestRemovedSocketsComeBack(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	before := l.readyStatus()
	is.NoErr(os.RemoveAll(filepath.Join(l.root, "var", "sockets")))
	eventually(t, 30*time.Second, func() error {
		if !l.status().Ready {
			return fmt.Errorf("not ready")
		}
		return nil
	})
	now := l.status()
	is.Equal(now.livekit().PID, before.livekit().PID)
	is.Equal(now.Supervisor.PID, before.Supervisor.PID)
}

// TestDamagedStoreIsTold damages the store while nobody has it open.
func TestDamagedStoreIsTold(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	s := l.readyStatus().Supervisor
	is.NoErr(syscall.Kill(s.KeeperPID, syscall.SIGKILL))
	is.NoErr(syscall.Kill(s.PID, syscall.SIGKILL))
	store := filepath.Join(l.root, "var", "hero_proc", "hero_proc.db")
	eventually(t, 10*time.Second, func() error {
		if alive(s.KeeperPID) || alive(s.PID) {
			return fmt.Errorf("they are alive")
		}
		return nil
	})
	is.NoErr(os.RemoveAll(store + "-wal"))
	is.NoErr(os.WriteFile(store, []byte(strings.Repeat("no database at all ", 1000)), 0o600))
	for _, args := range [][]string{{"up", "--timeout", "1m"}, {"down"}} {
		got := l.run(args...)
		got.expect(t, 1)
		is.True(strings.Contains(got.stderr, "is damaged"))
		is.True(got.took < 20*time.Second) // it does not wait for what will not come
	}
	is.True(len(processesBelow(l.root)) > 0)
	l.must("down", "--force")
	is.Equal(len(processesBelow(l.root)), 0)
}

// TestOutputThatCannotBeWritten has commands print to a full device.
func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"token", "--room", "r", "--identity", "i"}, {"events", "tail", "--all"}, {"service", "logs", "livekit", "-f"}, {"--help"}} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		is.NoErr(err)
		cmd := l.command(t.Context(), args...)
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = full, &said
		err = cmd.Run()
		is.NoErr(full.Close())
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(said.String(), "write output") {
			t.Errorf("lab %s: %v %s", strings.Join(args, " "), err, said.String())
		}
	}
}
