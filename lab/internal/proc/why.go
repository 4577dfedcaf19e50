//go:build linux

package proc

import (
	"fmt"
	"strings"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// why says what the unit waits for or why it failed; nothing where all is well.
func (u *unit) why(now time.Time) string {
	switch u.State {
	case plugin.WaitingDeps:
		return u.blocked(now)
	case plugin.Starting, plugin.Running:
		if u.ready || u.oneshot() {
			return ""
		}
		if u.probed == "" {
			return "is not known to be ready yet"
		}
		if u.said != "" {
			return "not ready: " + u.probed + "; it says: " + u.said
		}
		return "not ready: " + u.probed
	case plugin.Restarting:
		return fmt.Sprintf("%s; is started again at %s", u.Why, u.NextTry.Local().Format("15:04:05.000"))
	case plugin.Stopping:
		return u.stopping()
	}
	return u.Why
}

// stopping says how far the stop is.
func (u *unit) stopping() string {
	if waits := u.svc.dependents(u); len(waits) > 0 && u.StopSent.IsZero() {
		names := make([]string, len(waits))
		for i, d := range waits {
			names[i] = d.Action
		}
		return "asked to stop, once " + strings.Join(names, ", ") + " has ended"
	}
	switch {
	case u.killed != "":
		return u.killed + ", killed"
	case u.StopSent.IsZero():
		return fmt.Sprintf("asked to stop, gets its signal when it has run for %s", stopDelay(u.record.Spec))
	}
	at := u.StopSent.Local().Format("15:04:05")
	if u.record.Spec.Drain && u.svc.ForcedAt.IsZero() {
		return "got its stop signal at " + at + " and ends when its work is done"
	}
	return "got its stop signal at " + at
}

// blocked says which dependency keeps the action from starting; nothing when
// none does.
func (u *unit) blocked(now time.Time) string {
	if held := u.svc.held; held != "" {
		return held
	}
	for _, needs := range u.action().DependsOn {
		if d := u.svc.unit(needs.Action()); d != nil && !d.satisfies(needs.Condition()) {
			return "waits for " + needs.Action() + ", which " + d.standing(now)
		}
	}
	return ""
}

// standing says how the unit stands, to one that waits for it.
func (u *unit) standing(now time.Time) string {
	switch u.State {
	case plugin.Failed:
		return "failed: " + u.Why
	case plugin.Restarting:
		return "failed and is tried again: " + u.Why
	case plugin.WaitingDeps:
		return u.blocked(now)
	case plugin.Inactive:
		return "has not been started"
	case plugin.Stopping:
		return "is being stopped"
	}
	if u.oneshot() {
		return "has not ended yet"
	}
	if u.probed == "" {
		return "is not ready yet"
	}
	return "is not ready: " + u.probed
}
