package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/creachadair/jrpc2"
)

// Patience is how long a call waits for a service that is being restarted: it
// is tried again while nobody listens on the socket, never once it was sent.
const Patience = 3 * time.Second

// Client calls the methods of the service on a socket. It needs no closing and
// may be used by many goroutines.
type Client struct {
	socket   string
	patience time.Duration
	http     *http.Client
}

// NewClient returns a client of the service on the socket. It does not connect
// before the first call.
func NewClient(socket string, patience time.Duration) *Client {
	c := &Client{socket: socket, patience: patience}
	c.http = &http.Client{Transport: &http.Transport{DialContext: c.dial, DisableKeepAlives: true}}
	return c
}

// HTTP returns a client whose requests, whatever their host, go to the socket.
func (c *Client) HTTP() *http.Client { return c.http }

// Call invokes the method with params, a struct or map (nil for none), and
// decodes its result, unless result is nil. An error that the service returned
// is a [*jrpc2.Error]; [IsDown] tells that nobody listened.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	if err := c.call(ctx, method, params, result); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, method string, params, result any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://hero/rpc", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("service answered %s", resp.Status)
	}
	var answer struct {
		Error  *jrpc2.Error    `json:"error"`
		Result json.RawMessage `json:"result"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	patience := time.After(c.patience)
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", c.socket)
		if err == nil || !IsDown(err) {
			return conn, err
		}
		select {
		case <-patience:
			return nil, err
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// IsDown reports whether a call failed because nobody listens on the socket.
func IsDown(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial" && dial.Net == "unix" &&
		(errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED))
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
