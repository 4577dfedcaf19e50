package livekit

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Settings are the table [livekit] of the settings file.
type Settings struct {
	Version string `mapstructure:"version"` // of livekit-server
	// A port that is set is pinned; zero takes the usual one if it is free at
	// the first start, or else any, and keeps it.
	Port        int `mapstructure:"port"`         // signalling, TCP
	UDPPort     int `mapstructure:"udp_port"`     // media
	BackendPort int `mapstructure:"backend_port"` // lk-backend, TCP
	MetricsPort int `mapstructure:"metrics_port"` // Prometheus, TCP

	LogLevel string `mapstructure:"log_level"` // of livekit-server: debug, info, warn, error
	// ReleaseURL is the folder of a mirror of the upstream releases, with
	// {version} in it where it has one for each; it ends in a slash.
	ReleaseURL string `mapstructure:"release_url"`
}

// DefaultSettings are those of a table that is empty.
func DefaultSettings() Settings {
	return Settings{Version: "1.13.5", LogLevel: "info"}
}

// Validate names every key whose value cannot be.
func (s Settings) Validate() error {
	var problems []error
	if s.Version == "" || strings.HasPrefix(s.Version, "v") {
		problems = append(problems, errors.New(`livekit.version: expected a version such as "1.13.5", without v`))
	}
	ports := map[int]string{}
	for _, p := range []struct {
		key   string
		value int
	}{
		{"port", s.Port}, {"udp_port", s.UDPPort}, {"backend_port", s.BackendPort}, {"metrics_port", s.MetricsPort},
	} {
		if p.value < 0 || p.value > 65535 {
			problems = append(problems, fmt.Errorf("livekit.%s: expected a port from 1 to 65535", p.key))
		}
		if p.key == "udp_port" {
			continue // the same number may be used on TCP
		}
		if other := ports[p.value]; p.value != 0 && other != "" {
			problems = append(problems, fmt.Errorf("livekit.%s: the same port as livekit.%s", p.key, other))
		}
		ports[p.value] = p.key
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, s.LogLevel) {
		problems = append(problems, errors.New("livekit.log_level: expected debug, info, warn or error"))
	}
	if u, err := url.Parse(s.ReleaseURL); s.ReleaseURL != "" && (err != nil || u.Host == "" || !strings.HasSuffix(s.ReleaseURL, "/")) {
		problems = append(problems, errors.New("livekit.release_url: expected a URL that ends in a slash"))
	}
	return errors.Join(problems...)
}
