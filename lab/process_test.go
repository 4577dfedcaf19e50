package main_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// process is one process as /proc shows it.
type process struct {
	pid     int
	command string   // the arguments, as ps shows them
	environ []string // as it was started
}

func (p process) String() string { return fmt.Sprintf("%d %s", p.pid, p.command) }

// kill ends a process of a test's own installation: it was found by its root.
func (p process) kill() { _ = syscall.Kill(p.pid, syscall.SIGKILL) }

// below reports whether the process belongs to the installation in root.
func (p process) below(root string) bool {
	return slices.Contains(p.environ, "PATH_ROOT="+root) || strings.Contains(p.command, root+"/")
}

// processesBelow lists what runs of the installation in root.
func processesBelow(root string) []process {
	var found []process
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if p, ok := readProcess(pid); ok && p.below(root) {
			found = append(found, p)
		}
	}
	return found
}

// readProcess reads what /proc shows of a process; ok is false when it has
// ended.
func readProcess(pid int) (p process, ok bool) {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(folder, "stat"))
	if err != nil || bytes.Contains(stat, []byte(") Z ")) {
		return p, false
	}
	command, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
	environ, _ := os.ReadFile(filepath.Join(folder, "environ"))
	split := func(b []byte) []string { return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00") }
	return process{pid: pid, command: strings.Join(split(command), " "), environ: split(environ)}, true
}

// alive reports whether the process runs.
func alive(pid int) bool {
	_, ok := readProcess(pid)
	return ok
}

// kill9 kills a process of the installation, and only such a one.
func (l *installation) kill9(t *testing.T, pid int) {
	t.Helper()
	p, ok := readProcess(pid)
	if !ok || !p.below(l.root) {
		t.Fatalf("there is no process %d of this installation to kill", pid)
	}
	p.kill()
}

// socketsBelow lists the Unix sockets that somebody listens on below root.
func socketsBelow(t *testing.T, root string) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if path := fields[len(fields)-1]; strings.HasPrefix(path, root+"/") {
			found = append(found, path)
		}
	}
	return found
}

// filesOfSockets lists the Unix sockets that lie below root, in use or not.
func filesOfSockets(root string) []string {
	var found []string
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type() == fs.ModeSocket {
			found = append(found, path)
		}
		return nil // what vanishes meanwhile is none
	})
	return found
}
