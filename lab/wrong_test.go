package main_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/matryer/is"
)

// TestWrongDesignIsNoticed makes the same call with the media in the process
// group of a control plane, and restarts that: the measurement has to tell.
// It measures time, so no other test of this package runs beside it.
func TestWrongDesignIsNoticed(t *testing.T) {
	is := is.New(t)
	m := newHandMade(t)
	// A control plane as it was once: the media are its children, in its group.
	start := func() *exec.Cmd {
		return m.start(t, "sh", "-c", `"$0" --config "$1" & wait`, m.binary, m.config)
	}
	control := start()
	m.awaitReady(t)
	c := startCall(t, room, func(identity string) joinToken { return m.token(t, room, identity) })
	c.awaitFrames(100)
	is.NoErr(syscall.Kill(-control.Process.Pid, syscall.SIGKILL)) // a supervisor's restart ends the whole group
	_ = control.Wait()
	eventually(t, 5*time.Second, m.isGone)
	start()
	m.awaitReady(t)
	c.awaitFrames(300)
	report := c.end()
	complaints := strings.Join(append(report.complaints(), report.blemishes(1000)...), "\n")
	t.Log(complaints)
	is.True(strings.Contains(complaints, "listener-1 lost"))
	is.True(strings.Contains(complaints, "speaker reconnected"))
	is.True(strings.Contains(complaints, "listener-1 heard nothing for"))
}

// handMade is a livekit-server without any lab, to compare with.
type handMade struct {
	binary, config string
	port           int
	key, secret    string
}

func newHandMade(t *testing.T) handMade {
	t.Helper()
	store, err := livekitStore()
	if err != nil {
		t.Fatal(err)
	}
	found := filesBelow(store, "/livekit-server")
	if len(found) != 1 {
		t.Fatalf("the store has %v for livekit-server", found)
	}
	m := handMade{binary: found[0], config: filepath.Join(t.TempDir(), "livekit.yaml"), port: freePort(t), key: "hand", secret: strings.Repeat("made", 10)}
	text := fmt.Sprintf(`port: %d
bind_addresses: ["127.0.0.1"]
rtc: {udp_port: %d, tcp_port: 0, node_ip: 127.0.0.1, use_external_ip: false, enable_loopback_candidate: true, ips: {includes: ["127.0.0.1/32"]}}
logging: {level: info, json: true}
keys: {%s: %s}
`, m.port, freePort(t), m.key, m.secret)
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

// start runs a command in a process group of its own, whose end is the test's.
func (m handMade) start(t *testing.T, command ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil { // as long as it is not waited for, its number is its own
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
		}
	})
	return cmd
}

// awaitReady waits until the server accepts a token, and returns how long that
// took.
func (m handMade) awaitReady(t *testing.T) time.Duration {
	t.Helper()
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	url := fmt.Sprintf("http://127.0.0.1:%d/rtc/validate?access_token=%s", m.port, m.token(t, room, "probe").Token)
	return eventually(t, 30*time.Second, func() error {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("livekit-server answers %s", answer.Status)
		}
		return nil
	})
}

// isGone returns nil once nobody listens on the server's port.
func (m handMade) isGone() error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
	if err != nil {
		return err
	}
	return l.Close()
}

// token signs a join token.
func (m handMade) token(t *testing.T, room, identity string) joinToken {
	t.Helper()
	expires := time.Now().Add(time.Hour)
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": m.key, "sub": identity, "nbf": time.Now().Add(-time.Second).Unix(), "exp": expires.Unix(),
		"video": map[string]any{"room": room, "roomJoin": true, "canPublish": true, "canSubscribe": true},
	}).SignedString([]byte(m.secret))
	if err != nil {
		t.Fatal(err)
	}
	return joinToken{URL: fmt.Sprintf("ws://127.0.0.1:%d", m.port), Token: text, ExpiresAt: expires}
}

// freePort returns a port that nobody listened on a moment ago, for TCP or UDP.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
