package main_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	livekit "forge.ourworld.tf/lhumina_code/lab/service_livekit"
)

// built is where the executables of this run of the tests are.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "labtest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	preferred.hold()
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// buildLab builds the product, without the race detector: it is timed.
var buildLab = sync.OnceValues(func() (string, error) { return build(".", "lab") })

// buildCaller builds the WebRTC client, a module of its own.
var buildCaller = sync.OnceValues(func() (string, error) { return build("testdata/caller", "caller") })

func build(dir, name string) (string, error) {
	target := filepath.Join(built, name)
	out, err := exec.Command("go", "build", "-C", dir, "-o", target, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return target, nil
}

// livekitStore returns a store that holds livekit-server. The product itself
// acquires it, once per machine: it stays in the user's cache folder.
var livekitStore = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	version := livekit.DefaultSettings().Version
	kept := filepath.Join(cache, "lab-test", runtime.GOOS+"-"+runtime.GOARCH, "livekit-server-"+version)
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	lab, err := buildLab()
	if err != nil {
		return "", err
	}
	root, err := os.MkdirTemp("", "lab")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	if err := acquire(lab, root); err != nil {
		return "", err
	}
	fresh := kept + ".new" + filepath.Base(root)
	defer os.RemoveAll(fresh)
	if err := linkTree(filepath.Join(root, "var", "store", "livekit-server"), filepath.Join(fresh, "livekit-server")); err != nil {
		return "", fmt.Errorf("keep livekit-server: %w", err)
	}
	if err := os.Rename(fresh, kept); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("keep livekit-server: %w", err)
	}
	return kept, nil
})

// acquire has lab bring up an installation for the sake of its binary.
func acquire(lab, root string) error {
	run := func(args ...string) error {
		cmd := exec.Command(lab, args...)
		cmd.Env = append(os.Environ(), "PATH_ROOT="+root, "HERO_SOCKET_DIR=", "NATS_URL=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("lab %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	err := run("up", "--timeout", "15m")
	return errors.Join(err, run("down", "--force"))
}

// linkTree makes to a copy of the folder from, with hard links where the two
// are on one file system.
func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if os.Link(path, target) == nil {
			return nil
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}

// filesBelow lists the regular files below dir whose names end so.
func filesBelow(dir, suffix string) []string {
	var files []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, suffix) {
			files = append(files, path)
		}
		return nil // what vanishes meanwhile is none
	})
	return files
}
