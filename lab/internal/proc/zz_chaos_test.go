//go:build linux

package proc_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

func TestZChaos(t *testing.T) {
	if os.Getenv("CHAOS") == "" { t.Skip() }
	h := up(t)
	const n = 5
	spec := plugin.ServiceSpec{Name: "s"}
	spec.Actions = append(spec.Actions, oneshot(play("conf", "exit", "0", "x")))
	for i := range n {
		a := play(fmt.Sprintf("a%d", i), "leaf", h.file(fmt.Sprintf("pid%d", i)))
		a.RestartDelayMS, a.RestartDelayMaxMS, a.StopTimeoutMS = 1, 5, 20
		a.DependsOn = []string{"conf"}
		spec.Actions = append(spec.Actions, a)
	}
	h.is.NoErr(h.Set(t.Context(), spec))
	end := time.Now().Add(90 * time.Second)
	rounds := 0
	for time.Now().Before(end) {
		rounds++
		info := h.info()
		var keeperStopped bool
		switch rand.IntN(3) {
		case 0:
			go h.Start(t.Context(), "s")
		case 1:
			go h.Stop(t.Context(), "s", rand.IntN(2) == 0)
		case 2:
			go h.Restart(t.Context(), "s")
		}
		<-time.After(time.Duration(rand.IntN(25)) * time.Millisecond)
		switch rand.IntN(5) {
		case 0:
			syscall.Kill(info.PID, syscall.SIGKILL)
		case 1:
			syscall.Kill(info.KeeperPID, syscall.SIGKILL)
		case 2:
			syscall.Kill(info.KeeperPID, syscall.SIGSTOP)
			syscall.Kill(info.PID, syscall.SIGKILL)
			syscall.Kill(info.KeeperPID, syscall.SIGKILL)
			keeperStopped = true
		case 3:
			h.RestartSupervisor(t.Context())
		case 4:
			for pid := range h.copies() { syscall.Kill(pid, syscall.SIGKILL); break }
		}
		if keeperStopped {
			h.until("dead", func() bool { return !runs(info.KeeperPID) && !runs(info.PID) })
			h.start()
		}
		h.until("answers", func() bool { _, err := h.Info(t.Context()); return err == nil })
		_, st, err := h.Get(t.Context(), "s"); h.is.NoErr(err)
		h.until("settled", func() bool {
			_, s2, err := h.Get(t.Context(), "s")
			if err != nil { return false }
			st = s2
			if s2.Wanted == "start" {
				if !s2.Ready { return false }
				for i := range n { if s2.Action(fmt.Sprintf("a%d", i)).PID == 0 { return false } }
				return true
			}
			return !s2.Alive()
		})
		want := 0
		if st.Wanted == "start" { want = n }
		ok := false
		var copies map[int]bool
		for range 400 {
			copies = h.copies()
			_, st, _ = h.Get(t.Context(), "s")
			ok = len(copies) == want
			for _, a := range st.Actions { if a.PID != 0 && a.Name != "conf" { ok = ok && copies[a.PID] } }
			if ok { break }
			want = 0; if st.Wanted == "start" { want = n }
			pause()
		}
		if !ok { t.Fatalf("round %d: want %d copies, have %v: %+v", rounds, want, copies, st) }
		if rounds%20 == 0 { // fresh keeper resets backoff
			i := h.info()
			if h.RestartSupervisor(t.Context()) == nil { h.until("new", func() bool { x, err := h.Info(t.Context()); return err == nil && x.PID != i.PID }) }
		}
	}
	fmt.Println("rounds", rounds)
}
