package binary_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/matryer/is"
)

func TestAcquireFromTheUpstreamLayout(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	dir := t.TempDir()
	store := binary.NewStore(dir, binary.Options{Limits: quick})

	var steps []string
	got, err := store.Acquire(t.Context(), spec, func(p binary.Progress) {
		is.Equal(p.Source, binary.KindRelease)
		if len(steps) == 0 || steps[len(steps)-1] != p.Step {
			steps = append(steps, p.Step)
		}
	})
	is.NoErr(err)
	is.Equal(strings.Join(steps, " "), "resolve download verify unpack")
	is.Equal(got.Name, "livekit-server")
	is.Equal(got.Version, version)
	is.Equal(got.Source, binary.KindRelease)
	is.Equal(got.Cached, false)
	is.Equal(got.Path, filepath.Join(dir, "livekit-server", version, "livekit-server"))
	runs(t, got)
	is.Equal(len(leftovers(t, dir)), 0)

	licence, err := os.ReadFile(filepath.Join(filepath.Dir(got.Path), "LICENSE"))
	is.NoErr(err)
	is.Equal(string(licence), "a licence")

	var receipt map[string]any
	text, err := os.ReadFile(filepath.Join(filepath.Dir(got.Path), "receipt.json"))
	is.NoErr(err)
	is.NoErr(json.Unmarshal(text, &receipt))
	is.Equal("sha256:"+receipt["sha256"].(string), got.Digest)
	is.Equal(receipt["source"], "release")
	is.True(strings.HasSuffix(receipt["url"].(string), assetName()))
}

func TestASecondRunTouchesNothing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	dir := t.TempDir()
	first, err := binary.NewStore(dir, binary.Options{Limits: quick}).Acquire(t.Context(), spec, nil)
	is.NoErr(err)

	asked, before := upstream.total.Load(), snapshot(t, dir)
	second, err := binary.NewStore(dir, binary.Options{Limits: quick}).Acquire(t.Context(), spec, func(p binary.Progress) {
		t.Errorf("progress of a run that has nothing to do: %+v", p)
	})
	is.NoErr(err)
	is.Equal(second.Cached, true)
	is.Equal(second.Source, binary.FromStore)
	is.Equal(second.Path, first.Path)
	is.Equal(second.Digest, first.Digest)
	is.Equal(second.Bytes, first.Bytes)
	is.Equal(snapshot(t, dir), before)
	is.Equal(upstream.total.Load(), asked)

	looked, err := binary.NewStore(dir, binary.Options{}).Lookup(spec)
	is.NoErr(err)
	is.Equal(looked, second)
}

func TestLookupOfNothing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	dir := filepath.Join(t.TempDir(), "none")
	_, err := binary.NewStore(dir, binary.Options{}).Lookup(binary.Spec{Name: "n", Version: "1"})
	wantClass(t, err, binary.NotFound)
	is.True(errors.Is(err, fs.ErrNotExist))
	_, err = os.Stat(dir)
	is.True(errors.Is(err, fs.ErrNotExist)) // looking makes no folder
}

// A folder that exists proves nothing.
func TestWhatIsNotWhatTheReceiptSaysIsReplaced(t *testing.T) {
	t.Parallel()
	spoil := map[string]func(dir string) error{
		"executable changed": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "livekit-server"), []byte("#!/bin/sh\necho worm\n"), 0o755)
		},
		"one byte changed": func(dir string) error {
			path := filepath.Join(dir, "livekit-server")
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content[len(content)/2] ^= 1
			return os.WriteFile(path, content, 0o755)
		},
		"executable emptied": func(dir string) error { return os.Truncate(filepath.Join(dir, "livekit-server"), 0) },
		"executable gone":    func(dir string) error { return os.Remove(filepath.Join(dir, "livekit-server")) },
		"not executable":     func(dir string) error { return os.Chmod(filepath.Join(dir, "livekit-server"), 0o644) },
		"executable a link out": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "livekit-server")), os.Symlink("/bin/sh", filepath.Join(dir, "livekit-server")))
		},
		"executable a folder": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "livekit-server")), os.Mkdir(filepath.Join(dir, "livekit-server"), 0o755))
		},
		"receipt gone":    func(dir string) error { return os.Remove(filepath.Join(dir, "receipt.json")) },
		"receipt empty":   func(dir string) error { return os.Truncate(filepath.Join(dir, "receipt.json"), 0) },
		"receipt garbage": func(dir string) error { return os.WriteFile(filepath.Join(dir, "receipt.json"), []byte("{}"), 0o644) },
		"receipt of another version": func(dir string) error {
			path := filepath.Join(dir, "receipt.json")
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.ReplaceAll(text, []byte(`"version": "1.13.5"`), []byte(`"version": "1.13.4"`)), 0o644)
		},
		"everything gone": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)) },
		"a file in its place": func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644))
		},
	}
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	for name, spoil := range spoil {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			dir := t.TempDir()
			store := binary.NewStore(dir, binary.Options{Limits: quick})
			first, err := store.Acquire(t.Context(), spec, nil)
			is.NoErr(err)
			is.NoErr(spoil(filepath.Dir(first.Path)))

			_, err = store.Lookup(spec)
			is.True(err != nil)
			skipped := false
			second, err := store.Acquire(t.Context(), spec, func(p binary.Progress) {
				skipped = skipped || p.Source == binary.FromStore && p.Step == binary.StepSkipped && p.Detail != ""
			})
			is.NoErr(err)
			is.True(skipped) // it says why the store's was not good enough
			is.Equal(second.Cached, false)
			is.Equal(second.Digest, first.Digest)
			runs(t, second)
			is.Equal(len(leftovers(t, dir)), 0)
		})
	}
}

