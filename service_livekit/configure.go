package livekit

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/service_livekit/backend"
	"github.com/goccy/go-yaml"
	"github.com/google/renameio/v2"
	"github.com/joho/godotenv"
)

// The secrets of the service, in the context of its name.
const (
	secretKey    = "api_key"
	secretSecret = "api_secret"
	secretBearer = "backend_bearer"
)

// ConfigureOptions is what the files are derived from besides the secrets.
type ConfigureOptions struct {
	Paths                                   plugin.Paths
	Port, UDPPort, BackendPort, MetricsPort int
	LogLevel                                string    // of livekit-server; empty: info
	Out                                     io.Writer // is told what was done; never a value
}

// Configure has everything in place that the media need: the secrets, minted
// once and never again, and the three files that are derived from them. A file
// that is as it should be is not touched; any other is replaced, whole, with
// mode 0600. It may run at any time and any number of times.
func Configure(ctx context.Context, o ConfigureOptions, secrets plugin.Secrets) error {
	if o.Out == nil {
		o.Out = io.Discard
	}
	keys := map[string]string{}
	for _, s := range []struct{ name, fresh string }{
		{secretKey, "API" + rand.Text()[:12]}, {secretSecret, mint()}, {secretBearer, mint()},
	} {
		value, err := once(ctx, secrets, s.name, s.fresh)
		if err != nil {
			return fmt.Errorf("keep secret %s: %w", s.name, err)
		}
		keys[s.name] = value
	}
	derived, err := derive(o, keys)
	if err != nil {
		return err
	}
	f := filesIn(o.Paths)
	if err := errors.Join(os.MkdirAll(f.dir, 0o700), os.Chmod(f.dir, 0o700)); err != nil {
		return fmt.Errorf("make folder of the media (is it writable?): %w", err)
	}
	for _, file := range []string{f.server, f.backend, f.runtime} {
		did, err := ensureFile(file, derived[file])
		if err != nil {
			return fmt.Errorf("write %s (is its folder writable, and not full?): %w", file, err)
		}
		fmt.Fprintf(o.Out, "%s %s\n", did, filepath.Base(file))
	}
	return nil
}

// mint returns a secret of 256 bits.
func mint() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// once keeps fresh under the name unless there is a value already, which then
// is the one.
func once(ctx context.Context, secrets plugin.Secrets, name, fresh string) (string, error) {
	kept, err := secrets.GetSecret(ctx, Name, name)
	if !errors.Is(err, plugin.ErrNotFound) {
		return kept, err
	}
	if err := secrets.CreateSecret(ctx, Name, name, fresh); err == nil {
		return fresh, nil
	}
	return secrets.GetSecret(ctx, Name, name) // another's, or ours whose answer was lost
}

// derive returns the content of each file.
func derive(o ConfigureOptions, keys map[string]string) (map[string][]byte, error) {
	f := filesIn(o.Paths)
	server, err := yaml.Marshal(serverConfig(o, keys))
	if err != nil {
		return nil, fmt.Errorf("encode livekit.yaml: %w", err)
	}
	env, err := godotenv.Marshal(map[string]string{
		backend.EnvKey: keys[secretKey], backend.EnvSecret: keys[secretSecret], backend.EnvBearer: keys[secretBearer],
		backend.EnvPort: fmt.Sprint(o.BackendPort), backend.EnvURL: loopbackURL("ws", o.Port),
		backend.EnvSQLite: filepath.Join(f.dir, "backend.db"),
	})
	if err != nil {
		return nil, fmt.Errorf("encode backend.env: %w", err)
	}
	runtime, err := json.MarshalIndent(map[string]any{
		"url": loopbackURL("ws", o.Port), "backend_url": loopbackURL("http", o.BackendPort),
		"ports":   map[string]int{portSignal: o.Port, portUDP: o.UDPPort, portBackend: o.BackendPort, portMetrics: o.MetricsPort},
		"api_key": keys[secretKey], "api_secret_sha256": fingerprint(keys[secretSecret]),
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode runtime.json: %w", err)
	}
	return map[string][]byte{f.server: server, f.backend: append([]byte(env), '\n'), f.runtime: append(runtime, '\n')}, nil
}

// serverConfig is livekit-server on loopback and nowhere else. What it leaves
// out, livekit-server would put on every interface or ask the internet for.
func serverConfig(o ConfigureOptions, keys map[string]string) any {
	level := o.LogLevel
	if level == "" {
		level = "info"
	}
	return yaml.MapSlice{
		{Key: "port", Value: o.Port},
		{Key: "bind_addresses", Value: []string{"127.0.0.1"}},
		{Key: "rtc", Value: yaml.MapSlice{
			{Key: "udp_port", Value: o.UDPPort},
			{Key: "tcp_port", Value: 0}, // ICE over TCP ignores bind_addresses
			{Key: "node_ip", Value: "127.0.0.1"},
			{Key: "use_external_ip", Value: false},
			{Key: "enable_loopback_candidate", Value: true}, // without it there is no UDP on loopback
			{Key: "ips", Value: map[string][]string{"includes": {"127.0.0.1/32"}}},
		}},
		{Key: "prometheus", Value: map[string]int{"port": o.MetricsPort}},
		{Key: "logging", Value: yaml.MapSlice{
			{Key: "level", Value: level},
			{Key: "json", Value: true},
			{Key: "component_levels", Value: map[string]string{"api": "warn"}}, // or every look at the rooms is a line
		}},
		{Key: "room", Value: yaml.MapSlice{{Key: "auto_create", Value: true}, {Key: "empty_timeout", Value: 300}, {Key: "departure_timeout", Value: 20}}},
		{Key: "keys", Value: map[string]string{keys[secretKey]: keys[secretSecret]}},
	}
}

func loopbackURL(scheme string, port int) string {
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, port)
}

// fingerprint tells whether two secrets are the same without telling what they
// are.
func fingerprint(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// ensureFile has the file hold the content, for its owner only, and says what
// it did.
func ensureFile(path string, content []byte) (did string, err error) {
	info, statErr := os.Lstat(path)
	if statErr == nil && info.Mode().IsRegular() && info.Mode().Perm() == 0o600 {
		if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, content) {
			return "kept", nil
		}
	}
	if err := replaceFile(path, content); err != nil {
		return "", err
	}
	if errors.Is(statErr, os.ErrNotExist) {
		return "wrote", nil
	}
	return "repaired", nil
}

// replaceFile has the content appear whole or not at all, with mode 0600
// whatever the mode of what was there.
func replaceFile(path string, content []byte) error {
	f, err := renameio.NewPendingFile(path, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Cleanup())
	}
	return f.CloseAtomicallyReplace()
}
