//go:build linux

package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/matryer/is"
)

// FuzzLogbook reads whatever a program may write, and checks that every line is
// told once and fit to be told.
func FuzzLogbook(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nhalf"), int64(0))
	f.Add([]byte("\x1b[31mred\x1b[0m \xff\xfe\x00\n\r\n\u2028"), int64(3))
	f.Add(bytes.Repeat([]byte("long "), 60_000), int64(7))
	f.Fuzz(func(t *testing.T, text []byte, cut int64) {
		is := is.New(t)
		book := logbook(filepath.Join(t.TempDir(), "a.log"))
		is.NoErr(os.WriteFile(string(book), text, 0o600))
		is.NoErr(book.endLine())
		size := int64(len(text))
		if size > 0 && text[size-1] != '\n' {
			size++
		}
		lines, last := 0, int64(0)
		end, err := book.read(0, func(e entry) bool {
			is.True(e.end > last)
			last = e.end
			lines++
			is.True(utf8.ValidString(shown(e.text, shownLine, nil)))
			levelOf(e.text)
			return true
		})
		is.NoErr(err)
		is.Equal(end, size)
		is.Equal(lines, bytes.Count(text, []byte("\n"))+int(size)-len(text))

		if cut = min(max(cut, 0), size); cut > 0 {
			marks, err := book.forget(nil, cut)
			is.NoErr(err)
			first := marks[0].offset
			is.True(first >= cut)
			_, err = book.read(0, func(e entry) bool {
				is.True(e.end > first)
				return true
			})
			is.NoErr(err)
		}
		after, err := book.lastLines(1)
		is.NoErr(err)
		told := 0
		_, err = book.read(after, func(entry) bool { told++; return true })
		is.NoErr(err)
		is.True(told <= 1)
	})
}
