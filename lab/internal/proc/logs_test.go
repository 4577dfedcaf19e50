//go:build linux

package proc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// TestFloodIsBounded has a process write far more than is kept.
func TestFloodIsBounded(t *testing.T) {
	t.Parallel()
	h := newHero(t)
	h.logCap = "100000"
	h.keep()
	const lines = 300_000
	h.set("s", play("a", "flood", strconv.Itoa(lines)))
	last := strconv.Itoa(lines)
	h.says("s", "a", last, 1)
	h.until("the space is given back", func() bool {
		info, err := os.Stat(filepath.Join(h.paths.Var("hero_proc"), "logs", "s", "a.log"))
		h.is.NoErr(err)
		return info.Sys().(*syscall.Stat_t).Blocks*512 <= 110_000
	})
	got, err := h.LogLines(t.Context(), procclient.LogQuery{Service: "s", Action: "a", After: -1, Limit: 5000})
	h.is.NoErr(err)
	first, err := strconv.Atoi(got[0].Text)
	h.is.NoErr(err)
	for i, line := range got {
		h.is.Equal(line.Text, strconv.Itoa(first+i)) // what is kept is kept whole
	}
	h.is.Equal(got[len(got)-1].Text, last)
}

// TestFollowerMissesNothing follows a process whose supervisor dies again and
// again.
func TestFollowerMissesNothing(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.set("s", play("a", "chatty"))
	h.reaches("s", "a", plugin.Running)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan int)
	done := make(chan error)
	go func() {
		next := 0
		done <- h.Follow(ctx, procclient.LogQuery{Service: "s", Action: "a"}, func(line procclient.LogLine) error {
			if want := fmt.Sprint("line ", next); line.Text != want {
				return fmt.Errorf("got %q, want %q", line.Text, want)
			}
			next++
			select {
			case seen <- next:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	await := func(n int) {
		for deadline := time.After(patience); ; {
			select {
			case at := <-seen:
				if at >= n {
					return
				}
			case err := <-done:
				t.Fatal(err)
			case <-deadline:
				t.Fatal("nothing comes any more")
			}
		}
	}
	for i := range 5 {
		await((i + 1) * 50)
		h.is.NoErr(syscall.Kill(h.info().PID, syscall.SIGKILL))
	}
	await(400)
	cancel()
	h.is.NoErr(<-done)
}

func TestLinesHaveTimeAndLevel(t *testing.T) {
	t.Parallel()
	h := up(t)
	begun := time.Now().Add(-time.Millisecond)
	h.set("s", oneshot(play("a", "exit", "0", `{"level":"WARN"} one`)))
	h.reaches("s", "a", plugin.Succeeded)
	got, err := h.LogLines(t.Context(), procclient.LogQuery{Service: "s", Action: "a"})
	h.is.NoErr(err)
	h.is.Equal(len(got), 2)
	h.is.Equal(got[0].Text, `{"level":"WARN"} one`)
	h.is.Equal(got[0].Level, "warn")
	h.is.Equal(got[1].Level, "")
	for _, line := range got {
		h.is.True(line.Time.After(begun.Truncate(time.Millisecond)) && line.Time.Before(time.Now().Add(time.Millisecond)))
	}
	rest, err := h.LogLines(t.Context(), procclient.LogQuery{Service: "s", Action: "a", After: got[0].Pos})
	h.is.NoErr(err)
	h.is.Equal(rest, got[1:])
	_, err = h.LogLines(t.Context(), procclient.LogQuery{Service: "s", Action: "nothing"})
	h.is.True(errors.Is(err, plugin.ErrNotFound))
}

// TestHalfALineIsEnded has a process die in the midst of a line.
func TestHalfALineIsEnded(t *testing.T) {
	t.Parallel()
	h := up(t)
	a := plugin.Action{Name: "a", Command: []string{"/bin/sh", "-c", "printf half; exit 1"}, MaxRestarts: 2, RestartDelayMS: 1}
	h.set("s", a)
	h.is.Equal(h.reaches("s", "a", plugin.Failed).Why, "exited 1: half (given up after 2 restarts)")
	h.is.Equal(h.count("s", "a", "half"), 3)
}

func TestOutputOutlivesTheSupervisor(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.set("s", oneshot(play("a", "exit", "0", "kept")))
	h.says("s", "a", "kept", 1)
	h.is.NoErr(h.Shutdown(t.Context(), false))
	h.until("it has ended", func() bool { return len(h.left()) == 0 })
	h.keep()
	h.says("s", "a", "kept", 2) // the oneshot of a wanted service runs again
}
