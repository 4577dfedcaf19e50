package main_test

import (
	"errors"
	"flag"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata/script")

// TestCommandLine runs what people see of the command line, as scripts, where
// nothing was ever brought up. Besides what testscript knows, "exits CODE
// PROGRAM ARG..." runs a program that has to end with that code.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	lab, err := buildLab()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(lab)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("PATH_ROOT", filepath.Join(env.WorkDir, "root"))
			return nil
		},
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, expected %d", code, want)
	}
}
