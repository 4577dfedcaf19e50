//go:build linux

package proc

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// defaultPath is the PATH of a process where neither its action nor the
// supervisor has one.
const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// spawn starts the process of an action. The job is on disk before there is a
// process, and the process carries the job's ID: should the supervisor die
// right after the fork, the next one finds it by that.
func (s *supervisor) spawn(ctx context.Context, u *unit) {
	before := u.record
	u.record = record{
		Service: before.Service, Action: before.Action, State: before.State,
		ID: uuid.NewString(), Spec: *u.spec, identity: identity{Boot: s.boot}, Spawning: true, Started: time.Now(),
		Ended: before.Ended, ExitCode: before.ExitCode, Signal: before.Signal,
		Restarts: before.Restarts, Streak: before.Streak,
	}
	out, size, err := s.openLog(s.files.log(u.Service, u.Action))
	if err == nil {
		defer out.Close()
		u.LogFrom = size
	}
	u.dirty = true
	if s.flush(ctx) != nil {
		u.record = before
		return
	}
	if err == nil {
		err = s.fork(u, out)
	}
	if err != nil {
		u.Spawning = false
		s.failed(u, "start: "+err.Error())
		return
	}
	s.begin(ctx, u)
	_ = s.flush(ctx) // kept in storeError, and tried again
}

// fork starts the unit's process and takes hold of it.
func (s *supervisor) fork(u *unit, out *os.File) error {
	spec, dir := u.record.Spec, s.dir(u)
	if spec.Cwd == "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	files := []*os.File{null, out, out}
	var pid, fd int
	if !reflect.ValueOf(spec.Limits).IsZero() {
		pid, fd, err = startLimited(spec.Command[0], spec.Command, dir, s.environ(u), files, spec.Limits)
	} else {
		pid, fd, err = startProcess(spec.Command[0], spec.Command, dir, s.environ(u), files, new(syscall.SysProcAttr))
	}
	if err == nil {
		err = shareOfMemory(pid, spec.Limits)
	}
	var st stat
	if err == nil {
		st, err = readStat(pid) // our child: there until we reap it
	}
	if err == nil {
		err = unix.SetNonblock(fd, true) // lets the runtime poll it
	}
	if err != nil {
		discard(pid)
		return err
	}
	u.Spawning, u.PID, u.Ticks, u.Started, u.dirty = false, pid, st.ticks, time.Now(), true
	u.proc = hold(u.identity, u.ID, fd, s.survey)
	u.proc.own = true
	return nil
}

// discard ends a child that cannot be looked after; PID 0 is none.
func discard(pid int) {
	if pid != 0 {
		_ = unix.Kill(-pid, unix.SIGKILL) // its group is its own, and it has not been reaped
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
}

// dir is where the unit's process starts.
func (s *supervisor) dir(u *unit) string {
	if u.record.Spec.Limits.User != "" { // who may not look into the folders of another
		return cmp.Or(u.record.Spec.Cwd, "/")
	}
	return cmp.Or(u.record.Spec.Cwd, s.cfg.Paths.Var(u.Service))
}

// environ is the environment of the unit's process: what its action declares,
// where the installation is, and the job's ID; nothing of the supervisor's.
func (s *supervisor) environ(u *unit) []string {
	vars := s.cfg.Paths.Env()
	vars["PATH"] = os.Getenv("PATH")
	if vars["PATH"] == "" {
		vars["PATH"] = defaultPath
	}
	maps.Copy(vars, u.record.Spec.Env)
	vars[jobVariable] = u.ID
	if notifies(u.record.Spec) {
		vars[notifyVariable] = s.files.notify()
	}
	env := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, name+"="+vars[name])
	}
	return env
}

// begin looks after a process from now on, whether just started or adopted.
func (s *supervisor) begin(ctx context.Context, u *unit) {
	u.killed, u.probed, u.said, u.ready = "", "", "", false
	if u.State != plugin.Stopping && !u.EverReady {
		s.move(u, plugin.Starting, "")
	}
	proc, patience := u.proc, hurryTime
	if u.oneshot() {
		patience = learnTime
	}
	s.others.Go(func() { s.watch(ctx, u, proc, patience) })
	s.probe(ctx, u)
}

// watch waits for the end of a process, clears away what it left behind, and
// reports.
func (s *supervisor) watch(ctx context.Context, u *unit, proc *process, patience time.Duration) {
	if !proc.wait() {
		return
	}
	stray := proc.sweep(ctx)
	how := proc.ending(ctx, s.files.exits(), patience)
	if ctx.Err() != nil {
		return // cut short: the next supervisor looks into it
	}
	s.post(func(ctx context.Context) { s.exited(ctx, u, how, stray) })
}

// openLog opens the output of an action for appending and returns how long it
// is.
func (s *supervisor) openLog(book logbook) (*os.File, int64, error) {
	dir := filepath.Dir(string(book))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	s.scribe.watch(dir)
	f, err := os.OpenFile(string(book), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}
