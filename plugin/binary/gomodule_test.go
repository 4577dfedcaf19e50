package binary_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/matryer/is"
)

// A real module that builds in a second: its program greets.
const (
	helloModule  = "golang.org/x/example/hello"
	helloVersion = "0.0.0-20250915201037-7f05d217867b"
)

func hello() binary.Spec {
	return binary.Spec{Name: "greeter", Version: helloVersion, Sources: []binary.Source{{Kind: binary.KindGoModule, Module: helloModule}}}
}

// goEnv is a setting of the Go toolchain on this machine.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestGoModule(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	dir := t.TempDir()
	store := binary.NewStore(dir, binary.Options{Limits: quick})
	var details []string
	got, err := store.Acquire(t.Context(), hello(), func(p binary.Progress) {
		is.Equal(p.Source, binary.KindGoModule)
		is.Equal(p.Bytes+p.Total, int64(0))
		details = append(details, p.Step+" "+p.Detail)
	})
	is.NoErr(err)
	is.Equal(got.Source, binary.KindGoModule)
	is.Equal(got.Path, filepath.Join(dir, "greeter", helloVersion, "greeter"))
	is.True(strings.HasPrefix(details[0], "resolve "+helloModule+"@v"+helloVersion+" with go1."))
	out, err := exec.Command(got.Path).Output()
	is.NoErr(err)
	is.Equal(string(out), "Hello, world!\n")
	is.Equal(len(leftovers(t, dir)), 0)

	var receipt map[string]any
	text, err := os.ReadFile(filepath.Join(filepath.Dir(got.Path), "receipt.json"))
	is.NoErr(err)
	is.NoErr(json.Unmarshal(text, &receipt))
	is.Equal(receipt["module"], helloModule+"@v"+helloVersion)
	is.True(strings.HasPrefix(receipt["sum"].(string), "h1:"))

	again, err := store.Acquire(t.Context(), hello(), nil)
	is.NoErr(err)
	is.Equal(again.Cached, true)
}

func TestGoModuleForAnotherMachine(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	spec := hello()
	spec.OS, spec.Arch, spec.Executable = "linux", "riscv64", "bin/{name}"
	got, err := acquire(t, binary.Options{Limits: quick}, spec)
	is.NoErr(err)
	is.True(strings.HasSuffix(got.Path, "@linux-riscv64/bin/greeter"))
}

func TestGoModuleWithoutAToolchain(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	upstream := newReleases(t)
	host := strings.TrimPrefix(upstream.URL, "http://")
	upstream.Close() // a release host that cannot be reached
	spec := upstream.livekit(nil)
	spec.Sources = append([]binary.Source{{Kind: binary.KindInstalled, Path: "livekit-server", SHA256: strings.Repeat("0", 64)}}, spec.Sources...)
	spec.Sources = append(spec.Sources, binary.Source{Kind: binary.KindGoModule, Module: helloModule})
	var skipped []string
	_, err := binary.NewStore(t.TempDir(), binary.Options{Limits: quick, Env: []string{"PATH="}, Go: "go"}).
		Acquire(t.Context(), spec, func(p binary.Progress) {
			if p.Step == binary.StepSkipped {
				skipped = append(skipped, p.Source)
			}
		})
	known := wantClass(t, err, binary.NetworkError)
	is.Equal(strings.Join(skipped, " "), "installed release gomodule")
	for _, tried := range []string{"installed: no executable livekit-server", "release: GET " + upstream.URL, "gomodule: no Go toolchain"} {
		is.True(strings.Contains(known.Message, tried))
	}
	is.True(strings.Contains(known.Hint, "install Go 1.26 or later"))
	is.True(strings.Contains(known.Hint, "give this machine access to "+host))
	is.True(strings.Contains(known.Hint, "https_proxy"))
}

func TestGoModuleIsRefusedWithoutVerification(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("GONOSUMDB=golang.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{
		"GOSUMDB=off", "GOPRIVATE=golang.org/x", "GONOSUMDB=*.example.org,golang.org/*/example", "GONOSUMDB=*", "GOFLAGS=-insecure", "GOENV=" + file,
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			_, err := acquire(t, binary.Options{Limits: quick, Env: append(os.Environ(), setting)}, hello())
			known := wantClass(t, err, binary.ChecksumMissing)
			is.True(known.Hint != "")
		})
	}
}

// What could change the outcome does not reach the toolchain.
func TestGoModuleIgnoresWhatChangesTheBuild(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	file := filepath.Join(t.TempDir(), "env")
	is.NoErr(os.WriteFile(file, []byte("GOFLAGS=-mod=vendor -toolexec=false -p=1\nGONOSUMDB=example.org\nGO111MODULE=off\n"), 0o600))
	env := append(os.Environ(), "GOENV="+file, "GOFLAGS=", "GOBIN="+t.TempDir(), "GOOS=plan9", "GOWORK="+file, "LD_PRELOAD=/nowhere.so")
	got, err := acquire(t, binary.Options{Limits: quick, Env: env}, hello())
	is.NoErr(err)
	is.Equal(got.Source, binary.KindGoModule)
}

