package binary_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/matryer/is"
)

// helperEnv makes the test binary acquire what its value, in JSON, asks for.
const helperEnv = "LAB_BINARY_TEST_ACQUIRE"

// order is what a process that acquires is asked for.
type order struct {
	Dir      string
	Spec     binary.Spec
	Path     string // PATH of the store; empty for the process's
	MaxWrite uint64 // bytes that a file may have; zero for any
}

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "go" {
		os.Exit(fakeGo())
	}
	if text := os.Getenv(helperEnv); text != "" {
		os.Exit(acquireAsProcess(text))
	}
	os.Exit(m.Run())
}

// acquireAsProcess prints what was acquired, or the error, as JSON.
func acquireAsProcess(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if o.MaxWrite > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: o.MaxWrite, Max: o.MaxWrite}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	opts := binary.Options{Limits: quick}
	if o.Path != "" {
		opts.Env = []string{"PATH=" + o.Path}
	}
	got, err := binary.NewStore(o.Dir, opts).Acquire(context.Background(), o.Spec, nil)
	if err != nil {
		var known *binary.Error
		if !errors.As(err, &known) {
			known = &binary.Error{Message: err.Error()}
		}
		fmt.Println(string(known.Class) + " " + known.Message)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(got); err != nil {
		return 2
	}
	return 0
}

// process returns the test binary as a process that carries out the order.
func process(t *testing.T, o order) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), helperEnv+"="+string(text))
	return cmd
}

// quick makes tests that wait for limits short.
var quick = binary.Limits{
	Stall: 5 * time.Second, Timeout: time.Minute, Tries: 3, Backoff: time.Millisecond, RetryAfter: 2 * time.Second,
	MaxBytes: 8 << 20, MaxFiles: 200, MaxDepth: 8,
}

// program is a real executable for this machine, built once: it prints "works".
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "program")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { println(\"works\") }\n"), 0o600); err != nil {
		return nil, err
	}
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, source)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(out)
})

func theProgram(t testing.TB) []byte {
	t.Helper()
	content, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// member is a member of a tar archive: a regular file unless the header says
// otherwise.
type member struct {
	tar.Header
	content []byte
}

func regular(name string, content []byte) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755}, content}
}

func tarball(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		if m.Typeflag == tar.TypeReg {
			m.Size = int64(len(m.content))
		}
		if m.Mode == 0 && m.Typeflag != tar.TypeXGlobalHeader {
			m.Mode = 0o644
		}
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gzipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func sha256Of(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// releases serves what lies under its paths, and counts.
type releases struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]http.HandlerFunc
	asked map[string]int
	total atomic.Int64
}

func newReleases(t testing.TB) *releases {
	r := &releases{files: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *releases) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.total.Add(1)
	r.mu.Lock()
	r.asked[req.URL.Path]++
	serve := r.files[req.URL.Path]
	r.mu.Unlock()
	if serve == nil {
		http.NotFound(w, req)
		return
	}
	serve(w, req)
}

func (r *releases) serve(path string, handler http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[path] = handler
}

func (r *releases) put(path string, content []byte) {
	r.serve(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(content) // the client may have gone
	})
}

func (r *releases) count(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[path]
}

const version = "1.13.5"

// assetName is the name of the upstream asset for this machine.
func assetName() string {
	return fmt.Sprintf("livekit_%s_%s_%s.tar.gz", version, runtime.GOOS, runtime.GOARCH)
}

// livekit lays the release out as upstream does, with the given asset, and
// returns the spec that finds it.
func (r *releases) livekit(asset []byte) binary.Spec {
	dir := "/download/v" + version
	r.put(dir+"/"+assetName(), asset)
	r.put(dir+"/checksums.txt", []byte(
		sha256Of([]byte("another"))+"  livekit_"+version+"_linux_armv7.tar.gz\n"+
			sha256Of(asset)+"  "+assetName()+"\n"))
	return binary.Spec{
		Name: "livekit-server", Version: version,
		Sources: []binary.Source{{
			Kind:         binary.KindRelease,
			URLs:         []string{r.URL + "/download/v{version}/livekit_{version}_{os}_{arch}.tar.gz"},
			ChecksumsURL: r.URL + "/download/v{version}/checksums.txt",
		}},
	}
}

// honest is the upstream archive: flat, a licence and the executable.
func honest(t testing.TB) []byte {
	return gzipped(t, tarball(t, regular("LICENSE", []byte("a licence")), regular("livekit-server", theProgram(t))))
}

// wantClass checks the class of an error, and that it is fit to be shown.
func wantClass(t testing.TB, err error, class binary.Class) *binary.Error {
	t.Helper()
	var known *binary.Error
	if !errors.As(err, &known) {
		t.Fatalf("error is %v, wanted is one of class %s", err, class)
	}
	if known.Class != class {
		t.Fatalf("class is %s, wanted is %s: %s", known.Class, class, known.Message)
	}
	if strings.ContainsAny(known.Message+known.URL+known.Hint, "\n\r\x1b\x00") {
		t.Fatalf("control characters in %q", known.Message)
	}
	return known
}

// leftovers lists what is in a store beside whole versions and locks.
func leftovers(t testing.TB, dir string) []string {
	t.Helper()
	var left []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if strings.Count(rel, "/") == 1 && e.Name() != ".lock" && e.Name() != ".build" {
			if _, err := os.Stat(filepath.Join(path, "receipt.json")); err != nil {
				left = append(left, rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// snapshot describes every file below dir so that any write shows.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		seen[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano(), stat.Ino, stat.Nlink)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// runs checks that the acquired executable can be started.
func runs(t testing.TB, got binary.Installed) {
	t.Helper()
	is := is.New(t)
	out, err := exec.Command(got.Path).CombinedOutput()
	is.NoErr(err)
	is.Equal(string(out), "works\n")
	content, err := os.ReadFile(got.Path)
	is.NoErr(err)
	is.Equal(got.Digest, "sha256:"+sha256Of(content))
	is.Equal(got.Bytes, int64(len(content)))
}
