// Command caller makes a real WebRTC call and tells what became of it, so that
// a test can judge whether something it did meanwhile was noticed by callers.
//
// # Contract
//
// The first line of standard input is a [plan] in JSON; tokens come that way
// only, so they are never among the arguments of a process. Standard output is
// one JSON object per line, each with an "event":
//
//	started   everybody is in the room and hears the publisher: the measurement begins
//	progress  twice a second: how many frames were sent, heard and are missing
//	report    the end of a call: see [report]
//	joined    the end of a plan that only joins: see [joined]
//	failed    there was no call to measure, and why
//
// A call lasts as long as the plan says, and ends earlier with a line "stop",
// with the end of standard input, or with SIGINT or SIGTERM: each of them ends
// it with a report. The exit code is 0 when the last line is a report or
// joined, even if that tells of nothing but losses; it is 1 otherwise.
//
// # What is measured
//
// The publisher sends a numbered Opus frame every 20 ms, by the clock. Frames
// count from the moment everybody hears the publisher, and up to the last one
// sent before the end; frames sent later, for one second at most, only give
// the last ones the time to arrive. So neither edge of a call is a loss.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/livekit/protocol/logger"
	lksdk "github.com/livekit/server-sdk-go/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdin, os.Stdout); err != nil {
		os.Exit(1)
	}
}

// plan is what a caller is to do.
type plan struct {
	URL    string `json:"url"`  // where clients connect, "ws://HOST:PORT"
	Room   string `json:"room"` // for the report; the tokens decide
	Tokens tokens `json:"tokens"`

	Seconds float64 `json:"seconds"` // how long the call lasts once it has started; 0: until it is stopped
	Frames  int     `json:"frames"`  // of a join: how many frames to hear before leaving; default 10
}

// tokens are the join tokens. With Join alone the plan is to join once, hear
// the publisher who is there already, and leave.
type tokens struct {
	Publisher   string   `json:"publisher"`
	Subscribers []string `json:"subscribers"`
	Join        string   `json:"join"`
}

// run reads the plan, carries it out and writes what comes of it.
func run(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	out := &output{to: json.NewEncoder(stdout)}
	lksdk.SetLogger(logger.LogRLogger(logr.Discard())) // it would quote URLs with tokens
	lines := bufio.NewReader(stdin)
	p, err := readPlan(lines)
	if err != nil {
		return out.fail(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a read of standard input cannot be interrupted: it ends with the process
		defer cancel()
		for {
			line, err := lines.ReadString('\n')
			if err != nil || strings.TrimSpace(line) == "stop" {
				return
			}
		}
	}()
	if p.Tokens.Join != "" {
		err = join(ctx, p, out)
	} else {
		err = call(ctx, p, out)
	}
	if err != nil {
		return out.fail(errors.New(p.redact(err.Error())))
	}
	return nil
}

func readPlan(r *bufio.Reader) (plan, error) {
	var p plan
	line, err := r.ReadBytes('\n')
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		return p, fmt.Errorf("read plan: %w", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(line)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return p, fmt.Errorf("read plan: %w", err)
	}
	whole := p.Tokens.Publisher != "" && len(p.Tokens.Subscribers) > 0
	if p.URL == "" || whole == (p.Tokens.Join != "") {
		return p, errors.New("read plan: a url is needed, and tokens either of a publisher and subscribers or of a join")
	}
	if p.Frames <= 0 {
		p.Frames = 10
	}
	return p, nil
}

// redact takes the tokens out of a message.
func (p plan) redact(text string) string {
	for _, token := range append([]string{p.Tokens.Publisher, p.Tokens.Join}, p.Tokens.Subscribers...) {
		if token != "" {
			text = strings.ReplaceAll(text, token, "[token]")
		}
	}
	return text
}

// output writes one JSON object per line, from any goroutine.
type output struct {
	mu sync.Mutex
	to *json.Encoder
}

func (o *output) write(v any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.to.Encode(v) // a test that went away needs no report
}

func (o *output) fail(err error) error {
	o.write(map[string]string{"event": "failed", "error": err.Error()})
	return err
}

// millis is how times are reported: in milliseconds, to a tenth.
func millis(d time.Duration) float64 { return float64(d.Round(100*time.Microsecond)) / 1e6 }