func TestAChangedPinIsAskedForAnew(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	archive := honest(t)
	spec := upstream.livekit(archive)
	store := binary.NewStore(t.TempDir(), binary.Options{Limits: quick})
	_, err := store.Acquire(t.Context(), spec, nil)
	is.NoErr(err)

	spec.Sources[0].SHA256 = sha256Of(archive)
	got, err := store.Acquire(t.Context(), spec, nil)
	is.NoErr(err)
	is.Equal(got.Cached, true) // it is the file that is pinned now

	spec.Sources[0].SHA256 = sha256Of([]byte("another"))
	_, err = store.Acquire(t.Context(), spec, nil)
	wantClass(t, err, binary.ChecksumMismatch)
}

func TestBinariesOfOtherPlatformsLieApart(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	dir := t.TempDir()
	store := binary.NewStore(dir, binary.Options{Limits: quick})
	own, err := store.Acquire(t.Context(), spec, nil)
	is.NoErr(err)

	script := []byte("#!/bin/sh\necho works >&2\n")
	upstream.put("/mac", script)
	other := spec
	other.OS, other.Arch = "darwin", "arm64"
	other.Sources = []binary.Source{{Kind: binary.KindRelease, URLs: []string{upstream.URL + "/mac"}, SHA256: sha256Of(script)}}
	foreign, err := store.Acquire(t.Context(), other, nil)
	is.NoErr(err)
	is.Equal(foreign.Path, filepath.Join(dir, "livekit-server", version+"@darwin-arm64", "livekit-server"))

	again, err := store.Lookup(spec)
	is.NoErr(err)
	is.Equal(again.Digest, own.Digest)
	is.True(again.Digest != foreign.Digest)
}

func TestTwentyAskersCostOneDownload(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	dir := t.TempDir()
	store := binary.NewStore(dir, binary.Options{Limits: quick})
	var wg sync.WaitGroup
	fresh := make(chan bool, 20)
	for range 20 {
		wg.Go(func() {
			got, err := store.Acquire(t.Context(), spec, nil)
			if err != nil {
				t.Error(err)
				return
			}
			fresh <- !got.Cached
			runs(t, got)
		})
	}
	wg.Wait()
	close(fresh)
	count := 0
	for f := range fresh {
		if f {
			count++
		}
	}
	is.Equal(count, 1)
	is.Equal(upstream.count("/download/v"+version+"/"+assetName()), 1)
	is.Equal(len(leftovers(t, dir)), 0)
}

