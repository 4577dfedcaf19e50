package main

import (
	"sync"
	"time"
)

// arrival is one frame as it reached a subscriber.
type arrival struct {
	seq      uint64
	sent, at time.Time
}

// tally is what one subscriber heard, in the order of arrival. The zero value
// is ready for use, from any goroutine.
type tally struct {
	mu       sync.Mutex
	arrivals []arrival
	seen     map[uint64]bool
	foreign  int // payloads that are no frames of ours
}

func (t *tally) add(a arrival) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = map[uint64]bool{}
	}
	t.seen[a.seq] = true
	t.arrivals = append(t.arrivals, a)
}

func (t *tally) addForeign() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.foreign++
}

// heard returns how many frames arrived.
func (t *tally) heard() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.arrivals)
}

// fluent reports whether the last n arrivals are consecutive frames: the
// subscription is past its beginning.
func (t *tally) fluent(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.arrivals) < n {
		return false
	}
	last := t.arrivals[len(t.arrivals)-n:]
	for i := range last {
		if last[i].seq != last[0].seq+uint64(i) {
			return false
		}
	}
	return true
}

// missing returns how many of the frames first to last have not arrived.
func (t *tally) missing(first, last uint64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.absent(first, last))
}

func (t *tally) absent(first, last uint64) []uint64 {
	var absent []uint64
	for seq := first; seq <= last; seq++ {
		if !t.seen[seq] {
			absent = append(absent, seq)
		}
	}
	return absent
}

// summary is what a subscriber heard of the frames that count.
type summary struct {
	Received     int      `json:"received"`          // different frames
	Lost         int      `json:"lost"`              // never arrived
	Missing      []uint64 `json:"missing,omitempty"` // the first of those lost
	Duplicated   int      `json:"duplicated"`        // arrivals of a frame that was there already
	OutOfOrder   int      `json:"out_of_order"`      // frames that arrived after a later one
	Foreign      int      `json:"foreign"`           // payloads in the whole call that the publisher did not send
	LongestGapMS float64  `json:"longest_gap_ms"`    // between two arrivals, or from the last one to the end
	SlowestMS    float64  `json:"slowest_ms"`        // from being sent to arriving
}

// sum judges the frames first to last. The end is when waiting for them was
// given up: silence up to then is a gap like any other.
func (t *tally) sum(first, last uint64, end time.Time) summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	absent := t.absent(first, last)
	s := summary{Lost: len(absent), Missing: absent[:min(len(absent), 10)], Foreign: t.foreign}
	s.Received = int(last-first) + 1 - s.Lost
	counted := map[uint64]bool{}
	var highest uint64
	var gap, slowest time.Duration
	var before time.Time // the arrival before, from the one before the first that counts
	for _, a := range t.arrivals {
		if a.seq > last {
			continue
		}
		if !before.IsZero() && a.seq >= first {
			gap = max(gap, a.at.Sub(before))
		}
		before = a.at
		if a.seq < first {
			continue
		}
		if counted[a.seq] {
			s.Duplicated++
			continue
		}
		counted[a.seq] = true
		slowest = max(slowest, a.at.Sub(a.sent))
		if a.seq < highest {
			s.OutOfOrder++
		}
		highest = max(highest, a.seq)
	}
	if !t.seen[last] {
		gap = max(gap, end.Sub(before))
	}
	s.LongestGapMS, s.SlowestMS = millis(gap), millis(slowest)
	return s
}
