//go:build linux

package proc_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/proc"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// TestMain makes the test binary every program that the tests need: the
// keeper, the supervisor, and what they supervise.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if play, ok := roles[os.Args[1]]; ok {
			os.Exit(play(os.Args[2:]))
		}
	}
	flag.Parse()
	// The tests wait more than they compute. The variable is for keepers.
	if err := errors.Join(flag.Set("test.parallel", "6"), os.Setenv("GORACE", noNap)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// noNap keeps programs that were built with the race detector from sleeping
// for a second before they exit.
const noNap = "atexit_sleep_ms=0"

// roles are the programs that the test binary can be.
var roles = map[string]func(args []string) int{
	"role:keeper": keeper,
	"role:stay":   stay,
	"role:chatty": chatty,
	"role:exit":   exit,
	"role:gate":   gate,
	"role:await":  await,
	"role:deaf":   deaf,
	"role:drain":  drain,
	"role:tree":   tree,
	"role:show":   show,
	"role:notify": notify,
	"role:flood":  flood,
	"role:leaf":   leaf,
	"role:count":  count,
}

// keeper is "lab proc --root ROOT" with the size at which output is cut.
func keeper(args []string) int {
	root, supervise := args[0], args[len(args)-1] == proc.SuperviseFlag
	limit, _ := strconv.ParseInt(args[1], 10, 64)
	paths, err := plugin.NewPaths(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cfg := proc.Config{
		Paths: paths, Version: "test", LogCap: limit,
		Command: []string{self(), "role:keeper", root, args[1]},
		Log:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	run := proc.Keep
	if supervise {
		run = proc.Supervise
	}
	err = run(context.Background(), cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	return proc.ExitCode(err)
}

// stay stays until it gets a TERM, and says how it got to be.
func stay([]string) int {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	fmt.Println("up")
	<-term
	fmt.Println("down")
	return 0
}

// chatty writes a line every 5 ms.
func chatty([]string) int {
	for i := 0; ; i++ {
		if _, err := fmt.Println("line", i); err != nil {
			return 1
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// exit says something and ends with a code.
func exit(args []string) int {
	code, _ := strconv.Atoi(args[0])
	fmt.Println(strings.Join(args[1:], " "))
	fmt.Println()
	return code
}

// gate succeeds when a file is there.
func gate(args []string) int {
	if _, err := os.Stat(args[0]); err != nil {
		fmt.Println("cannot configure: no gate")
		return 1
	}
	return 0
}

// await ends with a code as soon as a file is there.
func await(args []string) int {
	for !exists(args[0]) {
		time.Sleep(2 * time.Millisecond)
	}
	return exit(args[1:])
}

// deaf says how often it was asked to end, and does not.
func deaf([]string) int {
	term := make(chan os.Signal, 8)
	signal.Notify(term, syscall.SIGTERM)
	fmt.Println("up")
	for range term {
		fmt.Println("TERM")
	}
	return 0
}

// drain is up once a first file is there, says TERM at each signal, and ends
// after one as soon as a second file is there.
func drain(args []string) int {
	term := make(chan os.Signal, 8)
	signal.Notify(term, syscall.SIGTERM)
	for !exists(args[0]) {
		time.Sleep(2 * time.Millisecond)
	}
	fmt.Println("up")
	asked := false
	for {
		select {
		case <-term:
			asked = true
			fmt.Println("TERM")
		case <-time.After(2 * time.Millisecond):
			if asked && exists(args[1]) {
				return 0
			}
		}
	}
}

// tree starts children of several kinds of loyalty and then stays or, with
// "leave", ends.
func tree(args []string) int {
	start := func(name string, attr *syscall.SysProcAttr, env []string, sub ...string) {
		cmd := exec.Command(self(), append([]string{"role:leaf", filepath.Join(args[0], name)}, sub...)...)
		cmd.SysProcAttr, cmd.Env = attr, env
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
		}
	}
	start("group", nil, os.Environ())
	start("session", &syscall.SysProcAttr{Setsid: true}, os.Environ())
	start("unmarked", nil, []string{})
	start("unmarked-group", &syscall.SysProcAttr{Setpgid: true}, []string{})
	start("orphan-parent", &syscall.SysProcAttr{Setsid: true}, os.Environ(), "fork", filepath.Join(args[0], "orphan"))
	if len(args) > 1 && args[1] == "unmarked-session" {
		start("unmarked-session", &syscall.SysProcAttr{Setsid: true}, []string{})
	}
	for _, name := range args[2:] {
		for !exists(filepath.Join(args[0], name)) {
			time.Sleep(2 * time.Millisecond)
		}
	}
	if len(args) > 1 && args[1] == "leave" {
		fmt.Println("leaves its children behind")
		return 3
	}
	select {}
}

// leaf is deaf to every polite signal and writes its PID to a file; with "fork"
// it starts one more such and ends.
func leaf(args []string) int {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := os.WriteFile(args[0], []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return 1
	}
	if len(args) > 2 && args[1] == "fork" {
		cmd := exec.Command(self(), "role:leaf", args[2])
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if cmd.Start() != nil {
			return 1
		}
		return 0
	}
	select {}
}

// show says what it got from its parent.
func show([]string) int {
	for _, v := range os.Environ() {
		fmt.Println("env", v)
	}
	dir, _ := os.Getwd()
	fmt.Println("cwd", dir)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "SigBlk") || strings.HasPrefix(line, "SigIgn") {
			fmt.Print(line)
		}
	}
	for fd := 3; fd < 64; fd++ {
		if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && !strings.HasPrefix(target, "anon_inode:") {
			fmt.Println("fd", fd, target)
		}
	}
	in, _ := os.Readlink("/proc/self/fd/0")
	fmt.Println("stdin", in)
	return 0
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// notify says what it is at, and once a file is there that it is ready.
func notify(args []string) int {
	say := func(text string) {
		conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
		if err == nil {
			_, err = conn.Write([]byte(text))
		}
		if err != nil {
			fmt.Println(err)
		}
	}
	say("STATUS=warming up\n")
	for !exists(args[0]) {
		time.Sleep(2 * time.Millisecond)
	}
	say("READY=1")
	fmt.Println("notified")
	select {}
}

// flood writes numbered lines as fast as it can, and stays.
func flood(args []string) int {
	n, _ := strconv.Atoi(args[0])
	out := bufio.NewWriter(os.Stdout)
	for i := range n {
		fmt.Fprintln(out, i+1)
	}
	if out.Flush() != nil {
		return 1
	}
	select {}
}
