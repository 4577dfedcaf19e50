//go:build linux

package proc_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// The benchmarks stand beside the floor, which is a Go program that starts the
// same child and waits for it, and beside other supervisors where those are
// installed: dinit and runit.

// BenchmarkGate measures from the end of a oneshot to the first moment of what
// waits for it, when nothing else goes on.
func BenchmarkGate(b *testing.B) {
	const links, takesMS = 24, "20" // longer chains are too much for dinit
	report := func(b *testing.B, s *stamps) {
		var gaps []time.Duration
		for i := range links - 1 {
			gaps = append(gaps, s.at(b, link(i+1), "start")-s.at(b, link(i), "end"))
		}
		reportMS(b, "gate", gaps)
	}
	b.Run("floor", func(b *testing.B) {
		for b.Loop() {
			s := newStamps(b)
			for i := range links {
				wait(b, fork(b, s.command(link(i), "end", takesMS)))
			}
			report(b, s)
		}
	})
	b.Run("hero_proc", func(b *testing.B) {
		for b.Loop() {
			s, h := newStamps(b), up(b)
			var chain []plugin.Action
			for i := range links {
				a := oneshot(plugin.Action{Name: link(i), Command: s.command(link(i), "end", takesMS)})
				if i > 0 {
					a.DependsOn = []plugin.Dependency{plugin.Dependency(link(i - 1))}
				}
				chain = append(chain, a)
			}
			h.set("chain", chain...)
			s.await(b, link(links-1), "end", 1)
			report(b, s)
		}
	})
	b.Run("dinit", func(b *testing.B) {
		for b.Loop() {
			s := newStamps(b)
			d := newDinit(b)
			for i := range links {
				d.service(link(i), "scripted", s.command(link(i), "end", takesMS), after(i)...)
			}
			d.boot(link(links - 1))
			s.await(b, link(links-1), "end", 1)
			report(b, s)
		}
	})
}

func link(i int) string { return fmt.Sprintf("link%d", i) }

// after is what a link of a chain waits for.
func after(i int) []string {
	if i == 0 {
		return nil
	}
	return []string{link(i - 1)}
}

// BenchmarkCrash measures from the SIGKILL of a process to the first moment of
// the one that replaces it.
func BenchmarkCrash(b *testing.B) {
	const times, briefly = 30, 30 * time.Millisecond
	measure := func(b *testing.B, s *stamps, lives time.Duration, replace func()) {
		var gaps []time.Duration
		for i := range times {
			s.await(b, "a", "start", i+1)
			<-time.After(lives)
			began := monotonic(b)
			if err := syscall.Kill(s.last("a").pid, syscall.SIGKILL); err != nil {
				b.Fatal(err)
			}
			replace()
			s.await(b, "a", "start", i+2)
			gaps = append(gaps, s.last("a").at-began)
		}
		reportMS(b, "crash", gaps)
	}
	b.Run("floor", func(b *testing.B) {
		for b.Loop() {
			s := newStamps(b)
			p := fork(b, s.command("a", "stay"))
			measure(b, s, briefly, func() {
				wait(b, p)
				p = fork(b, s.command("a", "stay"))
			})
			if err := p.Kill(); err != nil {
				b.Fatal(err)
			}
			wait(b, p)
		}
	})
	b.Run("hero_proc", func(b *testing.B) {
		for b.Loop() {
			s, h := newStamps(b), up(b)
			h.set("s", plugin.Action{Name: "a", Command: s.command("a", "stay"), StabilityPeriodMS: 1})
			measure(b, s, briefly, func() {})
		}
	})
	b.Run("dinit", func(b *testing.B) {
		for b.Loop() {
			s, d := newStamps(b), newDinit(b)
			d.service("a", "process\nrestart = true\nrestart-delay = 0\nrestart-limit-count = 0", s.command("a", "stay"))
			d.boot("a")
			measure(b, s, briefly, func() {})
		}
	})
	b.Run("runit", func(b *testing.B) {
		for b.Loop() {
			s, r := newStamps(b), newRunit(b)
			r.service("a", s.command("a", "stay"))
			r.boot()
			measure(b, s, 1100*time.Millisecond, func() {}) // what has lived for less than a second it lets wait
		}
	})
}

