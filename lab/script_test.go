package main_test

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata/script")

// TestCommandLine runs what people see of the command line, as scripts.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	lab, err := buildLab()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(lab)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("PATH_ROOT", filepath.Join(env.WorkDir, "root"))
			return nil
		},
	})
}
