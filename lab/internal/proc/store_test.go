//go:build linux

package proc_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/matryer/is"
)

func TestSecrets(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	h.is.NoErr(h.CreateSecret(ctx, "livekit", "secret", "one"))
	h.is.True(errors.Is(h.CreateSecret(ctx, "livekit", "secret", "two"), plugin.ErrExists))
	h.is.NoErr(h.CreateSecret(ctx, "other", "secret", "three"))
	h.is.NoErr(h.CreateSecret(ctx, "livekit", "key", "four"))
	h.killSupervisor()
	value, err := h.GetSecret(ctx, "livekit", "secret")
	h.is.NoErr(err)
	h.is.Equal(value, "one") // the first stays
	h.is.NoErr(h.SetSecret(ctx, "livekit", "secret", "five"))
	value, err = h.GetSecret(ctx, "livekit", "secret")
	h.is.NoErr(err)
	h.is.Equal(value, "five")
	names, err := h.ListSecrets(ctx, "livekit")
	h.is.NoErr(err)
	h.is.Equal(names, []string{"key", "secret"})
	h.is.NoErr(h.DeleteSecret(ctx, "livekit", "secret"))
	_, err = h.GetSecret(ctx, "livekit", "secret")
	h.is.True(errors.Is(err, plugin.ErrNotFound))
	h.is.True(errors.Is(h.DeleteSecret(ctx, "livekit", "secret"), plugin.ErrNotFound))
	h.is.True(h.CreateSecret(ctx, "livekit", "empty", "") != nil)

	created := make(chan error, 8) // of many at once one creates
	for i := range cap(created) {
		go func() { created <- h.CreateSecret(ctx, "race", "secret", fmt.Sprint("value ", i)) }()
	}
	wins := 0
	for range cap(created) {
		if err := <-created; err == nil {
			wins++
		} else {
			h.is.True(errors.Is(err, plugin.ErrExists))
		}
	}
	h.is.Equal(wins, 1)
}

func TestStoreIsPrivate(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.set("s", play("a", "stay"))
	dir := h.paths.Var("hero_proc")
	h.is.NoErr(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return ignoreNotExist(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreNotExist(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	}))
}

func TestDamagedStoreIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHero(t)
	path := filepath.Join(h.paths.Var("hero_proc"), "hero_proc.db")
	h.is.NoErr(os.MkdirAll(filepath.Dir(path), 0o700))
	rubbish := []byte(strings.Repeat("this is no database ", 1000))
	h.is.NoErr(os.WriteFile(path, rubbish, 0o600))
	_, wait := h.start()
	h.is.Equal(wait(), 78) // and no supervisor is tried for ever
	b, err := os.ReadFile(path)
	h.is.NoErr(err)
	h.is.Equal(b, rubbish)
	said, err := os.ReadFile(h.said())
	h.is.NoErr(err)
	h.is.True(strings.Contains(string(said), path+": is damaged"))
}

// edit changes the record of an action in the store, while nobody supervises.
func (h *hero) edit(set string) {
	h.t.Helper()
	info := h.info()
	stopped := exec.Command("kill", "-STOP", fmt.Sprint(info.KeeperPID))
	h.is.NoErr(stopped.Run())
	h.kill(info.PID)
	h.kill(info.KeeperPID)
	db, err := sql.Open("sqlite", filepath.Join(h.paths.Var("hero_proc"), "hero_proc.db"))
	h.is.NoErr(err)
	_, err = db.ExecContext(h.t.Context(), "update jobs set data = json_set(data, "+set+")")
	h.is.NoErr(err)
	h.is.NoErr(db.Close())
}

// TestStrangerWithOurPID gives the PID of an action to a process that is not
// its own: it is not taken for it, and nothing happens to it.
func TestStrangerWithOurPID(t *testing.T) {
	t.Parallel()
	for name, boot := range map[string]string{"same boot": "", "other boot": `, '$.boot', 'another'`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := up(t)
			stranger := exec.Command(self(), "role:stay")
			h.is.NoErr(stranger.Start())
			defer func() {
				h.is.NoErr(stranger.Process.Kill())
				_ = stranger.Wait() // it was killed
			}()
			h.set("s", play("a", "stay"))
			old := h.reaches("s", "a", plugin.Running).PID
			h.edit(fmt.Sprintf(`'$.pid', %d, '$.ticks', data->>'$.ticks' - 1000%s`, stranger.Process.Pid, boot))
			if boot != "" {
				h.kill(old) // as a reboot does
			}
			h.keep()
			h.until("there is another", func() bool {
				a := h.action("s", "a")
				return a.State == plugin.Running && a.PID != old && a.PID != 0
			})
			h.is.True(h.action("s", "a").PID != stranger.Process.Pid)
			h.is.True(runs(stranger.Process.Pid))
			h.is.NoErr(h.Stop(t.Context(), "s", true))
			h.reaches("s", "a", plugin.Inactive)
			h.is.True(runs(stranger.Process.Pid))
			h.is.True(!runs(old)) // it carries the name of the job, and went with it
		})
	}
}

