//go:build linux

package proc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// How the growth of output is noted.
const (
	markEvery = 100 * time.Millisecond // at most so often, which is how exact the time of a line is
	lookEvery = 50 * time.Millisecond  // while something grows; otherwise never
	ageEvery  = time.Hour              // for what is too old
)

// The bounds of what is kept of the output of an action.
const (
	defaultLogCap = 32 << 20            // bytes
	logAge        = 30 * 24 * time.Hour // since it was written
)

// scribe keeps the index of every logbook and forgets what is too much. It
// reads no output: nobody has to wait for it, and while it is not there only
// the times of lines are less exact.
type scribe struct {
	log     *slog.Logger
	limit   int64
	grown   *news // tells those who follow that there is more
	watcher *fsnotify.Watcher
	books   map[logbook]*notes
	said    map[string]bool
}

// notes are the ends of an index.
type notes struct{ first, last mark }

// newScribe returns a scribe that knows the output there is.
func newScribe(dir string, limit int64, grown *news, log *slog.Logger) (*scribe, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch output: %w", err)
	}
	s := &scribe{
		log: log, limit: cmp.Or(limit, defaultLogCap), grown: grown, watcher: watcher,
		books: map[logbook]*notes{}, said: map[string]bool{},
	}
	services, err := os.ReadDir(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch output: %w", err), watcher.Close())
	}
	for _, service := range services {
		if service.IsDir() {
			s.watch(filepath.Join(dir, service.Name()))
		}
	}
	return s, nil
}

// watch makes the scribe look after the output files in the folder. It may be
// called by any goroutine, again and again.
func (s *scribe) watch(dir string) {
	if err := s.watcher.Add(dir); err != nil {
		s.log.Warn("watch output: lines get no exact times", "folder", dir, "error", err)
	}
}

// run notes what grows until ctx ends.
func (s *scribe) run(ctx context.Context) error {
	defer s.watcher.Close()
	growing := map[logbook]bool{}
	for _, book := range s.all() {
		growing[book] = true // it may have, while there was no scribe
	}
	look, age := time.NewTimer(0), time.NewTicker(ageEvery)
	defer look.Stop()
	defer age.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			for book := range growing {
				if s.note(book, time.Now()) {
					delete(growing, book)
				}
			}
			s.grown.spread()
			if len(growing) == 0 {
				continue
			}
			if !sleep(ctx, lookEvery) { // meanwhile the kernel makes one of many changes
				return nil
			}
			look.Reset(0)
		case e, ok := <-s.watcher.Events:
			if !ok {
				return nil
			}
			if filepath.Ext(e.Name) == logSuffix && e.Has(fsnotify.Write|fsnotify.Create) {
				if len(growing) == 0 {
					look.Reset(0)
				}
				growing[logbook(e.Name)] = true
			}
		case err := <-s.watcher.Errors: // too many changes at once: any may have grown
			s.complain(err)
			for _, book := range s.all() {
				growing[book] = true
			}
			look.Reset(0)
		case <-age.C:
			for _, book := range s.all() {
				growing[book] = true
			}
			look.Reset(0)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// all are the logbooks in the folders that are watched.
func (s *scribe) all() []logbook {
	var books []logbook
	for _, dir := range s.watcher.WatchList() {
		files, _ := filepath.Glob(filepath.Join(dir, "*"+logSuffix)) // the pattern is good
		for _, f := range files {
			books = append(books, logbook(f))
		}
	}
	return books
}

// note marks how long the file is now, and forgets what is too much of it. It
// reports whether all is noted that there is.
func (s *scribe) note(book logbook, now time.Time) bool {
	info, err := os.Stat(string(book))
	if err != nil {
		delete(s.books, book)
		return true
	}
	n := s.known(book)
	if n == nil || info.Size() < n.last.offset { // new, or emptied by somebody
		n = &notes{first: mark{0, now}, last: mark{0, now}}
		s.books[book] = n
		s.complain(book.replace([]mark{n.first}))
	}
	grown := info.Size() > n.last.offset
	early := n.last != n.first && now.Sub(n.last.at) < markEvery
	if grown && !early {
		n.last = mark{info.Size(), now}
		s.complain(book.add(n.last))
	}
	s.cut(book, n, info.Size(), now)
	return !grown || !early
}

// known are the notes of a logbook, from its index at first; nil where it has
// none.
func (s *scribe) known(book logbook) *notes {
	if n := s.books[book]; n != nil {
		return n
	}
	marks, err := book.marks()
	s.complain(err)
	if len(marks) == 0 {
		return nil
	}
	n := &notes{marks[0], marks[len(marks)-1]}
	s.books[book] = n
	return n
}

// cut forgets what is too old or too much.
func (s *scribe) cut(book logbook, n *notes, size int64, now time.Time) {
	old, much := now.Sub(n.first.at) > logAge, size-n.first.offset > s.limit
	if !old && !much {
		return
	}
	marks, err := book.marks()
	if err != nil || len(marks) == 0 {
		s.complain(err)
		return
	}
	from := n.first.offset
	if much {
		from = size - s.limit/2
	}
	for _, m := range marks {
		if now.Sub(m.at) > logAge {
			from = max(from, m.offset)
		}
	}
	kept, err := book.forget(marks, from)
	if errors.Is(err, unix.EOPNOTSUPP) { // a file system that knows no holes
		kept = []mark{{0, now}}
		err = errors.Join(os.Truncate(string(book), 0), book.replace(kept))
	}
	s.complain(err)
	n.first, n.last = kept[0], kept[len(kept)-1]
}

// complain logs an error once.
func (s *scribe) complain(err error) {
	if err != nil && !s.said[err.Error()] {
		s.said[err.Error()] = true
		s.log.Warn("look after output", "error", err)
	}
}
