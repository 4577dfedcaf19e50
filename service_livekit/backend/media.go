package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Status is what goes on in livekit-server now.
type Status struct {
	Rooms        int `json:"rooms"`
	Participants int `json:"participants"`
}

// Rooms asks the livekit-server at the URL (http://host:port) what goes on.
func Rooms(ctx context.Context, url, key, secret string) (Status, error) {
	return media{signer{key, secret}, url}.status(ctx)
}

// media asks livekit-server's room API, which is Twirp: JSON over HTTP.
type media struct {
	signer signer
	url    string
}

func (m media) status(ctx context.Context) (Status, error) {
	token, err := m.signer.sign("lk-backend", time.Minute, time.Now(), grant{RoomList: true})
	if err != nil {
		return Status{}, errors.New("sign token")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url+"/twirp/livekit.RoomService/ListRooms", strings.NewReader("{}"))
	if err != nil {
		return Status{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	var found struct {
		Rooms []struct {
			Participants int `json:"num_participants"`
		} `json:"rooms"`
	}
	if err := call(req, &found); err != nil {
		return Status{}, fmt.Errorf("list rooms of livekit-server: %w", err)
	}
	status := Status{Rooms: len(found.Rooms)}
	for _, room := range found.Rooms {
		status.Participants += room.Participants
	}
	return status, nil
}

// Client calls lk-backend.
type Client struct {
	URL     string // http://host:port
	Bearer  string
	Timeout time.Duration // of a call; zero: 10 s
}

// Token gets a join token.
func (c *Client) Token(ctx context.Context, r TokenRequest) (Token, error) {
	var token Token
	body, err := json.Marshal(r)
	if err != nil {
		return token, err
	}
	return token, c.call(ctx, http.MethodPost, "/token", strings.NewReader(string(body)), &token)
}

// Status says what goes on in livekit-server now.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	return status, c.call(ctx, http.MethodGet, "/status", nil, &status)
}

// Rooms lists the rooms that tokens were signed for.
func (c *Client) Rooms(ctx context.Context) ([]Room, error) {
	var rooms []Room
	return rooms, c.call(ctx, http.MethodGet, "/rooms", nil, &rooms)
}

func (c *Client) call(ctx context.Context, method, path string, body io.Reader, result any) error {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Bearer)
	if err := call(req, result); err != nil {
		return fmt.Errorf("ask lk-backend: %w", err)
	}
	return nil
}

// call decodes the answer, or the error in it. What an answer says beyond that
// is not passed on: it may quote a token.
func call(req *http.Request, result any) error {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var urlErr *url.Error
		if errors.As(err, &urlErr) {
			return urlErr.Err
		}
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var said struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(body, &said)
		return errors.New(strings.TrimSpace(resp.Status + " " + said.Error))
	}
	return json.Unmarshal(body, result)
}
