package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

func TestKilledLiveKitIsRestartedAndAnnounced(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	events := l.tail("--type", "media.ready.v1", "--type", "media.degraded.v1", "--type", "test.marked.v1")
	before := l.readyStatus()
	for round := range 2 {
		last := l.readyStatus()
		from := len(events.seen())
		l.kill9(t, last.livekit().PID)
		degraded, at := events.await("that the media are degraded", from, func(e told) bool { return e.is("media.degraded") })
		ready, _ := events.await("that the media are ready again", at, func(e told) bool { return e.is("media.ready") })
		is.True(degraded.Data.Revision > last.Media.Revision)
		is.True(ready.Data.Revision > degraded.Data.Revision)
		now := l.readyStatus()
		is.True(now.livekit().PID != last.livekit().PID)
		is.Equal(now.livekit().Restarts, round+1)
		is.Equal(now.Media.Revision, ready.Data.Revision)
		is.Equal(now.backend().PID, before.backend().PID) // the other one goes on
	}
}

func TestStoppedStaysStopped(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	l.must("service", "livekit", "--stop")
	is.Equal(l.run("service", "livekit", "--status").code, 4)
	stopped := func() error {
		s := l.status()
		if s.livekit().PID != 0 || s.backend().PID != 0 || s.service(mediaUnit).Wanted != "stop" {
			return fmt.Errorf("the media are wanted to %s and run as %d and %d", s.service(mediaUnit).Wanted, s.livekit().PID, s.backend().PID)
		}
		return nil
	}
	is.NoErr(stopped())
	before := l.status()
	l.kill9(t, before.Supervisor.PID)
	eventually(t, readyAgain, func() error {
		now := l.status()
		if now.Supervisor == nil {
			return fmt.Errorf("there is no supervisor: %v", now.Problems)
		}
		return supervisorReplaced(before, now)
	})
	throughout(t, 2*time.Second, stopped)
	l.must("service", "livekit", "--start")
	l.readyStatus()
}

// TestExitWithoutErrorCodeIsAFailure has livekit-server end as it does at any
// trouble when it starts: with code 0, and the reason on standard output.
func TestExitWithoutErrorCodeIsAFailure(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	file := filepath.Join(l.root, derived[0])
	text, err := os.ReadFile(file)
	is.NoErr(err)
	before := l.readyStatus()
	is.NoErr(os.WriteFile(file, append(text, "\nno_such_setting: true\n"...), 0o600))
	l.kill9(t, before.livekit().PID) // it is started again without configure
	eventually(t, 15*time.Second, func() error {
		s := l.status()
		a := s.livekit()
		if s.Ready || !strings.Contains(a.Why, "no_such_setting") || a.ExitCode == nil || *a.ExitCode != 0 {
			return fmt.Errorf("ready %v, livekit-server is %s, exit code %v: %s", s.Ready, a.State, a.ExitCode, a.Why)
		}
		if !strings.Contains(s.Media.Reason, "no_such_setting") {
			return fmt.Errorf("the media are %s for %q", s.Media.State, s.Media.Reason)
		}
		return nil
	})
	is.True(strings.Contains(l.run("status").stdout, "no_such_setting")) // people are told, too
	l.must("service", "livekit", "--restart")
	is.Equal(l.readyStatus().livekit().Why, "")
	mended, err := os.ReadFile(file)
	is.NoErr(err)
	is.Equal(string(mended), string(text))
}
