//go:build linux

package proc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// logbook is what an action has written: the file that its processes append to,
// which is the truth, and beside it an index that says when it grew and where
// it begins. What is no longer kept is a hole at the beginning of the file. So
// an offset in it names one place for good: no line is lost, doubled or moved
// by whatever happens to those who read.
type logbook string

// mark says how long the file was at a moment. The first mark of an index is
// where the file begins.
type mark struct {
	offset int64
	at     time.Time
}

func (b logbook) index() string { return string(b) + ".index" }

// marks reads the index; none where the file is new. Half a mark, of a
// supervisor that died over it, is none.
func (b logbook) marks() ([]mark, error) {
	text, err := os.ReadFile(b.index())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read index of output: %w", err)
	}
	var marks []mark
	for line := range bytes.Lines(text) {
		first, second, _ := strings.Cut(string(line), " ")
		offset, err1 := strconv.ParseInt(first, 10, 64)
		millis, err2 := strconv.ParseInt(strings.TrimSuffix(second, "\n"), 10, 64)
		if err1 == nil && err2 == nil && offset >= 0 && strings.HasSuffix(second, "\n") {
			marks = append(marks, mark{offset, time.UnixMilli(millis)})
		}
	}
	return marks, nil
}

// begin is the offset of the first byte that is kept.
func begin(marks []mark) int64 {
	if len(marks) == 0 {
		return 0
	}
	return marks[0].offset
}

// add appends a mark to the index.
func (b logbook) add(m mark) error {
	f, err := os.OpenFile(b.index(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("note growth of output: %w", err)
	}
	_, err = fmt.Fprintf(f, "%d %d\n", m.offset, m.at.UnixMilli())
	return errors.Join(err, f.Close())
}

// replace writes a new index, whole or not at all.
func (b logbook) replace(marks []mark) error {
	var text strings.Builder
	for _, m := range marks {
		fmt.Fprintf(&text, "%d %d\n", m.offset, m.at.UnixMilli())
	}
	if err := renameio.WriteFile(b.index(), []byte(text.String()), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write index of output: %w", err)
	}
	return nil
}

// forget keeps nothing of the file before the first line that begins at the
// offset or behind it. The index says so first, then the space is given back.
func (b logbook) forget(marks []mark, offset int64) ([]mark, error) {
	f, err := os.OpenFile(string(b), os.O_RDWR, 0)
	if err != nil {
		return marks, fmt.Errorf("cut output: %w", err)
	}
	defer f.Close()
	offset, err = nextLine(f, offset)
	if err != nil {
		return marks, fmt.Errorf("cut output: %w", err)
	}
	kept := []mark{{offset, time.Now()}}
	for _, m := range marks {
		if m.offset > offset {
			kept = append(kept, m)
		} else {
			kept[0].at = m.at
		}
	}
	if err := b.replace(kept); err != nil {
		return marks, err
	}
	const block = 4096
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, max(offset/block*block, block))
	if err != nil {
		return kept, fmt.Errorf("give back the space of old output: %w", err)
	}
	return kept, nil
}

// nextLine is where the first line begins at the offset or behind it; the end
// of the file when there is none.
func nextLine(f *os.File, offset int64) (int64, error) {
	if offset == 0 {
		return 0, nil
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	at := offset - 1 // the offset may itself follow a line's end
	lines := bufio.NewReaderSize(io.NewSectionReader(f, at, info.Size()-at), 64<<10)
	for {
		part, err := lines.ReadSlice('\n')
		at += int64(len(part))
		switch {
		case err == nil:
			return at, nil
		case errors.Is(err, io.EOF):
			return at, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return 0, err
		}
	}
}

// entry is one line of output.
type entry struct {
	end  int64 // offset behind it
	at   time.Time
	text string // at most shownLine bytes, as it was written
}

// read calls each for the whole lines behind the offset, in order, until each
// returns false or there are no more, and returns the offset behind the last.
func (b logbook) read(after int64, each func(entry) bool) (int64, error) {
	f, err := os.Open(string(b))
	if errors.Is(err, os.ErrNotExist) {
		return after, nil
	}
	if err != nil {
		return after, fmt.Errorf("read output: %w", err)
	}
	defer f.Close()
	marks, err := b.marks()
	if err != nil {
		return after, err
	}
	info, err := f.Stat()
	if err != nil {
		return after, fmt.Errorf("read output: %w", err)
	}
	at := max(after, begin(marks))
	if at > info.Size() { // somebody has emptied it
		at = 0
	}
	lines := bufio.NewReaderSize(io.NewSectionReader(f, at, info.Size()-at), 64<<10)
	for {
		text, size, err := oneLine(lines)
		if errors.Is(err, io.EOF) {
			return at, nil // half a line comes again, whole
		}
		if err != nil {
			return at, fmt.Errorf("read output: %w", err)
		}
		at += size
		for len(marks) > 1 && marks[0].offset < at {
			marks = marks[1:]
		}
		e := entry{end: at, at: info.ModTime(), text: text}
		if len(marks) > 0 && marks[0].offset >= at {
			e.at = marks[0].at
		}
		if !each(e) {
			return at, nil
		}
	}
}

// oneLine reads a line, of which no more than the beginning is returned, and
// how long it is.
func oneLine(lines *bufio.Reader) (text string, size int64, err error) {
	part, err := lines.ReadSlice('\n')
	text, size = string(part[:min(len(part), shownLine)]), int64(len(part))
	for errors.Is(err, bufio.ErrBufferFull) {
		part, err = lines.ReadSlice('\n')
		size += int64(len(part))
	}
	return strings.TrimRight(text, "\r\n"), size, err
}

// lastLines is the offset before the last n lines; before fewer, where they
// would be more than tailBytes.
func (b logbook) lastLines(n int) (int64, error) {
	f, err := os.Open(string(b))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read output: %w", err)
	}
	defer f.Close()
	marks, err := b.marks()
	if err != nil {
		return 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("read output: %w", err)
	}
	first := begin(marks)
	if first > size {
		first = 0
	}
	floor, err := nextLine(f, max(first, size-tailBytes))
	if err != nil {
		return 0, fmt.Errorf("read output: %w", err)
	}
	chunk := make([]byte, 64<<10)
	for at := size; at > floor; {
		part := chunk[:min(int64(len(chunk)), at-floor)]
		at -= int64(len(part))
		if _, err := f.ReadAt(part, at); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read output: %w", err)
		}
		for i := len(part) - 1; i >= 0; i-- {
			if part[i] != '\n' {
				continue
			}
			if n--; n < 0 {
				return at + int64(i) + 1, nil
			}
		}
	}
	return floor, nil
}
