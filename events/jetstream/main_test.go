package jetstream_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/events/jetstream"
	"github.com/matryer/is"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	user     = "tester"
	password = "p%s:w/rd-quite-secret"
	// patience is how long tests wait for what has to happen.
	patience = 20 * time.Second
	// asServer has the test binary be a server: its value is the port, the
	// password and the folder, apart by newlines.
	asServer = "JETSTREAM_TEST_SERVER"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(asServer); spec != "" {
		if err := serve(strings.SplitN(spec, "\n", 3)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve runs a server until standard input ends, as it does when the test is
// killed. The line "full" makes the disk full, "free" mends that.
func serve(spec []string) error {
	port, err := strconv.Atoi(spec[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := jetstream.NewServer(jetstream.ServerOptions{Dir: spec[2], Port: port, User: user, Password: spec[1]})
	go func() {
		defer cancel()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			switch lines.Text() {
			case "full":
				err = limitFiles(1)
			case "free":
				err = limitFiles(1 << 40)
			case "health":
				err = server.Health()
			}
			fmt.Println(lines.Text(), strings.ReplaceAll(fmt.Sprint(err), "\n", " "))
		}
	}()
	return server.Run(ctx)
}

// limitFiles has every write beyond the size fail.
func limitFiles(size uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(size, limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

// serverProcess is a server in a process of its own.
type serverProcess struct {
	t        *testing.T
	dir      string
	port     int
	password string
	cmd      *exec.Cmd
	in       interface{ Close() error }
	out      *bufio.Reader
	say      func(string)
}

// newServerProcess chooses the port and the folder; start starts the server.
func newServerProcess(t *testing.T) *serverProcess {
	return &serverProcess{t: t, dir: t.TempDir(), port: freePort(t), password: password}
}

func (p *serverProcess) url() string { return jetstream.ServerURL(user, p.password, p.port) }

func (p *serverProcess) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d\n%s\n%s", asServer, p.port, p.password, p.dir))
	in, err := p.cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewReader(out)
	p.say = func(line string) { fmt.Fprintln(in, line) }
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd := p.cmd
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// tell has the server do something and returns its answer.
func (p *serverProcess) tell(what string) string {
	p.t.Helper()
	p.say(what)
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, what+" "))
}

// kill ends the server as a power cut would.
func (p *serverProcess) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait()
}

// stop ends the server in good order.
func (p *serverProcess) stop() {
	p.t.Helper()
	p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatal(err)
	}
}

// connect connects to the server as node n, for the time of the test.
func (p *serverProcess) connect() *jetstream.Bus { return connect(p.t, p.url(), "n") }

func connect(t *testing.T, url, node string) *jetstream.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	bus, err := jetstream.Connect(ctx, jetstream.Options{URL: url, Node: node, Name: t.Name(), Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	return bus
}

// admin is a way to the server past the bus.
func admin(t *testing.T, url string) (*nats.Conn, natsjs.JetStream) {
	t.Helper()
	conn, err := nats.Connect(url, nats.RetryOnFailedConnect(true), nats.ReconnectWait(20*time.Millisecond), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := natsjs.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return conn, js
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// embedded runs a server in this process and returns its URL.
func embedded(t testing.TB) string {
	t.Helper()
	port := freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	o := jetstream.ServerOptions{Dir: t.TempDir(), Port: port, User: user, Password: password}
	go func() { ended <- jetstream.Serve(ctx, o, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return jetstream.ServerURL(user, password, port)
}

// logger logs to the test, and fails it where the password is logged.
func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(&testLog{t: t}, nil)) }

type testLog struct {
	t  testing.TB
	mu sync.Mutex
}

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(line, []byte(password)) || bytes.Contains(line, []byte("quite-secret")) {
		l.t.Error("the password is logged")
	}
	l.t.Log(string(bytes.TrimSpace(line)))
	return len(line), nil
}

func event(t testing.TB, entity string, n int) events.Event {
	t.Helper()
	e, err := events.New(events.Registered, "/lab/n/test", entity, map[string]int{"n": n})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func number(t testing.TB, e events.Event) int {
	t.Helper()
	data, err := events.Data[map[string]int](e)
	if err != nil {
		t.Error(err)
	}
	return data["n"]
}

func publish(t testing.TB, bus events.Bus, all ...events.Event) {
	t.Helper()
	for _, e := range all {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := bus.Publish(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
}

// listen subscribes for the time of the test and sends the numbers of the
// events on the channel it returns.
func listen(t *testing.T, bus events.Bus, sub events.Subscription) <-chan int {
	t.Helper()
	numbers, _ := listenUntil(t, bus, sub)
	return numbers
}

// listenUntil also returns what ends the subscription.
func listenUntil(t *testing.T, bus events.Bus, sub events.Subscription) (<-chan int, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	numbers, ready, ended := make(chan int, 10_000), make(chan struct{}), make(chan error, 1)
	sub.Ready = func() { close(ready) }
	go func() {
		ended <- bus.Subscribe(ctx, sub, func(_ context.Context, e events.Event) error {
			numbers <- number(t, e)
			return nil
		})
	}()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("subscription ended with %v", err)
		}
	})
	t.Cleanup(end)
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatal("subscription is not in force")
	}
	return numbers, end
}

// expect waits for exactly these numbers.
func expect(t *testing.T, got <-chan int, want ...int) {
	t.Helper()
	is := is.New(t)
	for _, w := range want {
		select {
		case n := <-got:
			is.Equal(n, w)
		case <-time.After(patience):
			t.Fatalf("%d does not come", w)
		}
	}
}

// eventually polls for what has to become true.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what + " does not happen")
		}
	}
}
