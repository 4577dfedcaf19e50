//go:build linux

package proc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
)

// findLine is how much of one line is looked at, in bytes.
const findLine = 64 << 10

// finder looks for lines in what a process has written. It reads every line
// once for each expression.
type finder struct {
	path string
	from int64 // where in the file the output of the process begins
	all  bool  // every expression has matched, in the life of another supervisor

	looked map[string]int64 // up to where; found: to the end of all
}

// found stands for a place behind every line.
const found = -1

// find reports whether a line has matched the expression since the process
// started.
func (f *finder) find(expression *regexp.Regexp) (bool, error) {
	if f.looked == nil {
		f.looked = map[string]int64{}
	}
	at, again := f.looked[expression.String()]
	if !again {
		at = f.from
	}
	if f.all || at == found {
		return true, nil
	}
	at, err := f.search(expression, at)
	if err != nil {
		return false, fmt.Errorf("read output: %w", err)
	}
	f.looked[expression.String()] = at
	return at == found, nil
}

// search looks at the whole lines from the offset on, and returns where it
// stopped.
func (f *finder) search(expression *regexp.Regexp, at int64) (int64, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return at, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return at, err
	}
	if info.Size() < at { // it has been cut since
		at = 0
	}
	lines := bufio.NewReaderSize(io.NewSectionReader(file, at, info.Size()-at), findLine)
	for {
		line, err := lines.ReadSlice('\n')
		rest := err
		begin := at + int64(len(line))
		for errors.Is(rest, bufio.ErrBufferFull) { // of a line this long the beginning has to do
			line = append([]byte(nil), line...)
			var more []byte
			more, rest = lines.ReadSlice('\n')
			begin += int64(len(more))
		}
		if errors.Is(rest, io.EOF) {
			return at, nil // half a line comes again, whole
		}
		if rest != nil {
			return at, rest
		}
		if expression.Match(bytes.TrimRight(line, "\r\n")) {
			return found, nil
		}
		at = begin
	}
}
