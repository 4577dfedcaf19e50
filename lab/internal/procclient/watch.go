package procclient

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
)

// maxLine is how long one line of the event stream may be, in bytes.
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
	url := fmt.Sprintf("http://hero/events?after=%d", *after)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
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
		return fmt.Errorf("supervisor answered %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil // a line cut short by the death of the supervisor comes again, whole
		}
		if e.JobState != nil {
			if err := each(e.Seq, e.Time, *e.JobState); err != nil {
				return err
			}
		}
		*after = e.Seq
	}
	return nil
}
