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

const jobs = `
[[job]]
name = "after"
command = ["sh", "-c", "echo after >> order"]
depends_on = ["call"]

[[job]]
name = "call"
command = ["sh", "-c", "echo call >> order; exec \"$LAB\" token --room r --identity i --json >/dev/null"]
env = { LAB = "%LAB%" }
depends_on = ["before"]
needs = ["livekit"]

[[job]]
name = "before"
command = ["sh", "-c", "echo before >> order"]
`

func TestJobsWaitForEachOtherAndForLiveKit(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	l.must("service", "livekit", "--stop")
	folder := t.TempDir()
	file, order := filepath.Join(folder, "jobs.toml"), filepath.Join(folder, "order")
	is.NoErr(os.WriteFile(file, []byte(strings.ReplaceAll(jobs, "%LAB%", l.lab)), 0o644))
	ran := func() string {
		text, _ := os.ReadFile(order) // it is not there before the first job
		return string(text)
	}

	done := make(chan outcome, 1)
	go func() { done <- l.run("job", "run", file) }()
	eventually(t, 10*time.Second, func() error { return expectText(ran(), "before\n") })
	throughout(t, time.Second, func() error { return expectText(ran(), "before\n") }) // LiveKit is not there
	l.must("service", "livekit", "--start")
	got := <-done
	got.expect(t, 0)
	is.NoErr(expectText(ran(), "before\ncall\nafter\n"))
	is.True(strings.Contains(got.stdout, "waits until livekit is ready"))
}

func TestJobsAfterAFailedOneAreNotRun(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := bareInstallation(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "jobs.toml")
	is.NoErr(os.WriteFile(file, []byte(`
[[job]]
name = "good"
command = ["true"]

[[job]]
name = "bad"
command = ["sh", "-c", "exit 3"]

[[job]]
name = "after"
command = ["touch", "ran"]
depends_on = ["good", "bad"]
`), 0o644))
	got := l.run("job", "run", file)
	got.expect(t, 1)
	is.True(strings.Contains(got.stderr, "bad"))
	_, err := os.Stat(filepath.Join(folder, "ran"))
	is.True(os.IsNotExist(err))
}

func expectText(got, want string) error {
	if got != want {
		return fmt.Errorf("got %q, expected %q", got, want)
	}
	return nil
}