func TestTwentyProcessesCostOneDownload(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 20 {
		cmd := process(t, order{Dir: dir, Spec: spec})
		wg.Go(func() {
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	is.Equal(upstream.count("/download/v"+version+"/"+assetName()), 1)
	is.Equal(len(leftovers(t, dir)), 0)
}

func TestWaitingForAnotherEndsWithTheContext(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	started, release := make(chan struct{}), make(chan struct{})
	asset := honest(t)
	upstream.serve("/download/v"+version+"/"+assetName(), func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-release
		_, _ = w.Write(asset)
	})
	store := binary.NewStore(t.TempDir(), binary.Options{Limits: quick})
	done := make(chan error, 1)
	go func() {
		_, err := store.Acquire(t.Context(), spec, nil)
		done <- err
	}()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	waits := false
	_, err := store.Acquire(ctx, spec, func(p binary.Progress) {
		waits = p.Source == binary.FromStore && p.Step == binary.StepResolve
		cancel()
	})
	is.True(waits) // it says that it waits
	is.True(errors.Is(err, context.Canceled))
	close(release)
	is.NoErr(<-done)
}

func TestSpecsThatAreRefused(t *testing.T) {
	t.Parallel()
	source := func(s binary.Source) []binary.Source { return []binary.Source{s} }
	good := strings.Repeat("0", 64)
	cases := map[string]struct {
		spec  binary.Spec
		class binary.Class
	}{
		"name empty":              {binary.Spec{Version: "1"}, binary.BadVersion},
		"name with a separator":   {binary.Spec{Name: "a/b", Version: "1"}, binary.BadVersion},
		"name with two dots":      {binary.Spec{Name: "..", Version: "1"}, binary.BadVersion},
		"name with a newline":     {binary.Spec{Name: "a\n", Version: "1"}, binary.BadVersion},
		"name with a dot":         {binary.Spec{Name: ".lock", Version: "1"}, binary.BadVersion},
		"version empty":           {binary.Spec{Name: "n"}, binary.BadVersion},
		"version with separator":  {binary.Spec{Name: "n", Version: "1/../2"}, binary.BadVersion},
		"version with a space":    {binary.Spec{Name: "n", Version: "1 2"}, binary.BadVersion},
		"version with a newline":  {binary.Spec{Name: "n", Version: "1\n2"}, binary.BadVersion},
		"version with braces":     {binary.Spec{Name: "n", Version: "{version}"}, binary.BadVersion},
		"version is a constraint": {binary.Spec{Name: "n", Version: "^2.15"}, binary.BadVersion},
		"version is latest":       {binary.Spec{Name: "n", Version: "latest"}, binary.BadVersion},
		"version is staging":      {binary.Spec{Name: "n", Version: ".staging-1"}, binary.BadVersion},
		"version of another os":   {binary.Spec{Name: "n", Version: "1@linux-arm64"}, binary.BadVersion},
		"platform with separator": {binary.Spec{Name: "n", Version: "1", OS: "../x"}, binary.WrongArch},
		"word with a separator":   {binary.Spec{Name: "n", Version: "1", Words: binary.Words{OS: map[string]string{runtime.GOOS: "a/b"}}}, binary.BadURL},
		"executable leads out":    {binary.Spec{Name: "n", Version: "1", Executable: "../n"}, binary.UnsafePath},
		"executable absolute":     {binary.Spec{Name: "n", Version: "1", Executable: "/bin/sh"}, binary.UnsafePath},
		"executable is receipt":   {binary.Spec{Name: "n", Version: "1", Executable: "receipt.json"}, binary.UnsafePath},
		"executable a dot":        {binary.Spec{Name: "n", Version: "1", Executable: "./."}, binary.UnsafePath},
		"executable placeholder":  {binary.Spec{Name: "n", Version: "1", Executable: "{distro}/n"}, binary.UnsafePath},
		"no source":               {binary.Spec{Name: "n", Version: "1"}, binary.NotFound},
		"unknown kind":            {binary.Spec{Name: "n", Version: "1", Sources: source(binary.Source{Kind: "ftp"})}, binary.BadContent},
		"no urls":                 {binary.Spec{Name: "n", Version: "1", Sources: source(binary.Source{Kind: "release"})}, binary.BadURL},
		"url placeholder":         {binary.Spec{Name: "n", Version: "1", Sources: source(release("https://h/{distro}"))}, binary.BadURL},
		"url with a brace":        {binary.Spec{Name: "n", Version: "1", Sources: source(release("https://h/{x"))}, binary.BadURL},
		"url of a file":           {binary.Spec{Name: "n", Version: "1", Sources: source(release("file:///etc/passwd"))}, binary.ForbiddenScheme},
		"url of gopher":           {binary.Spec{Name: "n", Version: "1", Sources: source(release("gopher://h/x"))}, binary.ForbiddenScheme},
		"url of nothing":          {binary.Spec{Name: "n", Version: "1", Sources: source(release("x"))}, binary.ForbiddenScheme},
		"url without a host":      {binary.Spec{Name: "n", Version: "1", Sources: source(release("https:///x"))}, binary.BadURL},
		"url with a password":     {binary.Spec{Name: "n", Version: "1", Sources: source(release("https://me:hunter2@h/x"))}, binary.BadURL},
		"url with a space":        {binary.Spec{Name: "n", Version: "1", Sources: source(release("https://h/x y"))}, binary.BadURL},
		"url with a newline":      {binary.Spec{Name: "n", Version: "1", Sources: source(release("https://h/x\r\nHost: y"))}, binary.BadURL},
		"plain http":              {binary.Spec{Name: "n", Version: "1", Sources: source(binary.Source{Kind: "release", URLs: []string{"http://example.invalid/x"}, SHA256: good})}, binary.ForbiddenScheme},
		"pin malformed":           {binary.Spec{Name: "n", Version: "1", Sources: source(binary.Source{Kind: "release", URLs: []string{"https://h/x"}, SHA256: "abc"})}, binary.ChecksumMalformed},
		"nothing to verify with":  {binary.Spec{Name: "n", Version: "1", Sources: source(release("https://h/x"))}, binary.ChecksumMissing},
		"installed relative":      {binary.Spec{Name: "n", Version: "1", Sources: source(binary.Source{Kind: "installed", Path: "./n"})}, binary.UnsafePath},
		"installed nowhere":       {binary.Spec{Name: "n", Version: "1", Sources: source(binary.Source{Kind: "installed", Path: "no-such-program", SHA256: good})}, binary.NotFound},
		"installed unpinned":      {binary.Spec{Name: "n", Version: "1", Sources: source(binary.Source{Kind: "installed", Path: "sh"})}, binary.ChecksumMissing},
		"installed another":       {binary.Spec{Name: "n", Version: "1", Sources: source(binary.Source{Kind: "installed", Path: "sh", SHA256: good})}, binary.ChecksumMismatch},
		"module is an option":     {binary.Spec{Name: "n", Version: "1.0.0", Sources: source(binary.Source{Kind: "gomodule", Module: "-overlay=x"})}, binary.BadURL},
		"module with a version":   {binary.Spec{Name: "n", Version: "1.0.0", Sources: source(binary.Source{Kind: "gomodule", Module: "a.b/c@latest"})}, binary.BadURL},
		"package outside":         {binary.Spec{Name: "n", Version: "1.0.0", Sources: source(binary.Source{Kind: "gomodule", Module: "a.b/c", Package: "../d"})}, binary.BadURL},
		"module version":          {binary.Spec{Name: "n", Version: "1.0", Sources: source(binary.Source{Kind: "gomodule", Module: "a.b/c"})}, binary.BadVersion},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			dir := t.TempDir()
			_, err := binary.NewStore(dir, binary.Options{Limits: quick}).Acquire(t.Context(), c.spec, nil)
			known := wantClass(t, err, c.class)
			is.True(!strings.Contains(known.Message+known.URL+known.Hint, "hunter2"))
			is.Equal(len(leftovers(t, dir)), 0)
		})
	}
}

