package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// Paths says where everything of one installation lives. Hero's layout: bin,
// etc and var below PATH_ROOT, and a folder of sockets per service.
type Paths struct {
	Root    string // PATH_ROOT, absolute
	Sockets string // HERO_SOCKET_DIR, absolute
}

// NewPaths returns the layout below root, or else below $PATH_ROOT, or else
// below ~/hero. $HERO_SOCKET_DIR moves the sockets of the root of the
// environment; another root that is named explicitly has its own.
func NewPaths(root string) (Paths, error) {
	sockets := os.Getenv("HERO_SOCKET_DIR")
	if env := os.Getenv("PATH_ROOT"); root == "" {
		root = env
	} else if root != env {
		sockets = ""
	}
	if root == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Paths{}, fmt.Errorf("find the home folder (or set PATH_ROOT): %w", err)
		}
		root = filepath.Join(home, "hero")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return Paths{}, fmt.Errorf("resolve PATH_ROOT: %w", err)
	}
	if sockets == "" {
		sockets = filepath.Join(root, "var", "sockets")
	}
	sockets, err = filepath.Abs(sockets)
	return Paths{Root: root, Sockets: sockets}, err
}

// Bin is the folder of executables.
func (p Paths) Bin() string { return filepath.Join(p.Root, "bin") }

// Etc is the folder of what people write.
func (p Paths) Etc() string { return filepath.Join(p.Root, "etc") }

// Var is the data folder of a service.
func (p Paths) Var(service string) string { return filepath.Join(p.Root, "var", service) }

// Store is the folder of acquired binaries.
func (p Paths) Store() string { return p.Var("store") }

// Socket is the RPC socket of a service.
func (p Paths) Socket(service string) string {
	return filepath.Join(p.Sockets, service, "rpc.sock")
}

// Env is the Hero environment that every process of the installation gets.
func (p Paths) Env() map[string]string {
	env := map[string]string{"PATH_ROOT": p.Root, "HERO_SOCKET_DIR": p.Sockets}
	for _, name := range []string{"PATH_VAR", "PATH_BUILD", "PATH_CODE"} {
		if v := os.Getenv(name); v != "" {
			env[name] = v
		}
	}
	return env
}

// Node names this installation on the bus: the host's name and six digits
// derived from the root, so that two installations on one host share a cluster
// without mixing.
func (p Paths) Node() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	sum := sha256.Sum256([]byte(p.Root))
	return host + "-" + hex.EncodeToString(sum[:3])
}
