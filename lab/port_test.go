package main_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestTakenPortIsLeftToItsHolder wants the preferred port for itself, so no
// other test of this package runs beside it.
func TestTakenPortIsLeftToItsHolder(t *testing.T) {
	is := is.New(t)
	preferred.letGo()
	t.Cleanup(preferred.hold) // after the installations are gone
	holder, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", preferredPort))
	if err == nil { // otherwise somebody else holds it, which does as well
		defer holder.Close()
	}
	l := upInstallation(t)
	port := portOf(t, l.readyStatus().Media.URL)
	is.True(port != preferredPort)
	if holder != nil {
		is.NoErr(answers(holder))
	}
	l.must("service", "livekit", "--restart")
	is.Equal(portOf(t, l.readyStatus().Media.URL), port) // once chosen, it is kept
}

// TestPortTakenWhileDownIsReplaced has others take the ports that were chosen
// and kept, while nobody of the installation could hold them.
func TestPortTakenWhileDownIsReplaced(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	before := l.readyStatus().Media
	l.must("down")
	taken := []string{before.URL, before.BackendURL}
	holders := make([]net.Listener, len(taken))
	for i, text := range taken {
		holder, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", portOf(t, text)))
		is.NoErr(err)
		defer holder.Close()
		holders[i] = holder
	}
	up := l.must("up", "--timeout", "30s")
	t.Logf("lab up took %s:\n%s", up.took.Round(time.Millisecond), up.stdout)
	is.True(up.took < 20*time.Second) // new ports are no reason to give up for long
	after := l.readyStatus().Media
	is.True(after.URL != before.URL)
	is.True(after.BackendURL != before.BackendURL)
	is.Equal(l.token(room, "somebody").URL, after.URL)
	for _, holder := range holders {
		is.NoErr(answers(holder))
	}
}

// TestInstallationsSideBySide brings up several at once, which all prefer the
// same ports; no other test of this package runs beside it.
func TestInstallationsSideBySide(t *testing.T) {
	is := is.New(t)
	preferred.letGo()
	t.Cleanup(preferred.hold) // after the installations are gone
	all := []*installation{newInstallation(t), newInstallation(t), newInstallation(t)}
	outcomes := make([]outcome, len(all))
	var running sync.WaitGroup
	for i, l := range all {
		running.Go(func() { outcomes[i] = l.run("up", "--timeout", "3m") })
	}
	running.Wait()
	urls := map[string]bool{}
	for i, l := range all {
		outcomes[i].expect(t, 0)
		urls[l.readyStatus().Media.URL] = true
	}
	is.Equal(len(urls), len(all)) // each has its own
}

func TestPinnedPortThatIsTakenIsAnError(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	holder, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	defer holder.Close()
	port := holder.Addr().(*net.TCPAddr).Port
	l := newInstallation(t)
	is.NoErr(os.MkdirAll(filepath.Join(l.root, "etc"), 0o755))
	is.NoErr(os.WriteFile(filepath.Join(l.root, "etc", "lab.toml"), fmt.Appendf(nil, "[livekit]\nport = %d\n", port), 0o644))

	got := l.run("up", "--timeout", "1m")
	got.expect(t, 1)
	for _, part := range []string{strconv.Itoa(port), strconv.Itoa(os.Getpid()), filepath.Base(os.Args[0])} {
		if !strings.Contains(got.stderr, part) {
			t.Errorf("the error does not name %s: %s", part, got.stderr)
		}
	}
	is.NoErr(answers(holder)) // nothing foreign was touched
	is.Equal(l.status().livekit().PID, 0)

	is.NoErr(holder.Close())
	l.must("up", "--timeout", "1m")
	is.Equal(portOf(t, l.readyStatus().Media.URL), port)
}

// portOf returns the port of a URL.
func portOf(t *testing.T, text string) int {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatalf("%q has no port", text)
	}
	return port
}

// answers returns nil when the listener still takes connections.
func answers(l net.Listener) error {
	accepted := make(chan error, 1)
	go func() {
		for { // probes of the product may have come before
			conn, err := l.Accept()
			if err != nil {
				accepted <- err
				return
			}
			if conn.Close(); conn.RemoteAddr() != nil {
				accepted <- nil
				return
			}
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	return <-accepted
}
