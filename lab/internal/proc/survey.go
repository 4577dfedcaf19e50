//go:build linux

package proc

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// survey looks at all that runs, once for many who want to know: a thousand
// processes that are stopped together cost few looks, not a thousand.
type survey struct {
	self, keeper int // PIDs, which are never killed

	mu    sync.Mutex
	began time.Time // of the last look
	last  scene
	jobs  map[int]carrier // what is known already of whose process is whose

	holding sync.Mutex
	held    map[int]bool // PIDs of the leaders that are held
}

// scene is what ran at one moment. Nobody changes it.
type scene struct {
	stats map[int]stat
	jobs  map[int]string // IDs by PID: of the processes that carry one in their environment
}

// carrier is a process that carries the ID of a job, which it never loses.
type carrier struct {
	ticks uint64
	job   string
}

// since returns a look that began at the given moment or later.
func (s *survey) since(t time.Time) (scene, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.began.Before(t) {
		return s.last, nil
	}
	began := time.Now()
	all, err := stats()
	if err != nil {
		return scene{}, err
	}
	carriers, jobs := map[int]carrier{}, map[int]string{}
	for pid, st := range all {
		b := s.jobs[pid]
		if b.job == "" || b.ticks != st.ticks {
			b = carrier{st.ticks, jobOf(pid)}
		}
		if b.job != "" {
			carriers[pid], jobs[pid] = b, b.job
		}
	}
	s.began, s.last, s.jobs = began, scene{all, jobs}, carriers
	return s.last, nil
}

// spares reports whether the process is never to be killed.
func (s *survey) spares(pid int) bool { return pid == s.self || pid == s.keeper }

// hold takes note that a leader is held, or is not any more.
func (s *survey) hold(pid int, held bool) {
	s.holding.Lock()
	defer s.holding.Unlock()
	if held {
		s.held[pid] = true
	} else {
		delete(s.held, pid)
	}
}

// clear reports that no child of this process that has ended can have left
// anything behind. What it leaves becomes a child of the keeper's first thread,
// so there is nothing if that has no child but this process and leaders. It
// takes one look, however much runs; where the kernel does not list children,
// it is never clear.
func (s *survey) clear() bool {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.keeper))
	return err == nil && s.knows(strings.Fields(string(children))) &&
		os.Getppid() == s.keeper // still, so that all this is true
}

func (s *survey) knows(pids []string) bool {
	s.holding.Lock()
	defer s.holding.Unlock()
	return !slices.ContainsFunc(pids, func(text string) bool {
		pid, err := strconv.Atoi(text)
		return err != nil || pid != s.self && !s.held[pid]
	})
}
