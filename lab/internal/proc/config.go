package proc

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// Name is the supervisor's name: of its data folder and of its socket.
const Name = "hero_proc"

// SuperviseFlag is what the keeper appends to [Config.Command] to start the
// supervisor: the command that gets it calls [Supervise] instead of [Keep].
const SuperviseFlag = "--supervise"

// Config says which installation is supervised and how keeper and supervisor
// start each other.
type Config struct {
	Paths   plugin.Paths
	Version string // told to callers of system.info
	// Command is the program and arguments that run the keeper, such as
	// "/home/ann/hero/bin/lab proc --root /home/ann/hero". The program is an
	// absolute path: at a restart whatever is there by then is run.
	Command []string
	Log     *slog.Logger
	// LogCap is how much of the output of an action is kept, in bytes: beyond
	// that its older half is forgotten. Zero means 32 MiB.
	LogCap int64
}

// check refuses a configuration that no keeper or supervisor can run with.
func (c Config) check() error {
	if len(c.Command) == 0 || !filepath.IsAbs(c.Command[0]) {
		return fmt.Errorf("%w: Config.Command %q does not begin with an absolute path", ErrBroken, c.Command)
	}
	if c.Log == nil {
		return fmt.Errorf("%w: Config.Log is not set", ErrBroken)
	}
	return nil
}

// What Keep and Supervise return where the caller has to branch.
var (
	// ErrRunning says that the installation has a living keeper.
	ErrRunning = errors.New("hero_proc is running already")
	// ErrUnsupported says that this platform lacks what the supervisor needs.
	ErrUnsupported = errors.New("the embedded supervisor needs Linux (pidfd, child subreaper)")
	// ErrRestart is the end of a supervisor that was asked to make place for a
	// new one: nothing is wrong.
	ErrRestart = errors.New("the supervisor is to be started anew")
	// ErrBroken marks what no new start would mend, such as a damaged store.
	ErrBroken = errors.New("the supervisor cannot start")
)

// The exit codes by which the supervisor tells its keeper what to do. Any
// other end is taken as an accident, and a new supervisor is started.
const (
	codeEnded   = 0
	codeRestart = 75
	codeBroken  = 78
)

// ExitCode returns the exit code of a process that got err from [Supervise];
// the keeper counts on it.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return codeEnded
	case errors.Is(err, ErrRestart):
		return codeRestart
	case errors.Is(err, ErrBroken):
		return codeBroken
	}
	return 1
}
