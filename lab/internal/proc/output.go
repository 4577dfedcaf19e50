//go:build linux

package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// The bounds of what is shown of a program's output, in bytes.
const (
	defaultLogCap = 32 << 20
	tailBytes     = 4 << 20  // of a file for its last lines
	quoteBytes    = 64 << 10 // of a file for its last line
	quoteLine     = 300      // of the last line
	shownLine     = 16 << 10 // of any line
)

// readEnd returns the last bytes of the file at path, at most limit of them
// and none before the offset from, beginning with a whole line.
func readEnd(path string, from, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if size < from { // it has been cut since
		from = 0
	}
	start := max(from, size-limit)
	b := make([]byte, size-start)
	n, err := f.ReadAt(b, start)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if b = b[:n]; start > from {
		_, b, _ = bytes.Cut(b, []byte("\n")) // half a line may be half a secret
	}
	return b, nil
}

// lastLine returns the last line that is not empty of what a process wrote
// since the offset from, fit to be read by people and by anyone: empty when
// there is none.
func lastLine(path string, from int64, values []string) string {
	b, err := readEnd(path, from, quoteBytes)
	if err != nil {
		return "" // nothing that could be quoted
	}
	for _, line := range slices.Backward(strings.Split(string(b), "\n")) {
		if line = shown(line, quoteLine, values); line != "" {
			return line
		}
	}
	return ""
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

// tail returns the last n lines of the file at path and of what was cut off
// it.
func tail(path string, n int, values []string) ([]string, error) {
	b, err := readEnd(path, 0, tailBytes)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}
	if bytes.Count(b, []byte("\n")) < n {
		if cut, err := readEnd(path+".1", 0, tailBytes); err == nil {
			b = slices.Concat(cut, b)
		}
	}
	text := strings.TrimSuffix(string(b), "\n")
	if text == "" {
		return nil, nil
	}
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, line := range lines {
		lines[i] = shown(line, shownLine, values)
	}
	return lines, nil
}

// cutLog empties the file at path once it is larger than limit, keeping what
// it held as ".1". Whoever writes to it goes on in the same file, whose writes
// append; what is written in the moment between copy and cut is lost.
func cutLog(path string, limit int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() <= limit {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cut output: %w", err)
	}
	from, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cut output: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1.tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cut output: %w", err)
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err == nil {
		err = os.Rename(path+".1.tmp", path+".1")
	}
	if err == nil {
		err = from.Truncate(0)
	}
	if err != nil {
		return fmt.Errorf("cut output: %w", err)
	}
	return nil
}
