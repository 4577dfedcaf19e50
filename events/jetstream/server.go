package jetstream

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

const (
	storeBytes   = 1 << 30  // of streams on disk: room for the stream and for an operator's own
	memoryBytes  = 64 << 20 // of consumers that are forgotten with the server
	startTimeout = 20 * time.Second

	healthEvery = 2 * time.Second
	healthTries = 3 // in a row that must be bad before the server is restarted
	// mostHealthTries is where their growth ends when restarts do not help.
	mostHealthTries = 48
)

// ServerOptions configures an embedded server. Dir, Port, User and Password are
// required.
type ServerOptions struct {
	// Dir is the folder of its store. It is made, and closed to other users.
	Dir string
	// Host is the loopback address to listen on; empty is 127.0.0.1.
	Host string
	// Port is the TCP port to listen on.
	Port int
	// User and Password are what clients have to show.
	User, Password string
	// Log gets what the server has to say. Nil logs nothing.
	Log *slog.Logger
}

// Server is an embedded NATS server with JetStream on local disk. Nothing is
// acknowledged before it is flushed to the disk.
type Server struct {
	options ServerOptions

	mu      sync.Mutex
	running *server.Server
}

// NewServer returns a server that does not run yet.
func NewServer(o ServerOptions) *Server {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{options: o}
}

// Serve runs an embedded server until ctx ends and calls ready, if set, once it
// serves. Use [NewServer] to also ask for its health.
func Serve(ctx context.Context, o ServerOptions, ready func()) error {
	return NewServer(o).run(ctx, ready)
}

// Run serves until ctx ends, and returns after all is written and closed. When
// the server stays unhealthy, as after a full disk, which it does not recover
// from, it is restarted within this process; clients reconnect by themselves.
//
// A port that another program has and a folder that another server uses are
// errors.
func (s *Server) Run(ctx context.Context) error { return s.run(ctx, nil) }

func (s *Server) run(ctx context.Context, ready func()) error {
	if err := s.options.validate(); err != nil {
		return fmt.Errorf("serve bus: %w", err)
	}
	lock, err := s.options.prepareDir()
	if err != nil {
		return fmt.Errorf("serve bus: %w", err)
	}
	defer lock.Close()
	tries := healthTries
	for {
		err := s.start(ctx)
		if err == nil {
			if ready != nil {
				ready()
				ready = nil
			}
			tries, err = s.watch(ctx, tries)
		}
		s.stop()
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, errUnhealthy) {
			return fmt.Errorf("serve bus: %w", err)
		}
		s.options.Log.Error("restart the embedded server", "error", err)
	}
}

// Health returns nil when the server accepts clients and its streams and
// consumers are intact.
func (s *Server) Health() error {
	s.mu.Lock()
	running := s.running
	s.mu.Unlock()
	if running == nil {
		return errors.New("the server does not run")
	}
	status := running.Healthz(&server.HealthzOptions{Details: true})
	if status.Status == "ok" {
		return nil
	}
	var problems []string
	for _, e := range status.Errors {
		problems = append(problems, e.Error)
	}
	return fmt.Errorf("the server is unhealthy: %s", strings.Join(problems, "; "))
}

var errUnhealthy = errors.New("the server stays unhealthy")

// watch returns when ctx ends or the server has been found unhealthy so many
// times in a row. It also returns how many times to allow the next server, for
// which it is more if a restart did not help: clients get something done then.
func (s *Server) watch(ctx context.Context, tries int) (next int, err error) {
	next = min(2*tries, mostHealthTries)
	for bad := 0; bad < tries; {
		if sleep(ctx, healthEvery) != nil {
			return next, ctx.Err()
		}
		if err = s.Health(); err == nil {
			bad, tries, next = 0, healthTries, healthTries
			continue
		}
		bad++
	}
	return next, fmt.Errorf("%w: %w", errUnhealthy, err)
}

func (o ServerOptions) validate() error {
	ip := net.ParseIP(o.Host)
	switch {
	case ip == nil || !ip.IsLoopback():
		return fmt.Errorf("host %q is not a loopback address", o.Host)
	case o.Port < 1 || o.Port > 65535:
		return fmt.Errorf("port %d is none", o.Port)
	case o.User == "" || o.Password == "":
		return errors.New("user or password is empty")
	case o.Dir == "":
		return errors.New("folder of the store is not given")
	}
	return nil
}

func (o ServerOptions) address() string { return net.JoinHostPort(o.Host, strconv.Itoa(o.Port)) }

// prepareDir makes the folder, and has it for this server alone.
func (o ServerOptions) prepareDir() (*flock.Flock, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make store: %w", err)
	}
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("close store to others: %w", err)
	}
	lock := flock.New(filepath.Join(o.Dir, "lock"))
	switch mine, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock store: %w", err)
	case !mine:
		return nil, fmt.Errorf("store %s is in use by another server", o.Dir)
	}
	return lock, nil
}

// start returns when the server accepts clients.
func (s *Server) start(ctx context.Context) error {
	if err := s.options.tryPort(); err != nil {
		return err
	}
	embedded, err := server.NewServer(s.options.server())
	if err != nil {
		return fmt.Errorf("configure server: %w", err)
	}
	log := &serverLog{log: s.options.Log}
	embedded.SetLoggerV2(log, false, false, false)
	s.mu.Lock()
	s.running = embedded
	s.mu.Unlock()
	embedded.Start()
	for deadline := time.Now().Add(startTimeout); !embedded.ReadyForConnections(pause); {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case log.fatal() != "":
			return errors.New(log.fatal())
		case time.Now().After(deadline):
			return fmt.Errorf("listen on %s: not within %v", s.options.address(), startTimeout)
		}
	}
	if !embedded.JetStreamEnabled() {
		return errors.New("the store cannot be opened")
	}
	return nil
}

// tryPort finds out whether the port can be had, and says which one cannot: the
// server itself would only log that.
func (o ServerOptions) tryPort() error {
	l, err := net.Listen("tcp", o.address())
	if err != nil {
		return fmt.Errorf("port %d cannot be had: %w", o.Port, err)
	}
	return l.Close()
}

func (o ServerOptions) server() *server.Options {
	return &server.Options{
		ServerName: "hero_bus",
		Host:       o.Host,
		Port:       o.Port,
		CustomClientAuthentication: login{
			user: sha256.Sum256([]byte(o.User)), password: sha256.Sum256([]byte(o.Password)),
		},
		JetStream:              true,
		StoreDir:               o.Dir,
		SyncAlways:             true, // the default flushes every two minutes
		JetStreamMaxStore:      storeBytes,
		JetStreamMaxMemory:     memoryBytes,
		DisableJetStreamBanner: true,
		NoSigs:                 true,
	}
}

// login accepts one user. The server's own check wants the password in the
// clear, and warns of that, or slow to compare.
type login struct{ user, password [sha256.Size]byte }

// Check reports whether the client has shown the right credentials.
func (l login) Check(client server.ClientAuthentication) bool {
	user, password := sha256.Sum256([]byte(client.GetOpts().Username)), sha256.Sum256([]byte(client.GetOpts().Password))
	return subtle.ConstantTimeCompare(user[:], l.user[:])&subtle.ConstantTimeCompare(password[:], l.password[:]) == 1
}

// stop waits until all is written and closed.
func (s *Server) stop() {
	s.mu.Lock()
	running := s.running
	s.running = nil
	s.mu.Unlock()
	if running != nil {
		running.Shutdown()
		running.WaitForShutdown()
	}
}
