package rpc_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/creachadair/jrpc2"
	"github.com/matryer/is"
)

type greeting struct {
	Name string `json:"name"`
}

// start serves a greeter until the test ends and returns its socket.
func start(t *testing.T, health func(context.Context) error) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "greeter", "rpc.sock")
	service := rpc.Service{
		Name: "greeter", Version: "1", Health: health,
		Methods: map[string]rpc.Method{
			"greet": rpc.Func("Greets.", func(_ context.Context, g greeting) (string, error) {
				if g.Name == "" {
					return "", jrpc2.Errorf(jrpc2.InvalidParams, "name is empty")
				}
				return "hello " + g.Name, nil
			}),
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- service.Serve(ctx, socket, func() { close(up) }) }()
	select {
	case <-up:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return socket
}

func TestCall(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	client := rpc.NewClient(start(t, nil), 0)
	var said string
	is.NoErr(client.Call(t.Context(), "greet", greeting{"Ann"}, &said))
	is.Equal(said, "hello Ann")

	for name, params := range map[string]any{
		"refused by the service": greeting{},
		"unknown parameter":      map[string]any{"name": "Ann", "nmae": 1},
		"positional parameters":  []string{"Ann"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			var rpcErr *jrpc2.Error
			is.True(errors.As(client.Call(t.Context(), "greet", params, nil), &rpcErr))
			is.Equal(rpcErr.ErrCode(), jrpc2.InvalidParams)
		})
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	err := rpc.NewClient(filepath.Join(t.TempDir(), "rpc.sock"), 0).Call(t.Context(), "system.ping", nil, nil)
	is.True(rpc.IsDown(err)) // the caller can tell a service that is down
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	sick := errors.New("no bus")
	client := rpc.NewClient(start(t, func(context.Context) error { return sick }), 0).HTTP()
	for path, want := range map[string]int{
		"/health": http.StatusServiceUnavailable, "/openrpc.json": http.StatusOK,
		"/.well-known/heroservice.json": http.StatusOK, "/nothing": http.StatusNotFound,
	} {
		resp, err := client.Get("http://hero" + path)
		is.NoErr(err)
		is.NoErr(resp.Body.Close())
		is.Equal(resp.StatusCode, want)
	}
}

func TestSocketOfALivingOwnerIsNotTaken(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	socket := start(t, nil)
	_, err := rpc.Listen(socket)
	var owned *rpc.OwnedError
	is.True(errors.As(err, &owned))
	is.Equal(owned.PID, os.Getpid())
	is.NoErr(rpc.NewClient(socket, 0).Call(t.Context(), "system.ping", nil, nil)) // still served by its owner
}

func TestSocketOfADeadOwnerIsReplaced(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	socket := filepath.Join(t.TempDir(), "rpc.sock")
	is.NoErr(os.WriteFile(socket, nil, 0o600)) // what a killed process leaves
	l, err := rpc.Listen(socket)
	is.NoErr(err)
	info, err := os.Stat(socket)
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), os.FileMode(0o600))
	is.NoErr(l.Close())
	_, err = os.Stat(socket)
	is.True(errors.Is(err, os.ErrNotExist)) // gone with its owner
}

// TestDescription checks that the service describes what it answers.
func TestDescription(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	client := rpc.NewClient(start(t, nil), 0)
	type value struct {
		Name     string
		Required bool
		Schema   map[string]any
	}
	var described struct {
		OpenRPC string
		Methods []struct {
			Name, Summary, ParamStructure string
			Params                        []value
			Result                        value
		}
	}
	is.NoErr(client.Call(t.Context(), "rpc.discover", nil, &described))
	is.Equal(described.OpenRPC, "1.3.2")
	is.Equal(len(described.Methods), 2)
	greet := described.Methods[0]
	is.Equal(greet.Name, "greet")
	is.Equal(greet.Summary, "Greets.")
	is.Equal(greet.ParamStructure, "by-name")
	is.Equal(greet.Params, []value{{Name: "name", Required: true, Schema: map[string]any{"type": "string"}}})
	is.Equal(greet.Result.Schema, map[string]any{"type": "string"})
	is.Equal(described.Methods[1].Name, "system.ping")
}

func TestRemovedSocketComesBack(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	socket := start(t, nil)
	client := rpc.NewClient(socket, rpc.Patience)
	for _, path := range []string{socket, filepath.Dir(socket)} {
		is.NoErr(os.RemoveAll(path))
		is.NoErr(client.Call(t.Context(), "system.ping", nil, nil)) // waits for it
		_, err := rpc.Listen(socket)
		var owned *rpc.OwnedError
		is.True(errors.As(err, &owned)) // it is owned as before
		is.Equal(owned.PID, os.Getpid())
	}
}

// TestTakenSocketIsNotTakenBack has another process find socket and lock
// removed and own them, before their owner has noticed.
func TestTakenSocketIsNotTakenBack(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	socket := filepath.Join(t.TempDir(), "greeter", "rpc.sock")
	first, err := rpc.Listen(socket)
	is.NoErr(err)
	is.NoErr(os.RemoveAll(filepath.Dir(socket)))
	second, err := rpc.Listen(socket)
	is.NoErr(err)
	_, err = first.Accept()
	var owned *rpc.OwnedError
	is.True(errors.As(err, &owned))
	is.NoErr(first.Close())
	_, err = os.Stat(socket)
	is.NoErr(err) // it is the second's
	is.NoErr(second.Close())
}