// A proxy that serves another content than the checksum database knows.
func TestGoModuleThatWasTamperedWith(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	_, err := acquire(t, binary.Options{Limits: quick}, hello()) // it is in the module cache now
	is.NoErr(err)
	from := filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download", helloModule, "@v")
	proxy := t.TempDir()
	to := filepath.Join(proxy, helloModule, "@v")
	is.NoErr(os.MkdirAll(to, 0o755))
	for _, ending := range []string{".info", ".mod", ".zip"} {
		content, err := os.ReadFile(filepath.Join(from, "v"+helloVersion+ending))
		is.NoErr(err)
		if ending == ".zip" {
			content = tamper(t, content)
		}
		is.NoErr(os.WriteFile(filepath.Join(to, "v"+helloVersion+ending), content, 0o600))
	}
	env := append(os.Environ(), "GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw", "GOPROXY=file://"+proxy+","+goEnv(t, "GOPROXY"))
	_, err = acquire(t, binary.Options{Limits: quick, Env: env}, hello())
	known := wantClass(t, err, binary.ChecksumMismatch)
	is.True(strings.Contains(known.Message, "SECURITY ERROR") || strings.Contains(known.Message, "checksum"))
}

// tamper adds a comment to every Go file of a module's zip.
func tamper(t *testing.T, content []byte) []byte {
	t.Helper()
	is := is.New(t)
	r, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	is.NoErr(err)
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range r.File {
		in, err := f.Open()
		is.NoErr(err)
		text, err := io.ReadAll(in)
		is.NoErr(err)
		if strings.HasSuffix(f.Name, ".go") {
			text = append(text, "\n// worm\n"...)
		}
		to, err := w.Create(f.Name)
		is.NoErr(err)
		_, err = to.Write(text)
		is.NoErr(err)
	}
	is.NoErr(w.Close())
	return out.Bytes()
}

func TestGoModuleProxyOutOfReach(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	env := append(os.Environ(), "GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw", "GOPROXY=https://me:hunter2@127.0.0.1:1")
	_, err := acquire(t, binary.Options{Limits: quick, Env: env}, hello())
	known := wantClass(t, err, binary.NetworkError)
	is.True(!strings.Contains(known.Message, "hunter2"))
	is.True(strings.Contains(known.Hint, "GOPROXY"))
}

func TestWhyBuildsFail(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		output string
		class  binary.Class
		says   string
	}{
		"replace": {"go: downloading m v1.0.0\ngo: m/cmd/server@v1.0.0 (in m@v1.0.0):\n\tThe go.mod file for the module providing named packages contains one or\n\tmore replace directives. It must not contain directives that would cause\n\tit to be interpreted differently than if it were the main module.\n", binary.BadVersion, "replace directives"},
		"sums":    {"go: downloading m v1.0.0\nm@v1.0.0: verifying module: checksum mismatch\n\tdownloaded: h1:a=\n\tsum.example.org: h1:b=\n\nSECURITY ERROR\nThis download does NOT match the one reported by the checksum server.\n", binary.ChecksumMismatch, "SECURITY ERROR"},
		"network": {`go: m@v1.0.0: m@v1.0.0: Get "https://me:hunter2@proxy/m/@v/v1.0.0.info": dial tcp: lookup proxy: no such host`, binary.NetworkError, "no such host"},
		"tls":     {`go: m@v1.0.0: Get "https://proxy/m": tls: failed to verify certificate: x509: certificate signed by unknown authority`, binary.TLSError, "x509"},
		"404":     {"go: m@v1.0.0: reading https://proxy/m/@v/v1.0.0.info: 404 Not Found\n\tserver response: not found: unknown revision v1.0.0", binary.NotFound, "404"},
		"package": {"go: m/cmd/x@v1.0.0: module m@v1.0.0 found, but does not contain package m/cmd/x", binary.NotFound, "does not contain"},
		"403":     {"go: m@v1.0.0: reading https://proxy/m/@v/list: 403 Forbidden", binary.HTTPError, "403"},
		"go":      {"go: m@v1.0.0: m@v1.0.0 requires go >= 1.99.0 (running go 1.26.8; GOTOOLCHAIN=local)", binary.BadVersion, "requires go"},
		"disk":    {"m/a\nm/b\ngo: m/b: write $WORK/b: no space left on device", binary.IOError, "no space"},
		"library": {"package m is not a main package", binary.MissingBinary, "not a main"},
		"compile": {"m/a\n# m/b\nb/b.go:1:1: syntax error\n", binary.BadContent, "syntax error"},
		"silent":  {"", binary.BadContent, "exit status 1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			known := wantClass(t, binary.ExplainBuild(c.output, errors.New("exit status 1")), c.class)
			is.True(strings.Contains(known.Message, c.says))
			is.True(!strings.Contains(known.Message, "hunter2"))
			is.True(!strings.Contains(known.Message, "downloading"))
		})
	}
}

