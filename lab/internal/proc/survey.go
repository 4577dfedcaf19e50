//go:build linux

package proc

import (
	"slices"
	"sync"
	"time"
)

// survey looks at all that runs, once for many who want to know: a thousand
// processes that are stopped together cost few looks, not a thousand.
type survey struct {
	spare []int // PIDs that are never killed: the supervisor's and the keeper's

	mu    sync.Mutex
	began time.Time // of the last look
	last  scene
	jobs  map[int]carrier // what is known already of whose process is whose
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
func (s *survey) spares(pid int) bool {
	return slices.Contains(s.spare, pid)
}
