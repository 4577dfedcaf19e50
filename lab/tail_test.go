package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// told is an event as `lab events tail --json` prints it.
type told struct {
	Type    string `json:"type"`
	Subject string `json:"subject"`
	Data    struct {
		State    string `json:"state"`
		Revision uint64 `json:"revision"`
		Reason   string `json:"reason"`
		Service  string `json:"service"`
		Action   string `json:"action"`
		To       string `json:"to"`
		PID      int    `json:"pid"`
		Cached   bool   `json:"cached"`
	} `json:"data"`
}

// is reports whether the event is of the type, given without prefix and
// version.
func (e told) is(short string) bool { return e.Type == "tf.ourworld.hero."+short+".v1" }

// tail is a running `lab events tail`.
type tail struct {
	t  *testing.T
	mu sync.Mutex
	// text is what it printed, whole lines only.
	text   strings.Builder
	events []told
}

// tail watches the bus from now on, or with --all from its beginning. An event
// that is caused after it returns is not missed.
func (l *installation) tail(args ...string) *tail {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := l.command(ctx, append([]string{"events", "tail", "--json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	w := &tail{t: l.t}
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			w.add(lines.Bytes())
		}
	})
	l.t.Cleanup(func() {
		cancel()
		reading.Wait()
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			l.t.Errorf("lab events tail: %v", err)
		}
	})
	l.awaitTail(w)
	return w
}

// awaitTail publishes events that mean nothing until the tail shows one.
func (l *installation) awaitTail(w *tail) {
	l.t.Helper()
	eventually(l.t, 10*time.Second, func() error {
		l.must("events", "publish", "test.marked.v1", "--subject", "test", "--data", "{}")
		if w.find(0, func(e told) bool { return e.is("test.marked") }) < 0 {
			return errors.New("events are published but lab events tail does not show them")
		}
		return nil
	})
}

func (w *tail) add(line []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(line)
	w.text.WriteByte('\n')
	w.events = append(w.events, jsonLine[told](w.t, line))
}

// printed is all that it printed so far.
func (w *tail) printed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// seen is every event so far.
func (w *tail) seen() []told {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

// find returns the index of the first such event at or after from, or -1.
func (w *tail) find(from int, such func(told) bool) int {
	all := w.seen()
	if from > len(all) {
		return -1
	}
	if i := slices.IndexFunc(all[from:], such); i >= 0 {
		return from + i
	}
	return -1
}

// await waits for such an event at or after the index from, and returns it and
// its index.
func (w *tail) await(what string, from int, such func(told) bool) (told, int) {
	w.t.Helper()
	at := -1
	eventually(w.t, 20*time.Second, func() error {
		if at = w.find(from, such); at < 0 {
			return fmt.Errorf("no event says %s", what)
		}
		return nil
	})
	return w.seen()[at], at
}
