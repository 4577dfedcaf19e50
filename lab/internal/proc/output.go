//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// The bounds of what is shown of a program's output, in bytes.
const (
	tailBytes = 4 << 20  // of a file for its last lines
	quoteLine = 300      // of a line in the reason of a failure
	shownLine = 16 << 10 // of any line
)

// quoted is how many lines are looked at for last words.
const quoted = 50

// lastLine returns the last line that is not empty of what a process wrote
// since the offset from, fit to be read by people and by anyone: empty when
// there is none.
func (b logbook) lastLine(from int64, values []string) string {
	after, err := b.lastLines(quoted)
	if err != nil {
		return "" // nothing that could be quoted
	}
	last := ""
	_, _ = b.read(max(from, after), func(e entry) bool {
		if line := shown(e.text, quoteLine, values); line != "" {
			last = line
		}
		return true
	})
	return last
}

// endLine ends the line that a process has left half written, so that the next
// does not go on in it.
func (b logbook) endLine() error {
	f, err := os.OpenFile(string(b), os.O_APPEND|os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end output: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	if _, err := f.WriteString("\n"); err != nil {
		return fmt.Errorf("end output: %w", err)
	}
	return nil
}

// shown returns a line as it may be shown.
func shown(line string, limit int, values []string) string {
	line = strings.TrimSpace(redact(plain(line), values))
	if len(line) <= limit {
		return line
	}
	line = line[:limit]
	for !utf8.ValidString(line) {
		line = line[:len(line)-1]
	}
	return line + "…"
}

// fit returns a text as it may be shown to anyone.
func (s *supervisor) fit(ctx context.Context, text string) string {
	values, err := s.store.secretValues(ctx)
	if err != nil {
		return blot // without the values nothing can be looked for
	}
	return shown(text, quoteLine, values)
}
