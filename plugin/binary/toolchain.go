package binary

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os/user"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// usualGo is where the Go toolchain lies when PATH does not tell.
const usualGo = "/usr/local/go/bin/go"

// toolchain is a Go toolchain with the folders and the environment of one
// build.
type toolchain struct {
	path     string            // of the go command
	version  string            // such as go1.26.8
	dir      string            // empty, to run in
	bin      string            // where executables come out
	env      []string          // all that it gets
	settings map[string]string // what go env says, the user's settings file included
}

// forwarded is what the toolchain gets of the environment: where things are,
// how to reach the module proxy, and whom to trust. Everything else could
// change what is built, or is none of its business. GOFLAGS is read, and then
// cut down by [toolchain.harden].
var forwarded = []string{
	"PATH", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
	"GOPATH", "GOMODCACHE", "GOCACHE", "GOENV", "GOTOOLCHAIN",
	"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOINSECURE", "GOFLAGS", "GOVCS", "GOAUTH", "NETRC",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR",
}

// asked is what is asked of go env.
var asked = []string{"GOVERSION", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOFLAGS", "GOMODCACHE"}

// toolchain finds the Go toolchain and prepares it to build in staging.
func (j *job) toolchain(ctx context.Context, s *staging) (*toolchain, error) {
	t := &toolchain{}
	for _, place := range j.store.gocmd {
		if t.path == "" {
			t.path = j.store.which(place)
		}
	}
	if t.path == "" {
		return nil, absent(fail(NotFound, nil, "no Go toolchain (looked for %s)", strings.Join(j.store.gocmd, ", ")).hint("install Go 1.26 or later"))
	}
	var err error
	if t.dir, err = s.folder("empty"); err != nil {
		return nil, err
	}
	if t.bin, err = s.folder("bin"); err != nil {
		return nil, err
	}
	scratch, err := s.folder("scratch") // goes with staging even when the build is killed
	if err != nil {
		return nil, err
	}
	env := map[string]string{
		"TMPDIR": scratch, "GOTMPDIR": scratch, "GO111MODULE": "on", "GOWORK": "off", "CGO_ENABLED": "0",
		"GOOS": j.want.os, "GOARCH": j.want.arch, "GOBIN": t.bin, "LC_ALL": "C",
	}
	for _, name := range forwarded {
		if value := j.store.getenv(name); value != "" {
			env[name] = value
		}
	}
	if me, err := user.Current(); err == nil && env["HOME"] == "" {
		env["HOME"] = me.HomeDir
	}
	t.setenv(env)
	if t.settings, err = t.ask(ctx); err != nil {
		return nil, err
	}
	t.version = t.settings["GOVERSION"]
	t.harden(env, j.want)
	return t, nil
}

// ask returns what go env says.
func (t *toolchain) ask(ctx context.Context) (map[string]string, error) {
	cmd := t.command(ctx, append([]string{"env", "-json"}, asked...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, fail(Timeout, context.Cause(ctx), "%s env", t.path)
		}
		return nil, absent(fail(NotFound, err, "%s does not work: %s", t.path, shorten(stderr.String())).hint("install Go 1.26 or later"))
	}
	settings := map[string]string{}
	if err := json.Unmarshal(stdout.Bytes(), &settings); err != nil {
		return nil, absent(fail(NotFound, err, "%s does not work", t.path).hint("install Go 1.26 or later"))
	}
	return settings, nil
}

// harden settles what must not be left to the user's settings file: flags that
// change what is built, and modules that are exempt from verification.
func (t *toolchain) harden(env map[string]string, want wanted) {
	// An empty value would let the one of the settings file through; this
	// pattern matches no module.
	env["GONOSUMDB"] = "verify.every.module.invalid"
	flags := []string{"-trimpath"}
	for _, flag := range strings.Fields(t.settings["GOFLAGS"]) {
		if flag == "-modcacherw" || strings.HasPrefix(flag, "-p=") {
			flags = append(flags, flag)
		}
	}
	env["GOFLAGS"] = strings.Join(flags, " ")
	if want.os != runtime.GOOS || want.arch != runtime.GOARCH { // GOBIN is for this machine's only
		delete(env, "GOBIN")
		env["GOPATH"], env["GOMODCACHE"] = t.bin, t.settings["GOMODCACHE"]
		t.bin = filepath.Join(t.bin, "bin")
	}
	t.setenv(env)
}

func (t *toolchain) setenv(env map[string]string) {
	t.env = t.env[:0]
	for _, name := range slices.Sorted(maps.Keys(env)) {
		t.env = append(t.env, name+"="+env[name])
	}
}

// verifies refuses to build where the user's settings turn verification off.
func (t *toolchain) verifies(module string) error {
	if t.settings["GOSUMDB"] == "off" || t.settings["GOSUMDB"] == "" {
		return fail(ChecksumMissing, nil, "module %s cannot be verified: GOSUMDB=off", module).hint("set GOSUMDB to a checksum database, such as Go's default")
	}
	for _, name := range []string{"GONOSUMDB", "GOPRIVATE"} {
		if globsMatch(t.settings[name], module) {
			return fail(ChecksumMissing, nil, "module %s cannot be verified: %s exempts it", module, name).hint("take it out of %s", name)
		}
	}
	for _, flag := range strings.Fields(t.settings["GOFLAGS"]) {
		if strings.TrimLeft(flag, "-") == "insecure" || strings.HasPrefix(strings.TrimLeft(flag, "-"), "insecure=") {
			return fail(ChecksumMissing, nil, "module %s cannot be verified: GOFLAGS holds %s", module, flag).hint("take it out of GOFLAGS")
		}
	}
	return nil
}

// globsMatch reports whether one of the comma-separated patterns matches the
// first elements of the path, which is how Go reads such lists.
func globsMatch(globs, target string) bool {
	elements := strings.Split(target, "/")
	for _, glob := range strings.Split(globs, ",") {
		glob = strings.TrimSuffix(glob, "/")
		depth := strings.Count(glob, "/") + 1
		if glob == "" || depth > len(elements) {
			continue
		}
		if ok, err := path.Match(glob, strings.Join(elements[:depth], "/")); ok || errors.Is(err, path.ErrBadPattern) {
			return true
		}
	}
	return false
}
