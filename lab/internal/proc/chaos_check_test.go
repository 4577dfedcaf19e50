//go:build linux

package proc_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
)

// inquiry is how long it may take from the end of a process until that is told.
const inquiry = 4 * time.Second

// stint is what one process wrote.
type stint struct {
	me    string // its PID and the moment of its start
	pid   int
	lines int
	ended time.Time // zero: it was cut off
	code  int
}

// life is what the supervisor told of one process.
type life struct {
	pid  int
	over bool
	end  events.JobState // once it is over
	at   time.Time       // of the end
}

// note takes down what the supervisor tells.
func (c *chaos) note(seq int64, at time.Time, e events.JobState) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq = seq
	who := e.Service + "/" + e.Action
	lives := c.lives[who]
	living := len(lives) > 0 && !lives[len(lives)-1].over
	switch {
	case e.PID != 0 && !living:
		c.lives[who] = append(lives, life{pid: e.PID})
	case e.PID != 0 && lives[len(lives)-1].pid != e.PID:
		c.t.Errorf("%s became PID %d: no end was told of PID %d", who, e.PID, lives[len(lives)-1].pid)
	case e.PID == 0 && living:
		last := &lives[len(lives)-1]
		last.over, last.end, last.at = true, e, at
	}
	return nil
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
				c.unseen(who, s)
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

// unseen judges a process of which nothing was told. That may be only when it
// was started in the last moment of a supervisor, which had no time to write
// down its PID, and ended before the next one could look for it.
func (c *chaos) unseen(who string, s stint) {
	c.t.Helper()
	c.total++
	c.untold++
	if s.ended.IsZero() || !within(c.outages, s.ended, s.ended) {
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
	when := l.at.Add(-inquiry)
	if ended {
		when = s.ended
	}
	switch {
	case code == nil && signal == "":
		c.unknown++
		if !within(c.gaps, when, l.at) {
			c.t.Errorf("%s: how PID %d ended at %s is not known: %+v", who, l.pid, when.Format(clock), l.end)
		}
	case ended && (code == nil || *code != s.code):
		c.t.Errorf("%s: PID %d ended with %d, told was %+v", who, l.pid, s.code, l.end)
	case !ended && signal != "SIGTERM" && signal != "SIGKILL":
		c.t.Errorf("%s: PID %d was cut off, told was %+v", who, l.pid, l.end)
	case strings.HasPrefix(who, "crashing") && s != nil && !ended && l.end.To != "inactive":
		c.t.Errorf("%s: PID %d was killed by somebody at %s: %+v", who, l.pid, when.Format(clock), l.end)
	}
}

// within reports whether a moment between these is in one of the spans.
func within(spans []span, from, to time.Time) bool {
	for _, s := range spans {
		if to.After(s.from) && from.Before(s.to) {
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
