package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// callPlan is what a caller reads from its standard input.
type callPlan struct {
	URL    string `json:"url"`
	Room   string `json:"room"`
	Tokens struct {
		Publisher   string   `json:"publisher,omitempty"`
		Subscribers []string `json:"subscribers,omitempty"`
		Join        string   `json:"join,omitempty"`
	} `json:"tokens"`
	Seconds float64 `json:"seconds,omitempty"`
}

// callLine is any line that a caller writes.
type callLine struct {
	Event       string  `json:"event"`
	Error       string  `json:"error"`
	Sent        int     `json:"sent"`
	Missing     []int   `json:"missing"`
	ConnectedMS float64 `json:"connected_ms"`
	HeardMS     float64 `json:"heard_ms"`
	callReport
}

// callReport is what became of a call.
type callReport struct {
	Seconds float64 `json:"seconds"`
	Pace    struct {
		LatestMS     float64 `json:"latest_ms"`
		LongestGapMS float64 `json:"longest_send_gap_ms"`
	} `json:"pace"`
	Subscribers []struct {
		Identity     string  `json:"identity"`
		Received     int     `json:"received"`
		Lost         int     `json:"lost"`
		Duplicated   int     `json:"duplicated"`
		OutOfOrder   int     `json:"out_of_order"`
		Missing      []int   `json:"missing"` // the first frames that were lost
		Foreign      int     `json:"foreign"` // payloads that are no frames of ours
		LongestGapMS float64 `json:"longest_gap_ms"`
		SlowestMS    float64 `json:"slowest_ms"`
	} `json:"subscribers"`
	Participants []struct {
		Identity     string   `json:"identity"`
		Reconnecting int      `json:"reconnecting"`
		Reconnected  int      `json:"reconnected"`
		Disconnected int      `json:"disconnected"`
		Unsubscribed int      `json:"unsubscribed"`
		Left         []string `json:"left"`
	} `json:"participants"`
	Errors []string `json:"errors"`
}

// call is a call that is on: one who speaks and two who listen.
type call struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{}

	mu    sync.Mutex
	lines []callLine
}

// startCall makes a call in the room and returns once everybody hears the
// publisher. Token gets a join token for an identity.
func startCall(t *testing.T, room string, token func(identity string) joinToken) *call {
	t.Helper()
	if _, err := buildCaller(); err != nil { // before the tokens, which do not last for ever
		t.Fatal(err)
	}
	speaker := token("speaker")
	plan := callPlan{URL: speaker.URL, Room: room}
	plan.Tokens.Publisher = speaker.Token
	plan.Tokens.Subscribers = []string{token("listener-1").Token, token("listener-2").Token}
	c := startCaller(t, plan)
	eventually(t, 40*time.Second, func() error {
		if _, ok := c.line("started"); ok {
			return nil
		}
		return c.trouble("has not started")
	})
	return c
}

// joinOnce has one more participant join the call that is on, hear its
// publisher and leave.
func joinOnce(t *testing.T, token joinToken) callLine {
	t.Helper()
	plan := callPlan{URL: token.URL}
	plan.Tokens.Join = token.Token
	c := startCaller(t, plan)
	c.await(30 * time.Second)
	line, ok := c.line("joined")
	if !ok {
		t.Fatal(c.trouble("nobody new can join"))
	}
	return line
}

func startCaller(t *testing.T, plan callPlan) *call {
	t.Helper()
	caller, err := buildCaller()
	if err != nil {
		t.Fatal(err)
	}
	c := &call{t: t, cmd: exec.Command(caller), ended: make(chan struct{})}
	c.cmd.Env, c.cmd.Stderr = []string{"HOME=" + t.TempDir()}, os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go c.read(stdout)
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.ended
	})
	if err := json.NewEncoder(c.stdin).Encode(plan); err != nil {
		t.Fatalf("tell the caller what to do: %v", err)
	}
	return c
}

// read keeps the lines that the caller writes, until it ends.
func (c *call) read(stdout io.Reader) {
	defer close(c.ended)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var line callLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			line = callLine{Event: "failed", Error: err.Error()}
		}
		c.mu.Lock()
		c.lines = append(c.lines, line)
		c.mu.Unlock()
	}
	_ = c.cmd.Wait() // its last line says how it ended
}

