//go:build linux

package proc_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// counter is an action that writes so many lines, 0 is for ever, with a pause
// of so many milliseconds after each, and then ends with a code.
func counter(name string, lines, pauseMS, code int, more ...string) plugin.Action {
	args := []string{name, strconv.Itoa(lines), strconv.Itoa(pauseMS), strconv.Itoa(code)}
	return play("a", "count", append(args, more...)...)
}

// count writes numbered lines: what it is, a space, the number. The last one
// says with what code it ends, and when.
func count(args []string) int {
	lines, _ := strconv.Atoi(args[1])
	pauseMS, _ := strconv.Atoi(args[2])
	code, _ := strconv.Atoi(args[3])
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if slices.Contains(args, "deaf") {
		term = nil
	}
	if len(args) > 5 {
		strays(args[5])
	}
	me := fmt.Sprintf("%d.%d", os.Getpid(), time.Now().UnixNano())
	say := func(what ...any) { _, _ = fmt.Println(append([]any{me}, what...)...) }
	for i := 0; lines == 0 || i < lines; i++ {
		say(i)
		select {
		case <-term:
			lines, code = i+1, 0
		case <-time.After(time.Duration(pauseMS) * time.Millisecond):
		}
	}
	say("end", code, time.Now().UnixNano())
	return code
}

// strays starts what should not outlive its parent, and would like to.
func strays(dir string) {
	_ = os.MkdirAll(dir, 0o700) // whatever fails here is missing in the end
	start := func(attr *syscall.SysProcAttr, args ...string) {
		cmd := exec.Command(self(), append([]string{"role:leaf"}, args...)...)
		cmd.SysProcAttr = attr
		_ = cmd.Start()
	}
	start(nil, filepath.Join(dir, "group"))
	start(&syscall.SysProcAttr{Setsid: true}, filepath.Join(dir, "session"))
	start(&syscall.SysProcAttr{Setsid: true}, filepath.Join(dir, "parent"), "fork", filepath.Join(dir, "orphan"))
}
