package backend

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody is how long a request may be, in bytes.
const maxBody = 16 << 10

type server struct {
	config Config
	signer signer
	rooms  *rooms
	media  media
	log    *slog.Logger
}

// Run serves until ctx ends; then it finishes what is under way, for two
// seconds at most. ready, when set, is called once it listens.
func Run(ctx context.Context, c Config, ready func()) error {
	if err := c.validate(); err != nil {
		return err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	rooms, err := openRooms(ctx, c.SQLite)
	if err != nil {
		return err
	}
	defer rooms.close()
	signer := signer{c.Key, c.Secret}
	s := &server{config: c, signer: signer, rooms: rooms, log: c.Log, media: media{signer, httpURL(c.URL)}}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)))
	if err != nil {
		return fmt.Errorf("listen for callers: %w", err)
	}
	h := &http.Server{
		Handler: s.handler(), ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute,
	}
	done := make(chan error, 1)
	go func() { done <- h.Serve(l) }()
	c.Log.Info("listening", "address", l.Addr().String())
	if ready != nil {
		ready()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if h.Shutdown(grace) != nil {
		err = h.Close()
	}
	<-done
	return err
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.Handle("POST /token", s.known(s.token))
	mux.Handle("GET /status", s.known(s.status))
	mux.Handle("GET /rooms", s.known(s.list))
	return http.MaxBytesHandler(mux, maxBody)
}

// known lets only callers in that show the bearer secret. It takes as long
// whatever they show.
func (s *server) known(next http.HandlerFunc) http.Handler {
	want := sha256.Sum256([]byte(s.config.Bearer))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(shown))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, errors.New("unauthorized"))
			return
		}
		next(w, r)
	})
}

func (s *server) health(w http.ResponseWriter, r *http.Request) {
	if err := s.rooms.check(r.Context()); err != nil {
		s.log.Error("check rooms", "error", err)
		fail(w, http.StatusServiceUnavailable, errors.New("the database does not answer"))
		return
	}
	answer(w, map[string]string{"status": "ok"})
}

func (s *server) token(w http.ResponseWriter, r *http.Request) {
	var req TokenRequest
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&req); err != nil {
		fail(w, http.StatusBadRequest, errors.New(`the body is not {"room": "...", "identity": "...", "ttl_seconds": n}`))
		return
	}
	if err := req.Validate(); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	now := time.Now()
	if !req.Probe {
		if err := s.rooms.remember(r.Context(), req.Room, now); err != nil {
			s.log.Error("remember room", "error", err)
			fail(w, http.StatusInternalServerError, errors.New("the room could not be written down: is the disk full?"))
			return
		}
		s.log.Info("token signed", "room", req.Room, "identity", req.Identity)
	}
	token, expires, err := s.signer.join(req, now)
	if err != nil {
		fail(w, http.StatusInternalServerError, errors.New("the token could not be signed"))
		return
	}
	answer(w, Token{URL: s.config.URL, Token: token, ExpiresAt: expires})
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	status, err := s.media.status(r.Context())
	if err != nil {
		fail(w, http.StatusBadGateway, err)
		return
	}
	answer(w, status)
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	list, err := s.rooms.list(r.Context())
	if err != nil {
		s.log.Error("list rooms", "error", err)
		fail(w, http.StatusInternalServerError, errors.New("the rooms could not be read"))
		return
	}
	answer(w, list)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the caller has gone: nobody to tell
}

func fail(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

func httpURL(ws string) string { return "http" + strings.TrimPrefix(ws, "ws") }
