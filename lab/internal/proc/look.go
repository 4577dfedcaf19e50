//go:build linux

package proc

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"golang.org/x/sync/errgroup"
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
	left, err := leftBehind(paths)
	return len(left) > 0, err
}

// EndLeftBehind ends every process of the installation's services, in no order
// and without letting any drain. It is for where no supervisor can be had.
func EndLeftBehind(ctx context.Context, paths plugin.Paths) error {
	for { // what they start meanwhile is found the next time
		left, err := leftBehind(paths)
		if err != nil || len(left) == 0 {
			return err
		}
		group, each := errgroup.WithContext(ctx)
		for _, o := range left {
			group.Go(func() error { return o.end(each) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
}

func leftBehind(paths plugin.Paths) ([]*other, error) {
	all, err := stats()
	if err != nil {
		return nil, err
	}
	var left []*other
	for pid, st := range all {
		if st.state != 'Z' && pid != os.Getpid() && carries(pid, "PATH_ROOT="+paths.Root) && jobOf(pid) != "" {
			left = append(left, &other{pid: pid, ticks: st.ticks})
		}
	}
	return left, nil
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
