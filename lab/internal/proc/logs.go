//go:build linux

package proc

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// The bounds of one answer with lines.
const (
	defaultLines = 100
	mostLines    = 10_000
)

// outputs are the service's actions, or the one that is named.
func (s *supervisor) outputs(ctx context.Context, name, action string) (actions []string, err error) {
	err = s.read(ctx, name, func(svc *service) error {
		for _, u := range svc.units {
			if action == "" || action == u.Action {
				actions = append(actions, u.Action)
			}
		}
		if action != "" && len(actions) == 0 {
			return fmt.Errorf("action %s of service %s: %w", action, name, plugin.ErrNotFound)
		}
		return nil
	})
	return actions, err
}

func (s *supervisor) tailLogs(ctx context.Context, p procclient.Tail) ([]string, error) {
	actions, err := s.outputs(ctx, p.Service, p.Action)
	if err != nil {
		return nil, err
	}
	all := []string{}
	for _, action := range actions {
		lines, err := s.getLogs(ctx, procclient.LogQuery{Service: p.Service, Action: action, After: -1, Limit: p.Lines})
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			if p.Action == "" && len(actions) > 1 {
				line.Text = "[" + action + "] " + line.Text
			}
			all = append(all, line.Text)
		}
	}
	return all, nil
}

func (s *supervisor) getLogs(ctx context.Context, p procclient.LogQuery) ([]procclient.LogLine, error) {
	if p.Limit < 0 || p.Limit > mostLines {
		return nil, refuse(fmt.Errorf("limit: %d is not between 0 and %d", p.Limit, mostLines))
	}
	if _, err := s.outputs(ctx, p.Service, p.Action); err != nil {
		return nil, err
	}
	p.Limit = cmp.Or(p.Limit, defaultLines)
	lines := []procclient.LogLine{}
	_, err := s.readLogs(ctx, p, func(line procclient.LogLine) bool {
		lines = append(lines, line)
		return len(lines) < p.Limit
	})
	return lines, err
}

// readLogs calls each for the lines that were asked for, whatever the limit,
// fit to be read by anyone, and returns the position behind the last.
func (s *supervisor) readLogs(ctx context.Context, p procclient.LogQuery, each func(procclient.LogLine) bool) (int64, error) {
	values, err := s.store.secretValues(ctx)
	if err != nil {
		return p.After, fmt.Errorf("secrets cannot be read, so they cannot be blotted out of output: %w", err)
	}
	book := s.files.log(p.Service, p.Action)
	if p.After < 0 {
		if p.After, err = book.lastLines(cmp.Or(p.Limit, defaultLines)); err != nil {
			return p.After, err
		}
	}
	return book.read(p.After, func(e entry) bool {
		return ctx.Err() == nil && each(procclient.LogLine{
			Pos: e.end, Time: e.at.UTC(), Service: p.Service, Action: p.Action,
			Level: levelOf(e.text), Text: shown(e.text, shownLine, values),
		})
	})
}

// streamLogs answers GET /logs?service=S&action=A&after=POS&lines=N: one line
// of output a line, those behind the position (or the last N, where there is
// none), and then those to come, until client or supervisor goes.
func (s *supervisor) streamLogs(w http.ResponseWriter, r *http.Request) {
	query, err := logQuery(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := s.outputs(r.Context(), query.Service, query.Action); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out, lines := http.NewResponseController(w), json.NewEncoder(w)
	for ending := false; ; {
		more := s.output.wait()
		gone := false
		query.After, err = s.readLogs(r.Context(), query, func(line procclient.LogLine) bool {
			gone = lines.Encode(line) != nil
			return !gone
		})
		if err != nil || gone || out.Flush() != nil || ending {
			return
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

func logQuery(values url.Values) (q procclient.LogQuery, err error) {
	q = procclient.LogQuery{Service: values.Get("service"), Action: values.Get("action"), After: -1}
	if q.Action == "" {
		return q, fmt.Errorf("action is missing")
	}
	if text := values.Get("after"); text != "" {
		if q.After, err = strconv.ParseInt(text, 10, 64); err != nil {
			return q, fmt.Errorf("after is not a number")
		}
	}
	if text := values.Get("lines"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 0 || q.Limit > mostLines {
			return q, fmt.Errorf("lines is not a number between 0 and %d", mostLines)
		}
	}
	return q, nil
}