// fakeGo is this binary in the place of a Go toolchain whose build takes as
// long as the test wants: it and a compiler of its own report on a socket in
// the folder of the executable, and wait there.
func fakeGo() int {
	self, err := os.Executable()
	if err != nil {
		return 2
	}
	if os.Args[1] == "env" {
		fmt.Printf(`{"GOVERSION":"go1.26.0","GOSUMDB":"sum.example.org","GOFLAGS":%q}`, os.Getenv("GOFLAGS"))
		return 0
	}
	conn, err := net.Dial("unix", filepath.Join(filepath.Dir(self), "socket"))
	if err != nil {
		return 2
	}
	fmt.Fprintf(conn, "%s\n%s\n\x00", os.Args[1], strings.Join(os.Environ(), "\n"))
	if os.Args[1] == "install" {
		compiler := exec.Command(self, "compile")
		if err := compiler.Start(); err != nil {
			return 2
		}
		defer func() { _ = compiler.Wait() }()
	}
	_, _ = io.Copy(io.Discard, conn) // until the test hangs up
	return 1
}

// slowToolchain is a folder whose go command waits. The connections are those
// of the build and its compiler.
func slowToolchain(t *testing.T) (dir string, busy func() []net.Conn) {
	t.Helper()
	is := is.New(t)
	dir = t.TempDir()
	self, err := os.Executable()
	is.NoErr(err)
	is.NoErr(os.Link(self, filepath.Join(dir, "go")))
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	is.NoErr(err)
	t.Cleanup(func() { _ = l.Close() })
	return dir, func() []net.Conn {
		conns := make([]net.Conn, 2)
		for i := range conns {
			if conns[i], err = l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		return conns
	}
}

func TestACancelledBuildLeavesNoProcess(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	tools, busy := slowToolchain(t)
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	done := make(chan error, 1)
	go func() {
		_, err := binary.NewStore(dir, binary.Options{Limits: quick, Env: []string{"PATH=" + tools}}).Acquire(ctx, hello(), nil)
		done <- err
	}()
	conns := busy()
	cancel()
	is.True(errors.Is(<-done, context.Canceled))
	for _, conn := range conns { // they end with their processes
		is.NoErr(conn.SetReadDeadline(time.Now().Add(20 * time.Second)))
		_, err := io.Copy(io.Discard, conn)
		_ = conn.Close()
		is.NoErr(err)
	}
	is.Equal(len(leftovers(t, dir)), 0)
}

// The toolchain gets what it needs of the environment and nothing else.
func TestTheEnvironmentOfABuild(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	tools, busy := slowToolchain(t)
	env := []string{
		"PATH=" + tools, "HOME=/home", "SECRET=hunter2", "LD_PRELOAD=/x.so", "GOFLAGS=-toolexec=/x -p=3 -tags=x", "GONOSUMDB=example.org",
		"GOOS=plan9", "GOBIN=/x", "CGO_ENABLED=1", "CC=/x", "GOPROXY=https://proxy.example",
	}
	done := make(chan error, 1)
	go func() {
		_, err := binary.NewStore(t.TempDir(), binary.Options{Limits: quick, Env: env}).Acquire(t.Context(), hello(), nil)
		done <- err
	}()
	got := map[string]string{}
	for _, conn := range busy() {
		text, err := bufio.NewReader(conn).ReadString(0)
		is.NoErr(err)
		if entries, ok := strings.CutPrefix(text, "install\n"); ok {
			for entry := range strings.Lines(strings.TrimSuffix(entries, "\x00")) {
				name, value, _ := strings.Cut(strings.TrimSpace(entry), "=")
				got[name] = value
			}
		}
		is.NoErr(conn.Close())
	}
	wantClass(t, <-done, binary.BadContent)
	is.Equal(got["GOFLAGS"], "-trimpath -p=3")
	is.Equal(got["CGO_ENABLED"], "0")
	is.Equal(got["GOOS"], runtime.GOOS)
	is.Equal(got["GOPROXY"], "https://proxy.example")
	is.Equal(got["HOME"], "/home")
	is.True(got["GONOSUMDB"] != "example.org" && got["GONOSUMDB"] != "") // every module is verified
	is.True(got["GOBIN"] != "/x")
	for _, name := range []string{"SECRET", "LD_PRELOAD", "CC"} {
		_, has := got[name]
		is.True(!has)
	}
}

// A build may outlive the process that started it. Whoever comes next leaves
// its folder alone until it has ended.
func TestABuildThatOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	tools, busy := slowToolchain(t)
	dir := t.TempDir()
	cmd := process(t, order{Dir: dir, Spec: hello(), Path: tools})
	is.NoErr(cmd.Start())
	conns := busy()
	is.NoErr(cmd.Process.Kill())
	is.True(cmd.Wait() != nil)
	is.Equal(len(leftovers(t, dir)), 1)

	waits := false
	_, err := binary.NewStore(dir, binary.Options{Limits: quick}).Acquire(t.Context(), hello(), func(p binary.Progress) {
		if p.Source == binary.FromStore && p.Step == binary.StepResolve && !waits {
			waits = true
			if len(leftovers(t, dir)) != 1 {
				t.Error("the folder of a running build was removed")
			}
			for _, conn := range conns {
				_ = conn.Close()
			}
		}
	})
	is.NoErr(err)
	is.True(waits)
	is.Equal(len(leftovers(t, dir)), 0)
}