func TestOneshotsRunAgainAfterABoot(t *testing.T) {
	t.Parallel()
	h := up(t)
	h.set("s", oneshot(play("a", "exit", "0", "configured")))
	h.reaches("s", "a", plugin.Succeeded)
	h.edit(`'$.boot', 'another'`)
	h.keep()
	h.says("s", "a", "configured", 2)
}

// seen is an event as Watch tells it.
type seen struct {
	seq    int64
	change events.JobState
}

// watch watches from a position on, until the returned function is called.
func (h *hero) watch(after int64) (<-chan seen, func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	ch, done := make(chan seen, 1000), make(chan error, 1)
	go func() {
		done <- h.Watch(ctx, after, func(seq int64, at time.Time, change events.JobState) error {
			if time.Since(at).Abs() > time.Minute {
				return fmt.Errorf("event of %s", at)
			}
			ch <- seen{seq, change}
			return nil
		})
	}()
	return ch, func() {
		h.t.Helper()
		cancel()
		h.is.NoErr(<-done)
	}
}

// awaitEvent reads events up to one of the action and state.
func awaitEvent(t *testing.T, ch <-chan seen, action, to string) []seen {
	t.Helper()
	var list []seen
	for {
		select {
		case e := <-ch:
			list = append(list, e)
			if e.change.Action == action && e.change.To == to {
				return list
			}
		case <-time.After(patience):
			t.Fatalf("no event %s of %s among %+v", to, action, list)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	fromNow, stop := h.watch(-1)
	defer stop()
	web := play("web", "stay")
	web.DependsOn = []plugin.Dependency{"configure"}
	h.set("s", oneshot(play("configure", "gate", h.file("gate"))), web)
	h.reaches("s", "configure", plugin.Failed)
	h.touch("gate")
	h.is.NoErr(h.Start(ctx, "s"))
	h.reaches("s", "web", plugin.Running)

	all, stopAll := h.watch(0)
	first := awaitEvent(t, all, "web", plugin.Running)
	stopAll()
	var states []string
	for i, e := range first {
		h.is.Equal(e.seq, int64(i+1)) // none is missing, none comes twice
		if e.change.Action == "configure" {
			states = append(states, e.change.To)
		}
	}
	h.is.Equal(states, []string{"waiting_deps", "starting", "running", "failed", "waiting_deps", "starting", "running", "succeeded"})
	for _, e := range first {
		if e.change.To == plugin.Failed {
			h.is.Equal(*e.change.ExitCode, 1)
			h.is.Equal(e.change.Reason, "exited 1: cannot configure: no gate")
		}
	}

	last := first[len(first)-1].seq
	rest, stopRest := h.watch(last) // goes on where the other stopped
	defer stopRest()
	h.killSupervisor() // which it does not notice
	h.is.NoErr(h.Stop(ctx, "s", false))
	for i, e := range awaitEvent(t, rest, "web", plugin.Inactive) {
		h.is.Equal(e.seq, last+int64(i)+1)
	}
	h.is.Equal(awaitEvent(t, fromNow, "web", plugin.Inactive)[0].change.To, plugin.WaitingDeps)

	ahead, stopAhead := h.watch(1 << 40) // a position in a store that is no more
	defer stopAhead()
	h.is.Equal((<-ahead).seq, int64(1))
}

func TestWatchEndsWithAnErrorWhenNobodyIsThere(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	h := newHero(t)
	is.True(h.Watch(t.Context(), 0, nil) != nil)
}

// TestSecretsAreSealed looks for values where they must not be read, and takes
// away the file without which nobody reads them.
func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	const value = "a-value-nobody-may-read"
	keys := filepath.Join(h.paths.Var("hero_proc"), "secrets.keys")
	h.is.NoErr(h.CreateSecret(ctx, "livekit", "secret", value))
	h.is.True(errors.Is(h.RotateSecret(ctx, "livekit", "other", value), plugin.ErrNotFound))
	h.is.NoErr(h.RotateSecret(ctx, "livekit", "secret", value+"-2"))
	before, err := os.ReadFile(keys)
	h.is.NoErr(err)
	h.is.NoErr(h.RekeySecrets(ctx))
	after, err := os.ReadFile(keys)
	h.is.NoErr(err)
	h.is.True(len(before) == len(after) && string(before) != string(after))
	info, err := os.Stat(keys)
	h.is.NoErr(err)
	h.is.Equal(info.Mode().Perm(), os.FileMode(0o600))
	files, err := filepath.Glob(filepath.Join(h.paths.Var("hero_proc"), "*"))
	h.is.NoErr(err)
	for _, f := range files {
		b, _ := os.ReadFile(f) // a folder has nothing to read
		h.is.True(!strings.Contains(string(b), value))
	}

	h.is.NoErr(os.Remove(keys))
	h.killSupervisor()
	_, err = h.GetSecret(ctx, "livekit", "secret")
	h.is.True(err != nil && strings.Contains(err.Error(), "put it back from a copy"))
	h.is.True(h.CreateSecret(ctx, "livekit", "new", "value") != nil) // else there were two truths
	h.set("s", play("a", "stay"))
	h.reaches("s", "a", plugin.Running) // the rest goes on
	h.is.NoErr(os.WriteFile(keys, after, 0o600))
	got, err := h.GetSecret(ctx, "livekit", "secret")
	h.is.NoErr(err)
	h.is.Equal(got, value+"-2")
}

// TestPlainSecretsOfAnOlderStoreAreSealed opens a store as it was before
// secrets were sealed.
func TestPlainSecretsOfAnOlderStoreAreSealed(t *testing.T) {
	t.Parallel()
	h := newHero(t)
	dir := h.paths.Var("hero_proc")
	h.is.NoErr(os.MkdirAll(dir, 0o700))
	file := filepath.Join(dir, "hero_proc.db")
	db, err := sql.Open("sqlite", file)
	h.is.NoErr(err)
	_, err = db.Exec(`
create table services (name text primary key, wanted text not null, spec text not null, data text not null);
create table jobs (service text, action text, data text not null, primary key (service, action));
create table secrets (context text, name text, value text not null, primary key (context, name));
create table events (seq integer primary key autoincrement, time integer not null, data text not null);
create table settings (name text primary key, value text not null);
insert into secrets values ('livekit', 'secret', 'stored-as-it-is');
pragma user_version = 1;`)
	h.is.NoErr(err)
	h.is.NoErr(db.Close())
	h.keep()
	got, err := h.GetSecret(t.Context(), "livekit", "secret")
	h.is.NoErr(err)
	h.is.Equal(got, "stored-as-it-is")
	for _, f := range []string{file, file + "-wal"} {
		b, err := os.ReadFile(f)
		h.is.NoErr(ignoreNotExist(err))
		h.is.True(!strings.Contains(string(b), "stored-as-it-is"))
	}
}

// TestWhatCannotBeWrittenIsNotDone has the store take nothing for a while, as
// on a full disk.
func TestWhatCannotBeWrittenIsNotDone(t *testing.T) {
	t.Parallel()
	h := up(t)
	ctx := t.Context()
	h.set("s", play("a", "stay"))
	pid := h.reaches("s", "a", plugin.Running).PID
	unlock := h.lockStore()
	for what, call := range map[string]func() error{
		"stop":    func() error { return h.Stop(ctx, "s", false) },
		"restart": func() error { return h.Restart(ctx, "s") },
		"delete":  func() error { return h.Delete(ctx, "s", false) },
		"set":     func() error { return h.Set(ctx, plugin.ServiceSpec{Name: "new"}) },
		"end":     func() error { return h.Shutdown(ctx, false) },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "write store") {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.is.True(strings.Contains(h.info().Trouble, "force stops"))
	unlock()
	h.until("it can write again", func() bool { return h.info().Trouble == "" })
	list, err := h.List(ctx)
	h.is.NoErr(err)
	h.is.Equal(len(list), 1) // what failed does not come later
	h.is.Equal(list[0].Wanted, plugin.WantStart)
	h.is.Equal(h.action("s", "a").PID, pid)

	unlock = h.lockStore()
	defer unlock()
	h.is.NoErr(h.Stop(ctx, "s", true)) // force waits for no disk
	h.until("it is down", func() bool { return !runs(pid) })
	h.is.NoErr(h.Shutdown(ctx, true))
	h.until("all have ended", func() bool { return len(h.left()) == 0 })
}

// lockStore keeps everybody else from writing to the store, until the function
// it returns is called.
func (h *hero) lockStore() (unlock func()) {
	h.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(h.paths.Var("hero_proc"), "hero_proc.db"))
	h.is.NoErr(err)
	conn, err := db.Conn(h.t.Context())
	h.is.NoErr(err)
	h.until("the store is free", func() bool {
		_, err := conn.ExecContext(h.t.Context(), "begin immediate")
		return err == nil
	})
	return func() {
		_, _ = conn.ExecContext(context.Background(), "rollback") // again: there is nothing to roll back
		_ = conn.Close()
		_ = db.Close()
	}
}
