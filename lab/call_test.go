package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What a call must not exceed, whatever happens beside it.
const (
	room           = "huddle"
	undisturbed    = 400  // frames of the call that the other is measured by: 8 s
	disturbed      = 1000 // frames of the other, at least: 20 s
	slackMS        = 50   // longer than an undisturbed call's a gap may be
	readyAgain     = 5 * time.Second
	controlRestart = 5 // times
	tries          = 3
)

// blow is something done to an installation that its calls must not notice.
type blow struct {
	name   string
	strike func(l *installation, t *testing.T, before status)
	// landed returns nil once now shows that it had its effect.
	landed func(before, now status) error
	// backend says that lk-backend is what is replaced; otherwise it stays.
	backend bool
}

// TestCallOutlivesEveryRestart is what lab is for: a call goes on, and does
// not notice, while everything else is restarted or killed. It measures time,
// so no other test of this package runs beside it.
//
// No connection may suffer, ever. A gap that is too long, or a single frame that
// is lost, is another matter on a machine that is busy with something else: what
// the blows do to a call they do every time, what others do they do not, so the
// best of some calls counts, and it has neither.
func TestCallOutlivesEveryRestart(t *testing.T) {
	l := upInstallation(t)
	quiet := quietCall(t, l)
	first := l.readyStatus()
	for try := 1; ; try++ {
		report := struckCall(t, l, first)
		for _, complaint := range report.complaints() {
			t.Error(complaint)
		}
		blemishes := report.blemishes(quiet.longestGap() + slackMS)
		if t.Failed() || len(blemishes) == 0 {
			return
		}
		if try == tries {
			t.Fatalf("in each of %d calls; in the last, %s", tries, strings.Join(blemishes, ", "))
		}
		t.Logf("the call is made once more: %s", strings.Join(blemishes, ", "))
	}
}

// quietCall measures a call to which nothing happens.
func quietCall(t *testing.T, l *installation) callReport {
	t.Helper()
	c := startCall(t, "quiet", func(identity string) joinToken { return l.token("quiet", identity) })
	c.awaitFrames(undisturbed)
	report := c.end()
	for _, complaint := range report.complaints() {
		t.Fatalf("in an undisturbed call: %s", complaint)
	}
	return report
}

// struckCall measures a call during which every blow falls, one after the
// other, each when the one before is over.
func struckCall(t *testing.T, l *installation, first status) callReport {
	t.Helper()
	c := startCall(t, room, func(identity string) joinToken { return l.token(room, identity) })
	for i, b := range blows() {
		before := l.readyStatus()
		b.strike(l, t, before)
		var now status
		took := eventually(t, readyAgain, func() error {
			if now = l.status(); now.isReady() != nil {
				return fmt.Errorf("%s: %w", b.name, now.isReady())
			}
			return b.landed(before, now)
		})
		guest := joinOnce(t, l.token(room, fmt.Sprint("guest-", i)))
		t.Logf("%-32s status is ready %4d ms after, a new participant hears the call within %.0f ms", b.name, took.Milliseconds(), guest.HeardMS)
		checkMedia(t, b, first, before, now)
	}
	if missing := disturbed - c.sent(); missing > 0 {
		c.awaitFrames(missing)
	}
	return c.end()
}

// checkMedia fails the test unless livekit-server is the process it was at
// first, in its own group, and lk-backend was replaced exactly by its own kill.
func checkMedia(t *testing.T, b blow, first, before, now status) {
	t.Helper()
	was, is := first.livekit(), now.livekit()
	if was.PID != is.PID || was.PGID != is.PGID || is.PGID == 0 {
		t.Fatalf("%s: livekit-server was process %d in group %d, now it is %d in group %d", b.name, was.PID, was.PGID, is.PID, is.PGID)
	}
	if replaced := before.backend().PID != now.backend().PID; replaced != b.backend {
		t.Fatalf("%s: lk-backend was replaced: %v, which should be %v", b.name, replaced, b.backend)
	}
}

// blows are what every part of an installation but livekit-server gets.
func blows() []blow {
	var all []blow
	for i := range controlRestart {
		all = append(all, blow{
			name:   fmt.Sprintf("control plane restarted (%d)", i+1),
			strike: func(l *installation, t *testing.T, _ status) { l.must("service", controlUnit, "--restart") },
			landed: replaced(controlUnit),
		})
	}
	for _, unit := range []string{controlUnit, hostUnit, busUnit} {
		all = append(all, blow{
			name:   unit + " killed",
			strike: func(l *installation, t *testing.T, before status) { l.kill9(t, before.pid(unit)) },
			landed: replaced(unit),
		})
	}
	return append(all, blow{
		name:    "lk-backend killed",
		strike:  func(l *installation, t *testing.T, before status) { l.kill9(t, before.backend().PID) },
		landed:  func(before, now status) error { return differ("lk-backend", before.backend().PID, now.backend().PID) },
		backend: true,
	}, blow{
		name:   "supervisor killed",
		strike: func(l *installation, t *testing.T, before status) { l.kill9(t, before.Supervisor.PID) },
		landed: supervisorReplaced,
	}, blow{
		name:   "keeper killed",
		strike: func(l *installation, t *testing.T, before status) { l.kill9(t, before.Supervisor.KeeperPID) },
		landed: func(before, now status) error {
			return differ("the keeper", before.Supervisor.KeeperPID, now.Supervisor.KeeperPID)
		},
	}, blow{
		name: "supervisor and keeper killed, up",
		strike: func(l *installation, t *testing.T, before status) {
			l.kill9(t, before.Supervisor.KeeperPID)
			l.kill9(t, before.Supervisor.PID)
			l.must("up")
		},
		landed: supervisorReplaced,
	})
}

func supervisorReplaced(before, now status) error {
	return differ("the supervisor", before.Supervisor.PID, now.Supervisor.PID)
}

// replaced says that a service of one process has a new one.
func replaced(unit string) func(before, now status) error {
	return func(before, now status) error { return differ(unit, before.pid(unit), now.pid(unit)) }
}

func differ(what string, before, now int) error {
	if now == 0 || now == before {
		return fmt.Errorf("%s was process %d and is %d", what, before, now)
	}
	return nil
}
