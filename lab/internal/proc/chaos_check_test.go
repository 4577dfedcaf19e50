//go:build linux

package proc_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// slack is how long a process may take from its last line to its end.
const slack = 200 * time.Millisecond

// stint is what one process wrote.
type stint struct {
	me    string // its PID and the moment of its start
	pid   int
	lines int
	ended time.Time // zero: it was cut off
	code  int
}

// check compares what the processes wrote with what the supervisor told.
func (c *chaos) check() {
	c.t.Helper()
	checked := 0
	for who, lives := range c.lives {
		service, action, _ := strings.Cut(who, "/")
		stints := c.stints(service, action)
		for _, s := range stints {
			i := slices.IndexFunc(lives, func(l life) bool { return l.pid == s.pid })
			if i < 0 {
				c.untold(who, s)
				continue
			}
			for _, silent := range lives[:i] {
				c.compare(who, silent, nil)
			}
			c.compare(who, lives[i], &s)
			lives = lives[i+1:]
			checked++
		}
		for _, silent := range lives {
			c.compare(who, silent, nil)
		}
	}
	if checked == 0 {
		c.t.Error("nothing was checked")
	}
}

// untold judges a process of which nothing was told. That may be only when
// supervisor and keeper died between its start and the note of it, and it ended
// before there were others.
func (c *chaos) untold(who string, s stint) {
	c.t.Helper()
	c.total++
	c.unknown++
	if s.ended.IsZero() || !c.nobody(s.ended) {
		c.t.Errorf("%s: nothing was told of PID %d: %+v", who, s.pid, s)
	}
}

// compare compares how a process ended with what it said itself; nil says that
// it said nothing.
func (c *chaos) compare(who string, l life, s *stint) {
	c.t.Helper()
	c.total++
	code, signal := l.end.ExitCode, l.end.Signal
	ended := s != nil && !s.ended.IsZero()
	when := l.at
	if ended {
		when = s.ended
	}
	switch {
	case code == nil && signal == "":
		c.unknown++
		if !c.nobody(when) {
			c.t.Errorf("%s: how PID %d ended at %s is not known: %+v", who, l.pid, when, l.end)
		}
	case ended && (code == nil || *code != s.code):
		c.t.Errorf("%s: PID %d ended with %d, told was %+v", who, l.pid, s.code, l.end)
	case !ended && signal != "SIGTERM" && signal != "SIGKILL":
		c.t.Errorf("%s: PID %d was cut off, told was %+v", who, l.pid, l.end)
	case strings.HasPrefix(who, "crashing") && !ended && l.end.To != "inactive":
		c.t.Errorf("%s: PID %d was killed by somebody: %+v", who, l.pid, l.end)
	}
}

// nobody reports whether there was neither keeper nor supervisor then.
func (c *chaos) nobody(then time.Time) bool {
	for _, g := range c.gaps {
		if then.After(g.from.Add(-slack)) && then.Before(g.to) {
			return true
		}
	}
	return false
}

// stints reads the output of an action and checks that no line of it is
// missing, doubled or torn, and that no two processes wrote at the same time.
func (c *chaos) stints(service, action string) []stint {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.paths.Var("hero_proc"), "logs", service, action+".log"))
	c.is.NoErr(err)
	var list []stint
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.HasSuffix(line, "\n") {
			c.t.Errorf("%s/%s: torn line %q", service, action, line)
			continue
		}
		if len(list) == 0 || list[len(list)-1].me != words[0] {
			pid, _, _ := strings.Cut(words[0], ".")
			n, _ := strconv.Atoi(pid)
			list = append(list, stint{me: words[0], pid: n})
		}
		s := &list[len(list)-1]
		if len(words) == 4 && words[1] == "end" {
			s.code, _ = strconv.Atoi(words[2])
			nanos, _ := strconv.ParseInt(words[3], 10, 64)
			s.ended = time.Unix(0, nanos)
			continue
		}
		if words[1] != strconv.Itoa(s.lines) || !s.ended.IsZero() {
			c.t.Errorf("%s/%s: after %d lines of PID %d comes %q", service, action, s.lines, s.pid, line)
		}
		s.lines++
	}
	return list
}
