package binary_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/matryer/is"
)

func TestKilledWhileItDownloads(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	asset := honest(t)
	spec := upstream.livekit(asset)
	half := make(chan struct{})
	path := "/download/v" + version + "/" + assetName()
	upstream.serve(path, func(w http.ResponseWriter, req *http.Request) {
		_, _ = w.Write(asset[:len(asset)/2])
		w.(http.Flusher).Flush()
		close(half)
		<-req.Context().Done()
	})
	dir := t.TempDir()
	cmd := process(t, order{Dir: dir, Spec: spec})
	is.NoErr(cmd.Start())
	<-half
	is.NoErr(cmd.Process.Kill())
	is.True(cmd.Wait() != nil)
	is.Equal(len(leftovers(t, dir)), 1) // its staging folder
	_, err := binary.NewStore(dir, binary.Options{}).Lookup(spec)
	wantClass(t, err, binary.NotFound)

	upstream.put(path, asset)
	got, err := binary.NewStore(dir, binary.Options{Limits: quick}).Acquire(t.Context(), spec, nil)
	is.NoErr(err)
	runs(t, got)
	is.Equal(len(leftovers(t, dir)), 0)
}

// At whatever moment a process is killed, what can be looked up is whole.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	start := time.Now()
	is.NoErr(process(t, order{Dir: t.TempDir(), Spec: spec}).Run())
	whole := time.Since(start)
	dir := t.TempDir()
	store := binary.NewStore(dir, binary.Options{Limits: quick})
	for range 25 {
		is.NoErr(os.RemoveAll(filepath.Join(dir, "livekit-server", version)))
		cmd := process(t, order{Dir: dir, Spec: spec})
		is.NoErr(cmd.Start())
		<-time.After(rand.N(whole))
		is.NoErr(ignoreDone(cmd.Process.Kill()))
		_ = cmd.Wait() // it was killed, or was done before
		if got, err := store.Lookup(spec); err == nil {
			runs(t, got)
		} else {
			wantClass(t, err, binary.NotFound)
		}
	}
	is.NoErr(os.RemoveAll(filepath.Join(dir, "livekit-server", version)))
	got, err := store.Acquire(t.Context(), spec, nil)
	is.NoErr(err)
	runs(t, got)
	is.Equal(len(leftovers(t, dir)), 0)
}

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// A disk that takes no more: here, no file above so many bytes.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, most := range map[string]uint64{"download": 100 << 10, "unpack": 1 << 20, "receipt": 64} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			upstream := newReleases(t)
			spec := upstream.livekit(gzipped(t, tarball(t, regular("livekit-server", theProgram(t)), regular("LICENSE", nil))))
			if name == "receipt" {
				tiny := []byte("#!/bin/sh\n")
				upstream.put("/tiny", tiny)
				spec = pinned(upstream.URL+"/tiny", tiny)
			}
			dir := t.TempDir()
			out, err := process(t, order{Dir: dir, Spec: spec, MaxWrite: most}).CombinedOutput()
			var exit *exec.ExitError
			is.True(errors.As(err, &exit))
			is.True(strings.HasPrefix(string(out), "io_error "))
			is.True(strings.Contains(string(out), "file too large"))
			is.Equal(len(leftovers(t, dir)), 0)
		})
	}
}

func TestStoreThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	file := filepath.Join(t.TempDir(), "file")
	is.NoErr(os.WriteFile(file, nil, 0o644))
	dir := filepath.Join(file, "store")
	_, err := binary.NewStore(dir, binary.Options{Limits: quick}).Acquire(t.Context(), spec, nil)
	known := wantClass(t, err, binary.IOError)
	is.True(strings.Contains(known.Message, file))
	is.True(strings.Contains(known.Hint, "allow writing"))
	is.Equal(upstream.total.Load(), int64(0))
}
