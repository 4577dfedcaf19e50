package procclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
)

// maxLine is how long one line of a stream may be, in bytes.
const maxLine = 1 << 20

// reconnect is the pause before a call whose answer was lost is made again, and
// a stream that ended taken up.
const reconnect = 10 * time.Millisecond

// Watch calls each for every change of state after the position after, in
// order and each once, and goes on with those to come until ctx ends, which is
// no error, or each returns one. A negative position means from now on; one
// that the supervisor has not reached, as after its store was replaced, means
// from the beginning. Of the past the supervisor keeps the last 10,000 changes.
//
// Watch outlives restarts of the supervisor; it gives up when there has been
// none for longer than a call waits.
func (c *Client) Watch(ctx context.Context, after int64, each func(seq int64, at time.Time, change events.JobState) error) error {
	for {
		err := c.watch(ctx, &after, each)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch events: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reconnect):
		}
	}
}

// watch reads one stream to its end, which is no error, and keeps after at
// what has been handled.
func (c *Client) watch(ctx context.Context, after *int64, each func(int64, time.Time, events.JobState) error) error {
	return c.stream(ctx, fmt.Sprintf("/events?after=%d", *after), func(line []byte) error {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return errCut
		}
		if e.JobState != nil {
			if err := each(e.Seq, e.Time, *e.JobState); err != nil {
				return err
			}
		}
		*after = e.Seq
		return nil
	})
}

// Follow calls each for the output of an action behind the position, or the
// last lines where it is negative, and goes on with what is to come until ctx
// ends, which is no error, or each returns one. No line is left out or comes
// twice, whatever becomes of the supervisor meanwhile.
func (c *Client) Follow(ctx context.Context, query LogQuery, each func(LogLine) error) error {
	for {
		path := "/logs?" + url.Values{
			"service": {query.Service}, "action": {query.Action},
			"after": {fmt.Sprint(query.After)}, "lines": {fmt.Sprint(query.Limit)},
		}.Encode()
		err := c.stream(ctx, path, func(text []byte) error {
			var line LogLine
			if err := json.Unmarshal(text, &line); err != nil {
				return errCut
			}
			query.After = line.Pos
			return each(line)
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("follow output: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reconnect):
		}
	}
}

// errCut ends a stream at a line that the death of the supervisor cut short: it
// comes again, whole.
var errCut = errors.New("line was cut short")

// stream calls each for the lines of one answer, to its end, which is no error.
func (c *Client) stream(ctx context.Context, path string, each func([]byte) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://hero"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.rpc.HTTP().Do(req)
	if isLost(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
		return fmt.Errorf("supervisor answered %s %s", resp.Status, bytes.TrimSpace(why))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := each(lines.Bytes()); errors.Is(err, errCut) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}
