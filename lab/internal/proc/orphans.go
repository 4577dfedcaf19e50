//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// orphans are the processes of an installation that have outlived a keeper:
// they are no children of this one. How such a process ended the kernel tells
// only to who held it when it did, and a supervisor may be dead just then. So
// the keeper holds them as well, and notes their ends with those of its
// children.
type orphans struct {
	log   *slog.Logger
	notes exits

	mu      sync.Mutex
	held    map[*process]bool
	waiters sync.WaitGroup
}

// take takes hold of the orphans that were handed on across an execve; where
// there was none, of those to be found.
func (o *orphans) take(ctx context.Context, handed, boot, root string) error {
	for _, one := range strings.Fields(handed) {
		id, fd := identity{Boot: boot}, 0
		if _, err := fmt.Sscanf(one, "%d:%d:%d", &fd, &id.PID, &id.Ticks); err != nil {
			return fmt.Errorf("parse orphan %q: %w", one, err)
		}
		o.hold(ctx, hold(id, "", fd, nil))
	}
	if handed != "" {
		return nil
	}
	all, err := stats()
	if err != nil {
		return fmt.Errorf("look for orphans: %w", err)
	}
	for pid, s := range all {
		if s.session != pid || s.parent == os.Getpid() || !carries(pid, "PATH_ROOT="+root) || jobOf(pid) == "" {
			continue
		}
		p, err := adopt(identity{boot, pid, s.ticks}, "", nil)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return err
		}
		o.hold(ctx, p)
	}
	return nil
}

// hold notes how the process ends, as soon as it does.
func (o *orphans) hold(ctx context.Context, p *process) {
	o.mu.Lock()
	o.held[p] = true
	o.mu.Unlock()
	o.waiters.Go(func() {
		defer p.close()
		if !p.wait() {
			return
		}
		if e := p.ending(ctx, o.notes, learnTime); e.Known {
			if err := o.notes.write(p.identity, e); err != nil {
				o.log.Error("note how an orphan ended", "pid", p.PID, "ending", e.String(), "error", err)
			}
		}
		o.mu.Lock()
		delete(o.held, p)
		o.mu.Unlock()
	})
}

// list returns those that have not ended.
func (o *orphans) list() []*process {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.held))
}

// letGo lets go of all.
func (o *orphans) letGo() {
	for _, p := range o.list() {
		p.close()
	}
	o.waiters.Wait()
}

// again returns a second hold of the process.
func (p *process) again() (*process, error) {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var failed error
	if err := conn.Control(func(old uintptr) { fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, os.NewSyscallError("fcntl", failed)
	}
	return hold(p.identity, p.job, fd, nil), nil
}

// handOn lets the descriptors of the processes survive an execve. It returns
// the words by which the successor knows them, and a function that undoes it.
func handOn(list []*process) (words string, undo func()) {
	var all []string
	each := func(do func(p *process, fd uintptr)) {
		for _, p := range list {
			if conn, err := p.file.SyscallConn(); err == nil {
				_ = conn.Control(func(fd uintptr) { do(p, fd) }) // one that is closed by now has ended
			}
		}
	}
	each(func(p *process, fd uintptr) {
		if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err == nil {
			all = append(all, strings.Join([]string{strconv.Itoa(int(fd)), strconv.Itoa(p.PID), strconv.FormatUint(p.Ticks, 10)}, ":"))
		}
	})
	return strings.Join(all, " "), func() { each(func(_ *process, fd uintptr) { unix.CloseOnExec(int(fd)) }) }
}
