// Package plugintest gives plugins a host to be tested in ([NewHost]), the suite
// that every plugin of a service passes ([Run]), and the one that every
// supervisor does ([RunSupervisor]).
//
// The host keeps everything in memory: its supervisor obeys at once and starts
// no process. So a plugin is tested without one, and what a real supervisor
// has to do is said by the suite.
package plugintest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/events/eventstest"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
)

// Host is a host in memory.
type Host struct {
	plugin.Host
	Supervisor *Supervisor
	Binaries   *Binaries
	Secrets    *Secrets
}

// NewHost returns a host for the time of the test.
func NewHost(t *testing.T) *Host {
	t.Helper()
	root := t.TempDir()
	h := &Host{
		Supervisor: &Supervisor{services: map[string]*service{}},
		Binaries:   &Binaries{dir: filepath.Join(root, "store")},
		Secrets:    &Secrets{values: map[string]string{}},
	}
	h.Host = plugin.Host{
		Paths: plugin.Paths{Root: root, Sockets: filepath.Join(root, "sockets")},
		Node:  "test", Lab: filepath.Join(root, "bin", "lab"),
		Bus: eventstest.NewBus(), Supervisor: h.Supervisor, Secrets: h.Secrets, Binaries: h.Binaries,
		Log: slog.New(slog.DiscardHandler),
	}
	return h
}

// Binaries is an [plugin.Acquirer] that makes what it is asked for.
type Binaries struct {
	dir string

	mu       sync.Mutex
	fail     error
	acquired int
}

// Fail makes every acquisition fail with err, until Fail(nil).
func (b *Binaries) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

// Acquired is how often a binary was acquired.
func (b *Binaries) Acquired() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.acquired
}

// Acquire writes an empty executable.
func (b *Binaries) Acquire(_ context.Context, spec binary.Spec, progress func(binary.Progress)) (binary.Installed, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	progress(binary.Progress{Source: "test", Step: "build"})
	if b.fail != nil {
		return binary.Installed{}, b.fail
	}
	b.acquired++
	path := filepath.Join(b.dir, spec.Name+"-"+spec.Version)
	if err := errors.Join(os.MkdirAll(b.dir, 0o700), os.WriteFile(path, nil, 0o700)); err != nil {
		return binary.Installed{}, err
	}
	return binary.Installed{Name: spec.Name, Version: spec.Version, Path: path, Source: "test"}, nil
}

// Secrets is a secret store.
type Secrets struct {
	mu     sync.Mutex
	values map[string]string
}

// CreateSecret stores a value once.
func (s *Secrets) CreateSecret(_ context.Context, context, name, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := context + "/" + name
	if _, ok := s.values[key]; ok {
		return plugin.ErrExists
	}
	s.values[key] = value
	return nil
}

// GetSecret returns a value.
func (s *Secrets) GetSecret(_ context.Context, context, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[context+"/"+name]
	if !ok {
		return "", plugin.ErrNotFound
	}
	return value, nil
}
