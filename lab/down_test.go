package main_test

import (
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

	up := l.must("up")
	is.True(!strings.Contains(up.stdout, "acquired by")) // what is in the store is used
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
