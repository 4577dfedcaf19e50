package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"
)

// derived are the files that configure makes, below the root.
var derived = []string{"var/hero_livekit_media/livekit.yaml", "var/hero_livekit_media/backend.env", "var/hero_livekit_media/runtime.json"}

// files reads the derived files.
func (l *installation) files() map[string]string {
	l.t.Helper()
	read := map[string]string{}
	for _, name := range derived {
		text, err := os.ReadFile(filepath.Join(l.root, name))
		if err != nil {
			l.t.Fatal(err)
		}
		read[name] = string(text)
	}
	return read
}

func TestUpAgainChangesNothing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := newInstallation(t)
	first := l.must("up")
	is.True(strings.Contains(first.stdout, "ready")) // it tells what it did
	before, files := l.readyStatus(), l.files()
	l.extraEnv = []string{"PATH=/opt/bin:" + os.Getenv("PATH"), "HTTPS_PROXY=http://nobody:word@127.0.0.1:1"} // another shell
	again := l.must("up")
	is.True(strings.Contains(again.stdout, "nothing to do"))
	after := l.readyStatus()
	sameMedia(t, before, after)
	for _, unit := range []string{busUnit, hostUnit, controlUnit} {
		is.Equal(before.pid(unit), after.pid(unit)) // the same process
	}
	is.Equal(before.Supervisor, after.Supervisor)
	is.Equal(before.Media.Revision, after.Media.Revision)
	is.Equal(files, l.files())
}

func TestUpTwiceAtTheSameTimeMakesOneOfEverything(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := newInstallation(t)
	outcomes := make([]outcome, 3)
	var running sync.WaitGroup
	for i := range outcomes {
		running.Go(func() { outcomes[i] = l.run("up", "--timeout", "2m") })
	}
	running.Wait()
	for _, o := range outcomes {
		o.expect(t, 0)
	}
	before, files := l.readyStatus(), l.files()
	counts := map[string]int{}
	for _, p := range processesBelow(l.root) {
		switch {
		case strings.Contains(p.command, "livekit-server"):
			counts["livekit-server"]++
		case strings.Contains(p.command, " lk-backend"):
			counts["lk-backend"]++
		default:
			counts["others"]++
		}
	}
	is.Equal(counts, map[string]int{"livekit-server": 1, "lk-backend": 1, "others": 5}) // keeper, supervisor, bus, host, control plane
	l.must("up")
	sameMedia(t, before, l.readyStatus())
	is.Equal(files, l.files())
}

func TestDamagedFileIsMadeAnewWithTheSameSecret(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	intact := l.files()
	damages := []struct {
		name string
		do   func(path string) error
	}{
		{"corrupted", func(path string) error { return os.WriteFile(path, []byte("\x00{: not what it was"), 0o600) }},
		{"emptied", func(path string) error { return os.Truncate(path, 0) }},
		{"deleted", os.Remove},
		{"opened to others", func(path string) error { return os.Chmod(path, 0o644) }},
	}
	for i, name := range derived {
		path := filepath.Join(l.root, name)
		for _, damage := range damages[:len(damages)-min(i, 1)] { // the mode once
			is.NoErr(damage.do(path))
			l.must("service", "livekit", "--restart")
			l.readyStatus()
			is.Equal(l.files(), intact) // consistent, with the same secret
			info, err := os.Stat(path)
			is.NoErr(err)
			is.Equal(info.Mode().Perm(), os.FileMode(0o600))
			t.Logf("%s %s: restarted and repaired", name, damage.name)
		}
	}
	l.token(room, "somebody") // and a token was accepted by readyStatus
}

func TestMediaAreNotStartedWithoutConfigure(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := newInstallation(t)
	folder := filepath.Join(l.root, filepath.Dir(derived[0]))
	is.NoErr(os.MkdirAll(filepath.Dir(folder), 0o755))
	is.NoErr(os.WriteFile(folder, nil, 0o600)) // a file where the folder should be: even root cannot write there
	l.run("up", "--timeout", "1m").expect(t, 1)
	s := l.status()
	is.True(!s.Ready)
	is.Equal(s.action(mediaUnit, "configure").State, "failed")
	is.True(strings.Contains(s.action(mediaUnit, "configure").Why, folder)) // it says what is wrong
	held := func() error {
		for _, name := range []string{"livekit-server", "lk-backend"} {
			a := l.status().action(mediaUnit, name)
			is.Equal(a.State, "waiting_deps")
			is.Equal(a.PID, 0)
			is.True(strings.Contains(a.Why, "configure"))
		}
		return nil
	}
	throughout(t, time.Second, held)
	is.Equal(l.run("status").code, 4)
	is.True(strings.Contains(l.run("status").stdout, folder)) // people are told, too

	is.NoErr(os.Remove(folder))
	l.must("service", "livekit", "--start")
	ready := l.readyStatus()
	is.Equal(ready.livekit().Restarts, 0) // it never ran before
	history := l.tail("--all")
	_, configured := history.await("that configure has succeeded", 0, func(e told) bool {
		return e.is("job.state_changed") && e.Data.Action == "configure" && e.Data.To == "succeeded"
	})
	started := history.find(0, func(e told) bool {
		return e.is("job.state_changed") && e.Data.Action != "configure" && e.Data.Service == mediaUnit && e.Data.PID != 0
	})
	is.True(started > configured) // nothing else of the media ran before
}
