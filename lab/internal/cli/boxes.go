package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/host"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/google/renameio/v2"
)

// installSelf puts this executable where the supervisor runs it from, whole or
// not at all, and returns what tells this build from others. What runs from an
// older copy is not disturbed.
func installSelf(paths plugin.Paths) (build string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this executable: %w", err)
	}
	build, err = digest(self)
	if err != nil {
		return "", fmt.Errorf("read this executable: %w", err)
	}
	target := executable(paths)
	if installed, err := digest(target); err == nil && installed == build {
		return build, nil
	}
	if err := os.MkdirAll(paths.Bin(), 0o755); err != nil {
		return "", fmt.Errorf("make folder of executables: %w", err)
	}
	from, err := os.Open(self)
	if err != nil {
		return "", fmt.Errorf("read this executable: %w", err)
	}
	defer from.Close()
	syscall.ForkLock.RLock() // a child forked now would keep the file open for writing, and nobody could run it
	defer syscall.ForkLock.RUnlock()
	to, err := renameio.NewPendingFile(target, renameio.WithPermissions(0o755))
	if err != nil {
		return "", fmt.Errorf("install lab: %w", err)
	}
	defer to.Cleanup() //nolint:errcheck // it is gone once it took its place
	if _, err := io.Copy(to, from); err != nil {
		return "", fmt.Errorf("install lab: %w", err)
	}
	if err := to.CloseAtomicallyReplace(); err != nil {
		return "", fmt.Errorf("install lab: %w", err)
	}
	return build, nil
}

// checkRoot refuses an installation that cannot work, or not safely, before
// anything of it is made.
func checkRoot(paths plugin.Paths, boxes []plugin.ServiceSpec) error {
	for _, box := range boxes {
		if err := rpc.CheckPath(paths.Socket(box.Name)); err != nil {
			return err
		}
	}
	for _, dir := range []string{paths.Root, paths.Bin(), filepath.Dir(paths.Store())} {
		info, err := os.Stat(dir)
		if err == nil && info.Mode().Perm()&0o002 != 0 {
			return hinted(fmt.Errorf("anybody may change what is in %s", dir), "chmod o-w %s", dir)
		}
	}
	return nil
}

// digest is the beginning of the SHA-256 of a file, in hexadecimal.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)[:6]), nil
}

// Box describes a process of lab itself as a service: its one action runs lab
// with the arguments. It is ready when it says so on its socket, and restarted
// when it hangs.
func (a *App) Box(paths plugin.Paths, name, description string, args ...string) plugin.ServiceSpec {
	return plugin.ServiceSpec{
		Name: name, Description: description,
		Actions: []plugin.Action{{
			Name:    name,
			Command: append([]string{executable(paths), "--log-level", a.logLevel}, args...),
			Ready:   []ready.Probe{{Hero: paths.Socket(name)}},
			Health:  []ready.Probe{{Alive: paths.Socket(name)}},

			ProbeTimeoutMS: 5000,
		}},
	}
}

// boxes are all processes of lab itself, in the order in which they come up.
// The build and the bus are part of each registration: a box that was started
// under another is outdated.
func (a *App) boxes(paths plugin.Paths, build string, bus busChoice) []plugin.ServiceSpec {
	var boxes []plugin.ServiceSpec
	if bus.embedded {
		boxes = append(boxes, a.Box(paths, busName, "events: NATS with JetStream", "bus"))
	}
	boxes = append(boxes, a.Box(paths, host.Name, "runs the plugins", "host"))
	if a.Boxes != nil {
		boxes = append(boxes, a.Boxes(a, paths)...)
	}
	for i := range boxes {
		boxes[i].Version = a.Version
		boxes[i].Actions[0].Env = map[string]string{"LAB_BUILD": build, "LAB_BUS": bus.address}
	}
	return boxes
}

// bringUp registers the box, restarts it if what runs is outdated or it has to
// be anew, and waits until it is ready. It reports whether anything had to be
// done.
func bringUp(ctx context.Context, client *procclient.Client, box plugin.ServiceSpec, anew bool) (changed bool, err error) {
	old, _, err := client.Get(ctx, box.Name)
	if err != nil && !errors.Is(err, plugin.ErrNotFound) {
		return false, err
	}
	if err != nil || !old.Equal(box) {
		if err := client.Set(ctx, box); err != nil {
			return false, fmt.Errorf("register %s: %w", box.Name, err)
		}
	}
	_, status, err := client.Get(ctx, box.Name)
	if err != nil {
		return false, err
	}
	replace := status.Alive() && (anew || status.Action(box.Name).Outdated)
	switch {
	case replace:
		err = client.Restart(ctx, box.Name)
	case status.Ready:
		return false, nil
	default:
		err = client.Start(ctx, box.Name)
	}
	if err != nil {
		return false, fmt.Errorf("start %s: %w", box.Name, err)
	}
	since := status.Action(box.Name).StartedAt
	return true, ready.Wait(ctx, 25*time.Millisecond, func(ctx context.Context) error {
		_, now, err := client.Get(ctx, box.Name)
		if rpc.IsDown(err) {
			return ready.Stop(errors.New("hero_proc was stopped meanwhile"))
		}
		if err != nil {
			return err
		}
		action := now.Action(box.Name)
		if now.Ready && (!replace || action.StartedAt != since) {
			return nil
		}
		return fmt.Errorf("%s is %s %s", box.Name, action.State, action.Why)
	})
}

// logFile is where the supervisor's own output goes.
func logFile(paths plugin.Paths) string {
	return filepath.Join(paths.Var("hero_proc"), "hero_proc.log")
}
