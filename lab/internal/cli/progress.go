package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar shows the progress of an acquisition: a bar on a terminal, elsewhere a
// line at every step and now and then in between. The zero value is ready.
type bar struct {
	shown *progressbar.ProgressBar
	step  string
	next  time.Time
}

// lineEvery is how often a long step writes a line where there is no terminal.
const lineEvery = 15 * time.Second

func (b *bar) show(w io.Writer, p events.AcquireProgress) {
	if p.Step == "skipped" {
		b.done()
		fmt.Fprintf(w, "%-20s %s: passed over: %s\n", p.Binary, p.Source, p.Detail)
		return
	}
	what := fmt.Sprintf("%-20s %s: %s", p.Binary, p.Source, p.Step)
	if !isTerminal(w) {
		if now := time.Now(); what != b.step || now.After(b.next) {
			fmt.Fprintln(w, what, amount(p))
			b.step, b.next = what, now.Add(lineEvery)
		}
		return
	}
	if what != b.step {
		b.done()
		b.step = what
		b.shown = newBar(w, what, p.Total)
	}
	if p.Total > 0 {
		_ = b.shown.Set64(p.Bytes) // a terminal that cannot be drawn on is no reason to stop
		return
	}
	b.shown.Describe(what + " " + amount(p))
	_ = b.shown.Add(1)
}

func newBar(w io.Writer, what string, total int64) *progressbar.ProgressBar {
	if total <= 0 {
		return progressbar.NewOptions(-1, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
			progressbar.OptionSpinnerType(14), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
}

// done takes the bar off the terminal.
func (b *bar) done() {
	if b.shown != nil {
		_ = b.shown.Finish()
	}
	b.shown, b.step = nil, ""
}

func amount(p events.AcquireProgress) string {
	switch {
	case p.Total > 0:
		return fmt.Sprintf("%.1f of %.1f MB %s", float64(p.Bytes)/1e6, float64(p.Total)/1e6, p.Detail)
	case p.Bytes > 0:
		return fmt.Sprintf("%.1f MB %s", float64(p.Bytes)/1e6, p.Detail)
	}
	return p.Detail
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
