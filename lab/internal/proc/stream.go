//go:build linux

package proc

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
)

// streamed is how many events are read from the store at once.
const streamed = 256

// news wakes those who wait for events.
type news struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns a channel that is closed when there is something new.
func (n *news) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

// spread wakes all who wait.
func (n *news) spread() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next != nil {
		close(n.next)
		n.next = nil
	}
}

// stream answers GET /events?after=SEQ: one event a line, first those kept
// after the position, then those to come, until the client or the supervisor
// goes. The first line is the position itself.
func (s *supervisor) stream(w http.ResponseWriter, r *http.Request) {
	after := int64(-1)
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseInt(text, 10, 64); err != nil {
			http.Error(w, "after is not a number", http.StatusBadRequest)
			return
		}
	}
	last, err := s.store.position(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	switch {
	case after < 0:
		after = last
	case after > last: // of a store that is no more
		after = 0
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	if lines.Encode(procclient.Event{Seq: after}) != nil {
		return
	}
	s.follow(w, r, lines, after)
}

// follow writes the events after the position until there is nobody to read or
// to write.
func (s *supervisor) follow(w http.ResponseWriter, r *http.Request, lines *json.Encoder, after int64) {
	out := http.NewResponseController(w)
	for ending := false; ; {
		more := s.news.wait()
		list, err := s.store.eventsAfter(r.Context(), after, streamed)
		if err != nil {
			return // the client comes back to where it was
		}
		for _, e := range list {
			if lines.Encode(e) != nil {
				return
			}
			after = e.Seq
		}
		if out.Flush() != nil || ending && len(list) < streamed {
			return
		}
		if len(list) == streamed {
			continue
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		case <-s.stopped:
			ending = true // what was written last is still to be read
		}
	}
}
