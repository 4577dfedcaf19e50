package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/host"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// acquisitionVariables are what getting a binary needs of the environment: the
// Go toolchain's settings, proxies, certificates, folders.
var acquisitionVariables = []string{
	"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"GOPATH", "GOMODCACHE", "GOCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE",
	"GOINSECURE", "GOVCS", "GOAUTH", "GOFLAGS", "GOENV", "GOTOOLCHAIN", "GOROOT", "NETRC",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

// secretEnvironment is where they are kept for the plugin host: a proxy or a
// mirror may be named with a password.
const secretEnvironment = "environment"

// environment is what is kept of them.
type environment struct {
	Since     time.Time         `json:"since"` // they have been so
	Variables map[string]string `json:"variables"`
}

// keepEnvironment keeps what this environment has of them, and returns since
// when that has been the same.
func keepEnvironment(ctx context.Context, client *procclient.Client) (since time.Time, err error) {
	now := environment{Since: time.Now(), Variables: map[string]string{}}
	for _, name := range acquisitionVariables {
		if value, ok := os.LookupEnv(name); ok {
			now.Variables[name] = value
		}
	}
	kept, err := keptEnvironment(ctx, client)
	if err != nil || maps.Equal(kept.Variables, now.Variables) {
		return kept.Since, err
	}
	text, err := json.Marshal(now)
	if err != nil {
		return now.Since, fmt.Errorf("keep the environment: %w", err)
	}
	return now.Since, client.SetSecret(ctx, host.Name, secretEnvironment, string(text))
}

func keptEnvironment(ctx context.Context, client *procclient.Client) (kept environment, err error) {
	text, err := client.GetSecret(ctx, host.Name, secretEnvironment)
	if errors.Is(err, plugin.ErrNotFound) {
		return kept, nil
	}
	if err != nil {
		return kept, err
	}
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		return kept, errors.New("the environment of the plugin host in the secret store is damaged")
	}
	return kept, nil
}

// takeEnvironment makes the kept environment that of this process.
func takeEnvironment(ctx context.Context, client *procclient.Client) error {
	kept, err := keptEnvironment(ctx, client)
	if err != nil {
		return err
	}
	for name, value := range kept.Variables {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("take over %s: %w", name, err)
		}
	}
	return nil
}
