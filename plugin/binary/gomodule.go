package binary

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

var (
	modulePath    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9._~-]+)*$`)
	moduleVersion = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

// checkModule checks that module and package are plain paths.
func (s Source) checkModule() error {
	if !modulePath.MatchString(s.Module) {
		return fail(BadURL, nil, "module %q of source %s is no module path", s.Module, s.Kind)
	}
	if p := s.importPath(); !modulePath.MatchString(p) || p != s.Module && !strings.HasPrefix(p, s.Module+"/") {
		return fail(BadURL, nil, "package %q of source %s is not in module %s", s.Package, s.Kind, s.Module)
	}
	return nil
}

// importPath is the package's import path.
func (s Source) importPath() string {
	if s.Package == s.Module || strings.HasPrefix(s.Package, s.Module+"/") {
		return path.Clean(s.Package)
	}
	return path.Join(s.Module, s.Package)
}

// version is the module's version as Go names it.
func (w wanted) moduleVersion() (string, error) {
	version := w.version
	if !strings.HasPrefix(version, "v") {
		version = "v" + version
	}
	if !moduleVersion.MatchString(version) {
		return "", fail(BadVersion, nil, "%s is no exact version of a Go module", version)
	}
	return version, nil
}

// gomodule builds the package in staging and checks that it is what came out.
func (j *job) gomodule(ctx context.Context, source Source, s *staging) (receipt, error) {
	none := receipt{}
	version, err := j.want.moduleVersion()
	if err != nil {
		return none, err
	}
	tools, err := j.toolchain(ctx, s)
	if err != nil {
		return none, err
	}
	if err := tools.verifies(source.Module); err != nil {
		return none, err
	}
	j.report.say(Progress{Source: KindGoModule, Step: StepResolve, Detail: fmt.Sprintf("%s@%s with %s (%s)", source.importPath(), version, tools.version, tools.path)})
	built, err := j.build(ctx, tools, source.importPath()+"@"+version, s)
	if err != nil {
		return none, err
	}
	j.report.say(Progress{Source: KindGoModule, Step: StepVerify, Detail: "modules verified against " + tools.settings["GOSUMDB"]})
	sum, err := checkBuild(built, source, version)
	if err != nil {
		return none, err
	}
	place := filepath.Join(s.tree, filepath.FromSlash(j.want.executable))
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return none, ioError(err, "make %s", filepath.Dir(place))
	}
	if err := os.Rename(built, place); err != nil {
		return none, ioError(err, "rename %s", built)
	}
	root, err := os.OpenRoot(s.tree)
	if err != nil {
		return none, ioError(err, "open %s", s.tree)
	}
	defer root.Close()
	if err := root.Chmod(j.want.executable, 0o755); err != nil {
		return none, ioError(err, "make %s executable", j.want.executable)
	}
	return receipt{
		Source: KindGoModule, Module: source.Module + "@" + version, Sum: sum,
		Proof: "checksum database " + tools.settings["GOSUMDB"],
	}, inspect(root, j.want.executable, j.want.os, j.want.arch)
}

// build has the toolchain build and install the package into staging and
// returns the path of what came out, whatever it is called.
func (j *job) build(ctx context.Context, tools *toolchain, pkg string, s *staging) (string, error) {
	guard, err := j.guardBuild()
	if err != nil {
		return "", err
	}
	defer guard.Close()
	output := &buildOutput{report: j.report}
	cmd := tools.command(ctx, "install", "-v", "-trimpath", pkg)
	cmd.Stdout, cmd.Stderr = output, output
	// The build, its compilers included, holds the lock for as long as it
	// lives: whoever comes after a dead process waits for what that one left
	// running before touching its folder.
	cmd.ExtraFiles = []*os.File{guard}
	if err := cmd.Run(); err != nil {
		return "", output.explain(ctx, err, pkg)
	}
	var found []string
	err = filepath.WalkDir(tools.bin, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		return "", ioError(err, "read %s", tools.bin)
	}
	if len(found) != 1 {
		return "", fail(MissingBinary, nil, "%s: %d files came out of the build, wanted is one", pkg, len(found)).
			hint("name a package that is a program")
	}
	return found[0], nil
}

// guardBuild locks the build's own lock file. Only what an earlier process
// left running can hold it, and that was waited for.
func (j *job) guardBuild() (*os.File, error) {
	path := filepath.Join(j.nameDir(), buildLock)
	guard, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, ioError(err, "open %s", path)
	}
	if err := syscall.Flock(int(guard.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = guard.Close() // the lock tells more
		return nil, ioError(err, "lock %s", path)
	}
	return guard, nil
}

// checkBuild checks that the executable was built from exactly the module that
// was asked for, verified, and returns the module's sum.
func checkBuild(path string, source Source, version string) (string, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", fail(BadContent, err, "read what %s was built from", filepath.Base(path))
	}
	main := info.Main
	switch {
	case info.Path != source.importPath() || main.Path != source.Module || main.Version != version || main.Replace != nil:
		return "", fail(BadContent, nil, "built was %s of %s@%s, wanted is %s of %s@%s",
			info.Path, main.Path, main.Version, source.importPath(), source.Module, version)
	case main.Sum == "":
		return "", fail(ChecksumMissing, nil, "%s@%s was built without a verified sum", main.Path, main.Version)
	}
	return main.Sum, nil
}

// command returns a call of the toolchain in a process group of its own, which
// is killed whole when ctx ends.
func (t *toolchain) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.path, args...)
	cmd.Dir, cmd.Env = t.dir, t.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// buildOutput takes what the toolchain writes: a line for every module that
// is downloaded and package that is built, and at last what went wrong.
type buildOutput struct {
	report   *reporter
	partial  []byte
	modules  int
	packages int
	lines    []string // that may tell what went wrong
}

// mostLines is how many lines are kept.
const mostLines = 100

// Write takes output in pieces of any size.
func (o *buildOutput) Write(data []byte) (int, error) {
	o.partial = append(o.partial, data...)
	for {
		line, rest, found := bytes.Cut(o.partial, []byte("\n"))
		if !found {
			break
		}
		o.line(string(line))
		o.partial = rest
	}
	if len(o.partial) > longest { // no line is that long
		o.partial = o.partial[:0]
	}
	return len(data), nil
}

func (o *buildOutput) line(line string) {
	if module, ok := strings.CutPrefix(line, "go: downloading "); ok {
		o.modules++
		o.report.say(Progress{Source: KindGoModule, Step: StepDownload, Detail: fmt.Sprintf("%d modules, now %s", o.modules, module)})
		return
	}
	if line != "" && !strings.ContainsAny(line, " \t#:") {
		o.packages++
		o.report.say(Progress{Source: KindGoModule, Step: StepBuild, Detail: fmt.Sprintf("%d packages built", o.packages)})
		return
	}
	if line = strings.TrimSpace(line); line != "" {
		o.lines = append(o.lines[max(0, len(o.lines)-mostLines+1):], line)
	}
}
