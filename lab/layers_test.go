package main_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"
)

const module = "forge.ourworld.tf/lhumina_code/lab/"

// A layer says what the packages at or below a path may not import, and why.
// Test files are free to.
type layer struct {
	packages string   // at or below this path of the module; empty: all
	except   []string // but not at or below these
	forbids  []string // import paths, at or below
	allows   []string // of what is forbidden
	reason   string
}

var layers = []layer{
	{packages: "events", except: []string{"events/jetstream", "events/eventstest"}, forbids: []string{module, "github.com/nats-io"}, allows: []string{module + "events"},
		reason: "events is the vocabulary that everybody shares: it knows nobody, and no transport"},
	{packages: "", except: []string{"events/jetstream"}, forbids: []string{"github.com/nats-io"},
		reason: "one package knows how NATS behaves, so its traps are dealt with in one place"},
	{packages: "", except: []string{"plugin"}, forbids: []string{"github.com/mitchellh/mapstructure"},
		reason: "mapstructure leaks values and loses digits unless it is fenced in: plugin.Decode is the fence"},
	{packages: "plugin", forbids: []string{module}, allows: []string{module + "plugin", module + "events"},
		reason: "the contract does not know who fulfils it"},
	{packages: "plugin/binary", forbids: []string{module}, allows: []string{module + "plugin/binary"},
		reason: "acquiring a binary is of use without the rest"},
	{packages: "plugin/ready", forbids: []string{module},
		reason: "a probe looks from outside, so it needs nothing from inside"},
	{packages: "service_livekit", forbids: []string{module}, allows: []string{module + "plugin", module + "events", module + "service_livekit"},
		reason: "a service is data for the bring-up and must do with its contract"},
	{packages: "lab/internal", forbids: []string{module + "service_livekit"},
		reason: "what runs services knows none of them: main alone sees everything"},
	{packages: "lab/internal/job", forbids: []string{module, "."},
		reason: "a graph of jobs is the standard library's matter"},
	{packages: "service_livekit/controlplane", forbids: []string{"os/exec", "syscall", "golang.org/x/sys", "os/signal", "github.com/shirou/gopsutil"},
		reason: "the control plane never spawns and never kills: that it once did dropped every call at its restart"},
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, l := range layers {
			if !below(path, l.packages) || slices.ContainsFunc(l.except, func(e string) bool { return below(path, e) }) {
				continue
			}
			for _, imported := range p.Imports {
				if l.refuses(imported) {
					t.Errorf("%s imports %s: %s", path, imported, l.reason)
				}
			}
		}
	}
}

// TestControlPlaneStartsAndEndsNoProcess looks for what package os offers
// without any other import.
func TestControlPlaneStartsAndEndsNoProcess(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	files, err := filepath.Glob("../service_livekit/controlplane/*.go")
	is.NoErr(err)
	is.True(len(files) > 0)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		is.NoErr(err)
		ast.Inspect(tree, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"StartProcess", "FindProcess", "Kill", "Signal", "SIGKILL"}, s.Sel.Name) {
				t.Errorf("%s uses %s: the control plane never spawns and never kills", file, s.Sel.Name)
			}
			return true
		})
	}
}

func (l layer) refuses(imported string) bool {
	for _, allowed := range l.allows {
		if below(imported, allowed) {
			return false
		}
	}
	return slices.ContainsFunc(l.forbids, func(f string) bool {
		if f == "." { // everything outside the standard library
			first, _, _ := strings.Cut(imported, "/")
			return strings.Contains(first, ".")
		}
		return below(imported, strings.TrimSuffix(f, "/"))
	})
}

func below(path, top string) bool {
	return top == "" || path == top || strings.HasPrefix(path, top+"/")
}

type listed struct {
	ImportPath string
	Imports    []string
}

// packages lists the packages of the module with what they import on Linux.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "../...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
