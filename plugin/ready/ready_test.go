package ready_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"github.com/matryer/is"
)

// serve answers every request with the status, over TCP and a Unix socket.
func serve(t *testing.T, status int) (url, socket string) {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	socket = filepath.Join(t.TempDir(), "rpc.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	overSocket := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	overSocket.Start()
	t.Cleanup(overSocket.Close)
	return server.URL, socket
}

func TestProbes(t *testing.T) {
	t.Parallel()
	up, upSocket := serve(t, http.StatusOK)
	sick, sickSocket := serve(t, http.StatusServiceUnavailable)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	stale := filepath.Join(t.TempDir(), "rpc.sock")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		probe ready.Probe
		pid   int
		ok    bool
	}{
		"http":                              {probe: ready.Probe{HTTP: up}, ok: true},
		"http that answers 503":             {probe: ready.Probe{HTTP: sick}},
		"http that nobody answers":          {probe: ready.Probe{HTTP: "http://127.0.0.1:1/"}},
		"tcp":                               {probe: ready.Probe{TCP: strings.TrimPrefix(up, "http://")}, ok: true},
		"tcp that nobody accepts":           {probe: ready.Probe{TCP: "127.0.0.1:1"}},
		"unix":                              {probe: ready.Probe{Unix: upSocket}, ok: true},
		"unix that is only a file":          {probe: ready.Probe{Unix: stale}},
		"hero":                              {probe: ready.Probe{Hero: upSocket}, ok: true},
		"hero that is not healthy":          {probe: ready.Probe{Hero: sickSocket}},
		"sick, and alive":                   {probe: ready.Probe{Alive: sickSocket}, ok: true},
		"alive where nobody is":             {probe: ready.Probe{Alive: stale}},
		"exec":                              {probe: ready.Probe{Exec: []string{"/bin/sh", "-c", "exit 0"}}, ok: true},
		"exec that fails":                   {probe: ready.Probe{Exec: []string{"/bin/sh", "-c", "exit 1"}}},
		"notify, which is not ours to tell": {probe: ready.Probe{Notify: true}},
		"udp":                               {probe: ready.Probe{UDP: udp.LocalAddr().String()}, pid: os.Getpid(), ok: true},
		"udp of another process":            {probe: ready.Probe{UDP: udp.LocalAddr().String()}, pid: os.Getppid()},
		"udp that nobody bound":             {probe: ready.Probe{UDP: "127.0.0.1:1"}, pid: os.Getpid()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			is.NoErr(test.probe.Validate())
			is.Equal(test.probe.Check(t.Context(), ready.Process{PID: test.pid}) == nil, test.ok)
		})
	}
}

func TestProbeHasExactlyOneCondition(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	is.True(ready.Probe{}.Validate() != nil)
	is.True(ready.Probe{TCP: "a:1", Unix: "/s"}.Validate() != nil)
}

func TestPortHolder(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	port := l.Addr().(*net.TCPAddr).Port
	holder, held, err := ready.PortHolder(t.Context(), "tcp", port)
	is.NoErr(err)
	is.True(held)
	is.Equal(holder.PID, os.Getpid())
	is.Equal(holder.Command, filepath.Base(os.Args[0]))
	is.NoErr(l.Close())
	_, held, err = ready.PortHolder(t.Context(), "tcp", port)
	is.NoErr(err)
	is.True(!held)
}

func TestWaitSaysWhatWasMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		missing := errors.New("no token yet")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		looks := 0
		err := ready.Wait(ctx, time.Second, func(context.Context) error { looks++; return missing })
		is.True(errors.Is(err, missing))
		is.True(errors.Is(err, context.DeadlineExceeded))
		is.True(looks >= 60)
		is.NoErr(ready.Wait(ctx, time.Second, func(context.Context) error { return nil }))
	})
}

func TestWaitEndsWhereWaitingDoesNotHelp(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	gone := errors.New("it will never come")
	err := ready.Wait(t.Context(), time.Hour, func(context.Context) error { return ready.Stop(gone) })
	is.Equal(err, gone)
}

// TestExecThatHangs leaves a child behind that keeps the output open.
func TestExecThatHangs(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	probe := ready.Probe{Exec: []string{"/bin/sh", "-c", "sleep 1000 & sleep 1000"}}
	begun := time.Now()
	is.True(errors.Is(probe.Check(ctx, ready.Process{}), context.DeadlineExceeded))
	is.True(time.Since(begun) < 30*time.Second)
}
