//go:build linux

package proc_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

func TestTakenSocketIsReported(t *testing.T) {
	t.Parallel()
	h := up(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	h.is.NoErr(err)
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	h.is.NoErr(err)
	defer udp.Close()
	unix := listen(t, h.file("s"))
	a := play("a", "stay")
	a.RestartDelayMS, a.RestartDelayMaxMS = 1, 10
	for socket, let := range map[string]func() error{
		fmt.Sprintf("tcp:%d", tcp.Addr().(*net.TCPAddr).Port):      tcp.Close,
		fmt.Sprintf("udp:%d", udp.LocalAddr().(*net.UDPAddr).Port): udp.Close,
		"unix:" + h.file("s"): unix.Close,
	} {
		a.Sockets = append(a.Sockets[:0:0], socket)
		network, address, _ := strings.Cut(socket, ":")
		h.set(network, a)
		want := fmt.Sprintf("%s %s is held by PID %d (%s", network, address, os.Getpid(), filepath.Base(os.Args[0])[:8])
		h.until("it is reported who is in the way", func() bool { return strings.HasPrefix(h.action(network, "a").Why, want) })
		h.is.Equal(h.action(network, "a").PID, 0) // and nothing was started
		h.is.NoErr(let())
		h.reaches(network, "a", plugin.Running)
	}
}

// TestOtherIsKilled has a foreign process of the very same program in the way.
func TestOtherIsKilled(t *testing.T) {
	t.Parallel()
	h := up(t)
	program := h.file("program")
	b, err := os.ReadFile("/bin/sleep")
	h.is.NoErr(err)
	h.is.NoErr(os.WriteFile(program, b, 0o700))
	foreign, bystander := exec.Command(program, "1000"), exec.Command("/bin/sleep", "1000")
	for _, cmd := range []*exec.Cmd{foreign, bystander} {
		h.is.NoErr(cmd.Start())
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	}
	a := plugin.Action{Name: "a", Command: []string{program, "1001"}, Singleton: true, Restart: plugin.RestartNever}
	h.set("s", a)
	h.is.Equal(h.reaches("s", "a", plugin.Failed).Why, fmt.Sprintf("%s is held by PID %d (program)", program, foreign.Process.Pid))
	h.is.True(runs(foreign.Process.Pid))

	a.KillOther = true
	h.set("s", a)
	h.reaches("s", "a", plugin.Running)
	h.is.True(!runs(foreign.Process.Pid))
	h.is.True(runs(bystander.Process.Pid)) // the same name is not the same program

	a.Name = "b"
	h.set("other", a)
	got := h.reaches("other", "b", plugin.Failed)
	h.is.True(strings.HasSuffix(got.Why, "of another service: it is not killed"))
	h.is.Equal(h.action("s", "a").State, plugin.Running)
}