func release(url string) binary.Source {
	return binary.Source{Kind: binary.KindRelease, URLs: []string{url}}
}

func TestInstalledCopyIsUsedWhereItLies(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	bin, dir := t.TempDir(), t.TempDir()
	path := filepath.Join(bin, "livekit-server")
	is.NoErr(os.WriteFile(path, theProgram(t), 0o755))
	spec := binary.Spec{Name: "livekit-server", Version: version, Sources: []binary.Source{
		{Kind: binary.KindInstalled, Path: "livekit-server", SHA256: sha256Of(theProgram(t))},
	}}
	store := binary.NewStore(dir, binary.Options{Limits: quick, Env: []string{"PATH=relative:" + bin}})
	got, err := store.Acquire(t.Context(), spec, nil)
	is.NoErr(err)
	is.Equal(got.Path, path)
	is.Equal(got.Source, binary.KindInstalled)
	runs(t, got)
	entries, err := os.ReadDir(dir)
	is.NoErr(err)
	is.Equal(len(entries), 0) // nothing is written for it
}

func TestEveryFallThroughIsTold(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	spec := upstream.livekit(honest(t))
	works := spec.Sources[0]
	spec.Sources = []binary.Source{
		{Kind: binary.KindInstalled, Path: "no-such-livekit", SHA256: strings.Repeat("0", 64)},
		{Kind: binary.KindRelease, URLs: []string{upstream.URL + "/none.tar.gz?token=hunter2"}, SHA256: strings.Repeat("0", 64)},
		works,
	}
	var skipped []string
	got, err := binary.NewStore(t.TempDir(), binary.Options{Limits: quick}).Acquire(t.Context(), spec, func(p binary.Progress) {
		if p.Step == binary.StepSkipped {
			skipped = append(skipped, p.Source+": "+p.Detail)
		}
	})
	is.NoErr(err)
	is.Equal(got.Source, binary.KindRelease)
	is.Equal(len(skipped), 2)
	is.True(strings.Contains(skipped[0], "installed: no executable no-such-livekit"))
	is.True(strings.Contains(skipped[1], "/none.tar.gz: 404 Not Found"))
	is.True(!strings.Contains(skipped[1], "hunter2"))
}
