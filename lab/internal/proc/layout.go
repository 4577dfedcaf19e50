//go:build linux

package proc

import (
	"fmt"
	"os"
	"path/filepath"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// layout is where the supervisor keeps what is its own.
type layout struct{ dir, sockets string }

// prepare makes the folders, for this user only.
func prepare(paths plugin.Paths) (layout, error) {
	l := layout{paths.Var(Name), filepath.Dir(paths.Socket(Name))}
	for _, dir := range []string{l.dir, l.sockets, l.logs(), string(l.exits())} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return l, fmt.Errorf("make folder of the supervisor: %w", err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return l, fmt.Errorf("close folder of the supervisor to others: %w", err)
		}
	}
	return l, nil
}

func (l layout) store() string          { return filepath.Join(l.dir, Name+".db") }
func (l layout) keys() string           { return filepath.Join(l.dir, "secrets.keys") }
func (l layout) keeperLock() string     { return filepath.Join(l.dir, "keeper.lock") }
func (l layout) supervisorLock() string { return filepath.Join(l.dir, "supervisor.lock") }
func (l layout) notify() string         { return filepath.Join(l.sockets, "notify.sock") }
func (l layout) exits() exits           { return exits(filepath.Join(l.dir, "exits")) }
func (l layout) logs() string           { return filepath.Join(l.dir, "logs") }

// logSuffix ends the names of output files.
const logSuffix = ".log"

// log is the output of an action; both names are known to be harmless.
func (l layout) log(service, action string) logbook {
	return logbook(filepath.Join(l.logs(), service, action+logSuffix))
}
