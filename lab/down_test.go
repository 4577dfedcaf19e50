package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

func TestDownLeavesNothingAndUpIsQuick(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	files := l.files()
	is.True(len(processesBelow(l.root)) > 0) // the test can tell
	is.True(len(socketsBelow(t, l.root)) > 0)
	down := l.must("down")
	for _, p := range processesBelow(l.root) {
		t.Errorf("lab down left process %s", p)
	}
	for _, socket := range socketsBelow(t, l.root) {
		t.Errorf("lab down left somebody listening on %s", socket)
	}
	is.Equal(len(filesOfSockets(l.root)), 0)
	is.Equal(l.run("status").code, 4)
	is.True(strings.Contains(l.must("down").stdout, "nothing")) // again is harmless

	up := l.must("up", "--timeout", "1m")
	is.True(!strings.Contains(up.stdout, "acquired by")) // what is in the store is used
	is.True(up.took < 20*time.Second)                    // ready in seconds, even on a busy machine
	l.readyStatus()
	is.Equal(l.files(), files) // same ports, same secret
	l.must("down")

	m := newHandMade(t)
	begun := time.Now()
	m.start(t, m.binary, "--config", m.config)
	m.awaitReady(t)
	byHand := time.Since(begun)
	t.Logf("lab down %s, lab up %s: %.1f times a livekit-server started by hand, %s",
		down.took.Round(time.Millisecond), up.took.Round(time.Millisecond), up.took.Seconds()/byHand.Seconds(), byHand.Round(time.Millisecond))
}

func TestDownLetsCallsEnd(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	c := startCall(t, room, func(identity string) joinToken { return l.token(room, identity) })
	media := l.readyStatus().livekit().PID
	done := make(chan outcome, 1)
	go func() { done <- l.run("down") }()
	eventually(t, 10*time.Second, func() error {
		s := l.status()
		if s.Supervisor == nil || s.pid(controlUnit) != 0 || s.livekit().State != "stopping" {
			return fmt.Errorf("the control plane is process %d and livekit-server is %s", s.pid(controlUnit), s.livekit().State)
		}
		return nil
	})
	c.awaitFrames(150)
	is.True(alive(media))
	s := l.status()
	is.Equal(s.Media.State, "draining")
	is.True(s.Media.Participants >= 3)
	is.Equal(c.end().complaints(), []string{}) // it ended when they wanted
	got := <-done
	got.expect(t, 0)
	is.True(strings.Contains(got.stdout, "draining, 3 participants")) // it says what it waits for
}

func TestDownByForceEndsCalls(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	c := startCall(t, room, func(identity string) joinToken { return l.token(room, identity) })
	got := l.must("down", "--force")
	is.True(got.took < 30*time.Second)
	is.Equal(len(processesBelow(l.root)), 0)
	is.True(len(c.end().complaints()) > 0)
}