// BenchmarkMany measures what many processes cost: to start them all, in memory
// and time of the supervisor while nothing happens, and how long nobody answers
// after its SIGKILL.
func BenchmarkMany(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("hero_proc/%d", n), func(b *testing.B) {
			for b.Loop() {
				s, h := newStamps(b), up(b)
				info := h.info()
				before := pss(b, info.PID) + pss(b, info.KeeperPID)
				began := h.crowd(s, n)
				b.ReportMetric((s.newest() - began).Seconds(), "s-to-start")
				<-time.After(2 * time.Second) // what came with the start has gone
				after := pss(b, info.PID) + pss(b, info.KeeperPID)
				b.ReportMetric(float64(after), "KiB-PSS")
				if n >= 1000 { // or else it is what any process costs at first
					b.ReportMetric(float64(after-before)/float64(n), "KiB-PSS/process")
				}
				reportIdle(b, info.PID, info.KeeperPID)
				reportMS(b, "blind", h.blind(10))
			}
		})
	}
	const n = 1000
	b.Run("dinit/1000", func(b *testing.B) {
		for b.Loop() {
			s, d := newStamps(b), newDinit(b)
			var all []string
			for i := range n {
				all = append(all, link(i))
				d.service(link(i), "process", s.command(link(i), "stay"))
			}
			began := monotonic(b)
			pid := d.boot(all...)
			s.awaitAll(b, n)
			b.ReportMetric((s.newest() - began).Seconds(), "s-to-start")
			b.ReportMetric(float64(pss(b, pid)), "KiB-PSS")
			reportIdle(b, pid)
		}
	})
}

// crowd starts so many processes, ten to a service, waits until all run, and
// returns the moment at which the first was asked for.
func (h *hero) crowd(s *stamps, n int) (began time.Duration) {
	const size = 10
	var specs []plugin.ServiceSpec
	for i := range n {
		if i%size == 0 {
			specs = append(specs, plugin.ServiceSpec{Name: fmt.Sprintf("crowd%d", i/size)})
		}
		spec := &specs[i/size]
		spec.Actions = append(spec.Actions, plugin.Action{Name: link(i), Command: s.command(link(i), "stay")})
	}
	for _, spec := range specs {
		h.is.NoErr(h.Set(h.t.Context(), spec))
	}
	began = monotonic(h.t)
	for _, spec := range specs {
		h.is.NoErr(h.Start(h.t.Context(), spec.Name))
	}
	s.awaitAll(h.t, n)
	return began
}

// blind is how long nobody answered after each of some SIGKILLs of the
// supervisor.
func (h *hero) blind(times int) []time.Duration {
	var gaps []time.Duration
	client := procclient.Impatient(h.paths)
	for range times {
		was := h.info().PID
		began := time.Now()
		h.is.NoErr(syscall.Kill(was, syscall.SIGKILL))
		for {
			info, err := client.Info(h.t.Context())
			if err == nil && info.PID != was {
				break
			}
			<-time.After(200 * time.Microsecond)
		}
		gaps = append(gaps, time.Since(began))
		<-time.After(1100 * time.Millisecond) // one that dies again and again is started with pauses
	}
	return gaps
}

// BenchmarkFrozen measures the longest silence of a process that writes a line
// every 5 ms while its supervisor is stopped.
func BenchmarkFrozen(b *testing.B) {
	for b.Loop() {
		h := up(b)
		h.set("s", play("a", "chatty"))
		h.reaches("s", "a", plugin.Running)
		info := h.info()
		for _, pid := range []int{info.KeeperPID, info.PID} {
			h.is.NoErr(syscall.Kill(pid, syscall.SIGSTOP))
		}
		var longest time.Duration
		last, lines := time.Now(), len(h.output("s", "a"))
		for end := last.Add(2 * time.Second); time.Now().Before(end); <-time.After(time.Millisecond) {
			if now := len(h.output("s", "a")); now != lines {
				longest, last, lines = max(longest, time.Since(last)), time.Now(), now
			}
		}
		for _, pid := range []int{info.PID, info.KeeperPID} {
			h.is.NoErr(syscall.Kill(pid, syscall.SIGCONT))
		}
		b.ReportMetric(float64(max(longest, time.Since(last)))/1e6, "ms-silence")
		b.ReportMetric(0, "ns/op")
	}
}

// reportMS reports median and 95th percentile of durations.
func reportMS(b *testing.B, what string, list []time.Duration) {
	b.Helper()
	slices.Sort(list)
	b.ReportMetric(float64(list[len(list)/2])/1e6, "ms-"+what+"-median")
	b.ReportMetric(float64(list[len(list)*95/100])/1e6, "ms-"+what+"-p95")
	b.ReportMetric(0, "ns/op")
}

// reportIdle reports the time that processes spend while nothing happens.
func reportIdle(b *testing.B, pids ...int) {
	b.Helper()
	const seconds = 5
	before := spent(b, pids)
	<-time.After(seconds * time.Second)
	b.ReportMetric(float64(spent(b, pids)-before)/1e6/seconds, "ms-CPU/s-idle")
	b.ReportMetric(0, "ns/op")
}

// spent is the processor time that the processes have taken.
func spent(tb testing.TB, pids []int) (total time.Duration) {
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			tb.Fatal(err)
		}
		for _, task := range tasks {
			var ns int64
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
			_, _ = fmt.Sscan(string(b), &ns) // a thread that has just ended counts no more
			total += time.Duration(ns)
		}
	}
	return total
}

// pss is the memory of a process in KiB, with its share of what it shares.
func pss(tb testing.TB, pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		tb.Fatal(err)
	}
	var kib int
	_, rest, _ := strings.Cut(string(b), "\nPss:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		tb.Fatal(err)
	}
	return kib
}
