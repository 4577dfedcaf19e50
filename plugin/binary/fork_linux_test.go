package binary_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/matryer/is"
)

// Whenever this process may fork, no file that may be executed is open for
// writing: a child would hold it open, and starting it would fail with "text
// file busy". Only downloads are, which are never executed.
func TestNothingToExecuteIsOpenForWritingWhileForking(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	content := append([]byte("#!/bin/sh\necho works >&2\nexit\n"), make([]byte, 6<<20)...)
	upstream.put("/tool", content)
	dir := t.TempDir()
	stop := make(chan struct{})
	var looks int
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				looks++
				if name := openForWriting(dir); name != "" {
					t.Errorf("%s is open for writing while a fork may happen", name)
					return
				}
			}
		}
	})
	store := binary.NewStore(dir, binary.Options{Limits: quick})
	for range 10 {
		is.NoErr(os.RemoveAll(filepath.Join(dir, "tool", "1.0.0")))
		got, err := store.Acquire(t.Context(), pinned(upstream.URL+"/tool", content), nil)
		is.NoErr(err)
		runs(t, got)
	}
	close(stop)
	wg.Wait()
	is.True(looks > 100)
}

// openForWriting returns a file below dir, other than a download, that is open
// for writing at a moment at which the process could fork.
func openForWriting(dir string) string {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	links, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err.Error()
	}
	for _, link := range links {
		name, err := os.Readlink("/proc/self/fd/" + link.Name())
		if err != nil || !strings.HasPrefix(name, dir) || filepath.Base(name) == "download" || filepath.Base(name) == "receipt.json" {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + link.Name())
		if again, _ := os.Readlink("/proc/self/fd/" + link.Name()); err != nil || again != name {
			continue // closed meanwhile, and perhaps another file's now
		}
		_, flags, _ := strings.Cut(string(info), "flags:")
		mode, err := strconv.ParseUint(strings.TrimSpace(strings.SplitN(flags, "\n", 2)[0]), 8, 32)
		if err == nil && mode&syscall.O_ACCMODE != syscall.O_RDONLY {
			return name
		}
	}
	return ""
}
