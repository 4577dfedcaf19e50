// Package rpc is how Hero services talk: JSON-RPC 2.0 with named parameters,
// over HTTP, on a Unix socket that exactly one living process owns.
//
// Every service answers four endpoints: POST /rpc, GET /openrpc.json, GET
// /health (200 when it serves, 503 with the reason when not) and GET
// /.well-known/heroservice.json. An unknown parameter is an error.
package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/handler"
	"github.com/creachadair/jrpc2/jhttp"
)

// The limits of what a caller may ask of a service.
const (
	maxBody     = 1 << 20 // bytes of a request
	concurrency = 256     // calls under way, most of which wait
)

// Service is what a process offers on its socket.
type Service struct {
	Name    string
	Version string
	Methods map[string]Method
	// Health says why the service does not serve, nil when it does. Unset: it
	// serves while it answers.
	Health func(context.Context) error
	// Routes are further paths, such as streams.
	Routes map[string]http.Handler
}

// Method is one method of a service, made by [Func].
type Method struct {
	summary string
	info    *handler.FuncInfo
}

// Func makes a method of fn, which takes a context and, if it has parameters, a
// struct of them, and returns a value, an error, or both. The summary is for
// the reader of the service's description. Func panics when fn has another
// form, which is a mistake in the program.
func Func(summary string, fn any) Method {
	info, err := handler.Check(fn)
	if err != nil {
		panic(fmt.Sprintf("rpc.Func: %v", err))
	}
	return Method{summary, info.AllowArray(false).SetStrict(true)}
}

// Serve listens on the socket and answers until ctx ends; then it finishes
// what is under way, for a second at most. ready, when set, is called once the
// service answers.
func (s Service) Serve(ctx context.Context, socket string, ready func()) error {
	l, err := Listen(socket)
	if err != nil {
		return err
	}
	described, err := s.describe()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	methods := handler.Map{"rpc.discover": handler.New(func(context.Context) any { return described })}
	for name, m := range s.methods() {
		methods[name] = m.info.Wrap()
	}
	bridge := jhttp.NewBridge(methods, &jhttp.BridgeOptions{
		Server: &jrpc2.ServerOptions{Concurrency: concurrency, DisableBuiltin: true},
	})
	server := &http.Server{
		Handler:           s.handler(bridge, described),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	if ready != nil {
		ready()
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			err = server.Close()
		}
		<-done
	}
	if closed := l.Close(); !errors.Is(closed, http.ErrServerClosed) && !isClosed(closed) {
		err = errors.Join(err, closed)
	}
	return errors.Join(err, bridge.Close())
}

func (s Service) handler(bridge http.Handler, described any) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /rpc", http.MaxBytesHandler(bridge, maxBody))
	mux.HandleFunc("GET /openrpc.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, described)
	})
	mux.HandleFunc("GET /.well-known/heroservice.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]string{"name": s.Name, "version": s.Version, "protocol": "jsonrpc2", "rpc": "/rpc", "openrpc": "/openrpc.json", "health": "/health"})
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		if s.Health != nil {
			if err := s.Health(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		writeJSON(w, map[string]string{"status": "ok", "name": s.Name, "version": s.Version})
	})
	for pattern, h := range s.Routes {
		mux.Handle(pattern, h)
	}
	return mux
}

// methods are those of the service and those that every service has.
func (s Service) methods() map[string]Method {
	all := map[string]Method{
		"system.ping": Func("Answers pong.", func(context.Context) string { return "pong" }),
	}
	maps.Copy(all, s.Methods)
	return all
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone: nobody to tell
}
