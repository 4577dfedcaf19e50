package backend_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/service_livekit/backend"
	"github.com/golang-jwt/jwt/v5"
	"github.com/matryer/is"
)

const (
	apiSecret = "an-api-secret-of-more-than-thirty-two-characters"
	bearer    = "a-bearer-secret-of-more-than-thirty-two-characters"
)

// running is an lk-backend for the time of a test.
type running struct {
	client *backend.Client
	config backend.Config
	log    *bytes.Buffer // to be read after stop
	stop   func()
}

func start(t *testing.T, dir string) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	r := &running{log: new(bytes.Buffer)}
	r.config = backend.Config{
		Key: "APIkey", Secret: apiSecret, Bearer: bearer, URL: "ws://127.0.0.1:1", Port: port,
		SQLite: filepath.Join(dir, "backend.db"), Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- backend.Run(ctx, r.config, func() { close(up) }) }()
	select {
	case <-up:
	case err := <-done:
		t.Fatal(err)
	}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(r.stop)
	r.client = &backend.Client{URL: "http://" + l.Addr().String(), Bearer: bearer}
	return r
}

func TestToken(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	r := start(t, t.TempDir())
	got, err := r.client.Token(t.Context(), backend.TokenRequest{Room: "standup", Identity: "ann", TTLSeconds: 60})
	is.NoErr(err)
	is.Equal(got.URL, r.config.URL)
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(got.Token, claims, func(*jwt.Token) (any, error) { return []byte(apiSecret), nil }, jwt.WithValidMethods([]string{"HS256"}))
	is.NoErr(err)
	is.Equal(claims["iss"], "APIkey")
	is.Equal(claims["sub"], "ann")
	video := claims["video"].(map[string]any)
	is.Equal(video["room"], "standup")
	is.Equal(video["roomJoin"], true)
	expires, err := claims.GetExpirationTime()
	is.NoErr(err)
	is.True(expires.Equal(got.ExpiresAt))
	is.True(time.Until(got.ExpiresAt) <= time.Minute)

	rooms, err := r.client.Rooms(t.Context())
	is.NoErr(err)
	is.Equal(len(rooms), 1)
	is.Equal(rooms[0].Name, "standup")

	r.stop()
	for _, secret := range []string{apiSecret, bearer, got.Token} {
		is.True(!strings.Contains(r.log.String(), secret)) // nothing secret is logged
	}
}

func TestStrangerGets401(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	for name, header := range map[string]string{
		"nothing": "", "another secret": "Bearer " + strings.Repeat("x", len(bearer)), "its beginning": "Bearer " + bearer[:10],
		"another scheme": "Basic " + bearer, "the bare secret": bearer,
	} {
		for _, path := range []string{"POST /token", "GET /rooms", "GET /status"} {
			t.Run(path+" with "+name, func(t *testing.T) {
				t.Parallel()
				is := is.New(t)
				method, path, _ := strings.Cut(path, " ")
				req, err := http.NewRequestWithContext(t.Context(), method, r.client.URL+path, strings.NewReader(`{"room":"a","identity":"b"}`))
				is.NoErr(err)
				req.Header.Set("Authorization", header)
				resp, err := http.DefaultClient.Do(req)
				is.NoErr(err)
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				is.NoErr(err)
				is.Equal(resp.StatusCode, http.StatusUnauthorized)
				is.Equal(strings.TrimSpace(string(body)), `{"error":"unauthorized"}`)
			})
		}
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	for name, body := range map[string]string{
		"not JSON": "room=a", "unknown field": `{"room":"a","identity":"b","admin":true}`,
		"no room": `{"identity":"b"}`, "blank identity": `{"room":"a","identity":" "}`,
		"control character": `{"room":"a\u0000","identity":"b"}`, "long room": `{"room":"` + strings.Repeat("a", 257) + `","identity":"b"}`,
		"negative ttl": `{"room":"a","identity":"b","ttl_seconds":-1}`, "ttl of years": `{"room":"a","identity":"b","ttl_seconds":99999999999999}`,
		"huge": `{"room":"` + strings.Repeat("a", 1<<20) + `"}`, "a list": `[]`, "nothing": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.client.URL+"/token", strings.NewReader(body))
			is.NoErr(err)
			req.Header.Set("Authorization", "Bearer "+bearer)
			resp, err := http.DefaultClient.Do(req)
			is.NoErr(err)
			defer resp.Body.Close()
			is.Equal(resp.StatusCode, http.StatusBadRequest)
		})
	}
}

func TestRoomsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	dir := t.TempDir()
	first := start(t, dir)
	for _, room := range []string{"standup", "standup", "café/1"} {
		_, err := first.client.Token(t.Context(), backend.TokenRequest{Room: room, Identity: "ann"})
		is.NoErr(err)
	}
	_, err := first.client.Token(t.Context(), backend.TokenRequest{Room: "probe", Identity: "ann", Probe: true})
	is.NoErr(err)
	first.stop()
	info, err := os.Stat(first.config.SQLite)
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), os.FileMode(0o600))

	rooms, err := start(t, dir).client.Rooms(t.Context())
	is.NoErr(err)
	is.Equal(len(rooms), 2) // each once, and none that was only probed
	is.Equal(rooms[0].Name, "café/1")
}

func TestStatusWithoutLiveKitSaysSo(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	r := start(t, t.TempDir())
	_, err := r.client.Status(t.Context())
	is.True(err != nil && strings.Contains(err.Error(), "livekit-server"))
	resp, err := http.Get(r.client.URL + "/health") // of lk-backend itself
	is.NoErr(err)
	defer resp.Body.Close()
	is.Equal(resp.StatusCode, http.StatusOK)
}

func TestLoadConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := "LIVEKIT_API_KEY=\"k\"\nLIVEKIT_API_SECRET=\"" + apiSecret + "\"\nLIVEKIT_URL=\"ws://127.0.0.1:1\"\nBACKEND_BEARER=\"" + bearer + "\"\nPORT=8080\nSQLITE_PATH=\"/db\"\n"
	for name, test := range map[string]struct{ old, new, want string }{
		"good":         {"", "", ""},
		"short secret": {apiSecret, "short", "LIVEKIT_API_SECRET"},
		"no bearer":    {"BACKEND_BEARER", "OTHER", "BACKEND_BEARER"},
		"port of 0":    {"PORT=8080", "PORT=0", "PORT"},
		"garbage":      {good, "\x00\x01=", "lab service livekit --restart"},
		"empty":        {good, "", "lab service livekit --restart"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			file := filepath.Join(t.TempDir(), "backend.env")
			is.NoErr(os.WriteFile(file, []byte(strings.Replace(good, test.old, test.new, 1)), 0o600))
			_, err := backend.LoadConfig(file)
			is.Equal(err == nil, test.want == "")
			is.True(err == nil || strings.Contains(err.Error(), test.want))
			is.True(err == nil || !strings.Contains(err.Error(), apiSecret) && !strings.Contains(err.Error(), bearer))
		})
	}
}

func FuzzLoadConfig(f *testing.F) {
	f.Add("PORT=8080\nLIVEKIT_API_SECRET=" + apiSecret)
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "backend.env")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := backend.LoadConfig(file)
		if err == nil && (len(c.Secret) < 32 || c.Port <= 0) {
			t.Fatal("accepted what it cannot run with")
		}
	})
}
