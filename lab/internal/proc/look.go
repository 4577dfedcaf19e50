//go:build linux

package proc

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"golang.org/x/sys/unix"
)

// Kept reports whether the installation has a living keeper, and so a
// supervisor now or in a moment.
func Kept(paths plugin.Paths) bool {
	f, err := os.Open(layout{dir: paths.Var(Name)}.keeperLock())
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// LeftBehind reports whether a process of the installation's services is
// alive, as after its keeper and supervisor were killed.
func LeftBehind(paths plugin.Paths) (bool, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && carries(pid, "PATH_ROOT="+paths.Root) && jobOf(pid) != "" {
			return true, nil
		}
	}
	return false, nil
}

// jobOf returns the ID of the job that the process belongs to, by its
// environment; empty when it is of none.
func jobOf(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	for _, variable := range strings.Split(string(b), "\x00") {
		if id, ok := strings.CutPrefix(variable, jobVariable+"="); ok {
			return id
		}
	}
	return ""
}
