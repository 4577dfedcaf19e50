//go:build linux

package proc_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stampSource is the child of the benchmarks, as small as a program can be: it
// writes down when it starts and, asked to end, when it ends.
const stampSource = `
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static void stamp(int fd, const char *name, const char *what) {
	struct timespec t;
	char line[256];
	clock_gettime(CLOCK_MONOTONIC, &t);
	int n = snprintf(line, sizeof line, "%s %s %d %lld\n", name, what, getpid(), t.tv_sec * 1000000000LL + t.tv_nsec);
	if (write(fd, line, n) != n) _exit(1);
}
int main(int argc, char **argv) {
	int fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	stamp(fd, argv[2], "start");
	if (strcmp(argv[3], "end")) for (;;) pause();
	usleep(atoi(argv[4]) * 1000);
	stamp(fd, argv[2], "end");
	_exit(0);
}
`

// stamps is the file in which children write when they started and ended.
type stamps struct {
	program, path string
}

type stamp struct {
	name, what string
	pid        int
	at         time.Duration
}

// newStamps compiles the child.
func newStamps(tb testing.TB) *stamps {
	tb.Helper()
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		tb.Skip("there is no gcc to compile the child with")
	}
	dir := tb.TempDir()
	s := &stamps{program: filepath.Join(dir, "stamp"), path: filepath.Join(dir, "stamps")}
	gcc := exec.Command(compiler, "-O2", "-static", "-x", "c", "-o", s.program, "-")
	gcc.Stdin = strings.NewReader(stampSource)
	if out, err := gcc.CombinedOutput(); err != nil {
		tb.Fatalf("compile child: %v\n%s", err, out)
	}
	return s
}

func (s *stamps) command(name string, args ...string) []string {
	return append([]string{s.program, s.path, name}, args...)
}

// read returns what children have written.
func (s *stamps) read() []stamp {
	b, _ := os.ReadFile(s.path) // none has written yet
	var list []stamp
	for line := range strings.Lines(string(b)) {
		var one stamp
		var ns int64
		if n, _ := fmt.Sscan(line, &one.name, &one.what, &one.pid, &ns); n == 4 {
			one.at = time.Duration(ns)
			list = append(list, one)
		}
	}
	return list
}

// await waits until a child has written something so many times.
func (s *stamps) await(tb testing.TB, name, what string, times int) {
	tb.Helper()
	s.until(tb, name+" "+what, func() bool {
		n := 0
		for _, one := range s.read() {
			if one.name == name && one.what == what {
				n++
			}
		}
		return n >= times
	})
}

// awaitAll waits until so many children have started.
func (s *stamps) awaitAll(tb testing.TB, n int) {
	tb.Helper()
	s.until(tb, "all have started", func() bool { return len(s.read()) >= n })
}

func (s *stamps) until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(4 * patience); !holds(); pause() {
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain for %s", what)
		}
	}
}

// at is when a child first wrote something.
func (s *stamps) at(tb testing.TB, name, what string) time.Duration {
	tb.Helper()
	list := s.read()
	i := slices.IndexFunc(list, func(one stamp) bool { return one.name == name && one.what == what })
	if i < 0 {
		tb.Fatalf("%s wrote no %s", name, what)
	}
	return list[i].at
}

// last is what a child wrote last.
func (s *stamps) last(name string) stamp {
	var last stamp
	for _, one := range s.read() {
		if one.name == name {
			last = one
		}
	}
	return last
}

// newest is when any child last wrote.
func (s *stamps) newest() time.Duration {
	var newest time.Duration
	for _, one := range s.read() {
		newest = max(newest, one.at)
	}
	return newest
}

// monotonic is this moment on the clock of the stamps.
func monotonic(tb testing.TB) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// fork starts a program.
func fork(tb testing.TB, command []string) *os.Process {
	p, err := os.StartProcess(command[0], command, &os.ProcAttr{Files: []*os.File{nil, nil, nil}})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func wait(tb testing.TB, p *os.Process) {
	if _, err := p.Wait(); err != nil {
		tb.Fatal(err)
	}
}

// peer is another supervisor.
type peer struct {
	tb   testing.TB
	dir  string // of its services
	path string // of its program
}

func newPeer(tb testing.TB, program string) peer {
	tb.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		tb.Skip(program + " is not installed")
	}
	return peer{tb: tb, dir: tb.TempDir(), path: path}
}

// start starts the supervisor, and ends it and all it started with the test.
func (p peer) start(args ...string) int {
	p.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		p.tb.Fatal(err)
	}
	p.tb.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // by the signal
		for p.killRest() {
			pause()
		}
	})
	return cmd.Process.Pid
}

// killRest kills what names the folder of the test or runs in it, and reports
// whether there was any.
func (p peer) killRest() (any bool) {
	for _, pid := range pids() {
		cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if dir := filepath.Dir(p.dir) + "/"; strings.Contains(kernelText(pid, "cmdline"), dir) || strings.HasPrefix(cwd, dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone
			any = true
		}
	}
	return any
}

func (p peer) write(name, text string, mode os.FileMode) {
	p.tb.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		p.tb.Fatal(err)
	}
}

type dinit struct{ peer }

func newDinit(tb testing.TB) dinit { return dinit{newPeer(tb, "dinit")} }

// service declares a service that waits for others.
func (d dinit) service(name, kind string, command []string, after ...string) {
	text := "type = " + kind + "\ncommand = " + strings.Join(command, " ") + "\n"
	for _, other := range after {
		text += "depends-on = " + other + "\n"
	}
	d.write(name, text, 0o600)
}

// boot starts services.
func (d dinit) boot(names ...string) (pid int) {
	text := "type = internal\n"
	for _, name := range names {
		text += "depends-on = " + name + "\n"
	}
	d.write("boot", text, 0o600)
	return d.start("-u", "-q", "-d", d.dir, "-p", filepath.Join(d.dir, "socket"), "boot")
}

type runit struct{ peer }

func newRunit(tb testing.TB) runit { return runit{newPeer(tb, "runsvdir")} }

func (r runit) service(name string, command []string) {
	r.write(filepath.Join(name, "run"), "#!/bin/sh\nexec "+strings.Join(command, " ")+"\n", 0o700)
}

func (r runit) boot() (pid int) { return r.start(r.dir) }