// line returns the last line of that event.
func (c *call) line(event string) (callLine, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.lines) - 1; i >= 0; i-- {
		if c.lines[i].Event == event {
			return c.lines[i], true
		}
	}
	return callLine{}, false
}

// trouble is an error with what the caller said about it.
func (c *call) trouble(what string) error {
	failed, _ := c.line("failed")
	return fmt.Errorf("the call %s: %s", what, failed.Error)
}

// sent is how many frames count so far.
func (c *call) sent() int {
	line, _ := c.line("progress")
	return line.Sent
}

// awaitFrames lets the call go on for so many frames more.
func (c *call) awaitFrames(n int) {
	c.t.Helper()
	until := c.sent() + n
	eventually(c.t, time.Duration(n)*20*time.Millisecond+5*time.Second, func() error {
		if got := c.sent(); got < until {
			return fmt.Errorf("%d frames were sent, %d are awaited", got, until)
		}
		return nil
	})
}

// end ends the call and returns what became of it.
func (c *call) end() callReport {
	c.t.Helper()
	if _, err := io.WriteString(c.stdin, "stop\n"); err != nil {
		c.t.Fatalf("end the call: %v", err)
	}
	c.await(20 * time.Second)
	line, ok := c.line("report")
	if !ok {
		c.t.Fatal(c.trouble("has left no report"))
	}
	report := line.callReport
	for _, s := range report.Subscribers {
		c.t.Logf("%s: %.1f s, %d of %d frames, %d twice, %d out of order, longest gap %.1f ms (of the sender %.1f ms), slowest %.1f ms",
			s.Identity, report.Seconds, s.Received, s.Received+s.Lost, s.Duplicated, s.OutOfOrder, s.LongestGapMS, report.Pace.LongestGapMS, s.SlowestMS)
	}
	return report
}

// await waits until the caller has ended by itself.
func (c *call) await(within time.Duration) {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(within):
		c.t.Fatalf("the caller goes on after %s", within)
	}
}

// complaints judges a call as its participants would, but for what a busy
// machine does by itself: that is blemishes.
func (r callReport) complaints() []string {
	found := append([]string{}, r.Errors...)
	for _, s := range r.Subscribers {
		if s.Lost > strayFrames || s.Duplicated != 0 || s.OutOfOrder != 0 {
			found = append(found, fmt.Sprintf("%s lost %d frames %v and got %d that nobody sent, heard %d twice and %d late",
				s.Identity, s.Lost, s.Missing, s.Foreign, s.Duplicated, s.OutOfOrder))
		}
	}
	for _, p := range r.Participants {
		if p.Reconnecting+p.Reconnected+p.Disconnected+p.Unsubscribed+len(p.Left) != 0 {
			found = append(found, fmt.Sprintf("%s reconnected %d times of %d, was disconnected %d times, lost %d tracks and saw %v leave",
				p.Identity, p.Reconnected, p.Reconnecting, p.Disconnected, p.Unsubscribed, p.Left))
		}
	}
	return found
}

// strayFrames is how many frames a call may lose without being beyond repair.
const strayFrames = 1

// blemishes tells of stray frames that were lost, and of gaps between two frames
// that are longer than allowed, in milliseconds. While the sender itself is held
// up there is nothing to hear.
func (r callReport) blemishes(allowed float64) []string {
	var found []string
	allowed = max(allowed, r.Pace.LongestGapMS+slackMS)
	for _, s := range r.Subscribers {
		if s.Lost > 0 {
			found = append(found, fmt.Sprintf("%s lost the frames %v", s.Identity, s.Missing))
		}
		if s.LongestGapMS > allowed {
			found = append(found, fmt.Sprintf("%s heard nothing for %.1f ms, at most %.1f ms are allowed", s.Identity, s.LongestGapMS, allowed))
		}
	}
	return found
}

// longestGap is the worst that any subscriber had, in milliseconds.
func (r callReport) longestGap() float64 {
	longest := 0.0
	for _, s := range r.Subscribers {
		longest = max(longest, s.LongestGapMS)
	}
	return longest
}
