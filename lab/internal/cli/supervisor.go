package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/proc"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
)

// ensureSupervisor has a supervisor of this build run. Two that are started at
// once settle among themselves who stays.
func (a *App) ensureSupervisor(ctx context.Context, paths plugin.Paths, build string) (client *procclient.Client, started bool, err error) {
	client, _, err = a.Supervisor()
	if err != nil {
		return nil, false, err
	}
	info, err := client.Info(ctx)
	switch {
	case err == nil && info.Version == a.supervisorVersion(build):
		return client, false, nil
	case err == nil:
		if err := client.RestartSupervisor(ctx); err != nil {
			return nil, false, fmt.Errorf("restart hero_proc as this version: %w", err)
		}
		err = ready.Wait(ctx, 25*time.Millisecond, func(ctx context.Context) error {
			now, err := client.Info(ctx)
			if err == nil && now.Version == info.Version {
				return errors.New("hero_proc is still the old one")
			}
			return err
		})
		return client, true, err
	case !rpc.IsDown(err):
		return nil, false, fmt.Errorf("ask hero_proc: %w", err)
	}
	if proc.Kept(paths) { // somebody else is starting it
		return procclient.New(paths), false, a.awaitSupervisor(ctx, paths)
	}
	exited, err := a.spawnSupervisor(paths)
	if err != nil {
		return nil, false, err
	}
	err = ready.Wait(ctx, 25*time.Millisecond, func(ctx context.Context) error {
		_, err := procclient.Impatient(paths).Info(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			if !proc.Kept(paths) { // else another was quicker
				return ready.Stop(fmt.Errorf("it says: %s", lastLines(logFile(paths), 3)))
			}
			return err
		default:
			return err
		}
	})
	if err != nil {
		return nil, false, hinted(fmt.Errorf("start hero_proc: %w", err), "its log is %s", logFile(paths))
	}
	return procclient.New(paths), true, nil
}

// awaitSupervisor waits for the supervisor of a keeper that lives.
func (a *App) awaitSupervisor(ctx context.Context, paths plugin.Paths) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("its keeper lives, but no supervisor answers"))
	defer cancel()
	err := ready.Wait(ctx, 25*time.Millisecond, func(ctx context.Context) error {
		_, err := procclient.Impatient(paths).Info(ctx)
		return err
	})
	if err != nil {
		return hinted(fmt.Errorf("wait for hero_proc: %w", context.Cause(ctx)), "its log is %s", logFile(paths))
	}
	return nil
}

// supervisorVersion is how a supervisor of this build calls itself.
func (a *App) supervisorVersion(build string) string { return a.Version + "+" + build }

// spawnSupervisor starts the installed lab as hero_proc in a session of its
// own, with its output in a file and nothing of this terminal.
func (a *App) spawnSupervisor(paths plugin.Paths) (exited <-chan struct{}, err error) {
	if err := os.MkdirAll(paths.Var("hero_proc"), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of hero_proc: %w", err)
	}
	out, err := os.OpenFile(logFile(paths), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of hero_proc: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(executable(paths), "--root", paths.Root, "--log-level", a.logLevel, "proc")
	cmd.Dir = paths.Var("hero_proc")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range paths.Env() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start hero_proc: %w", err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log tells why it ended
		close(done)
	}()
	return done, nil
}

// lastLines is the end of a log, on one line.
func lastLines(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
