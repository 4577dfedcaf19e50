// Package livekit is LiveKit as a service of lab: livekit-server, an external
// binary, and lk-backend, which signs the tokens that it accepts.
//
// It is data for the bring-up of package plugin, with two hooks: [Configure],
// which the supervisor runs before anything else of the service, and the proof
// of readiness. Secrets are minted once and kept in the supervisor's secret
// store; every file is derived from there and repaired when it disagrees.
package livekit

import (
	"fmt"
	"path/filepath"
	"strconv"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
)

// The names by which people and the supervisor know the service.
const (
	Name = "livekit"
	Unit = "hero_livekit_media"
)

// The actions of the service.
const (
	actionConfigure = "configure"
	actionServer    = "livekit-server"
	actionBackend   = "lk-backend"
)

// The ports of the service.
const (
	portSignal  = "signal"
	portUDP     = "udp"
	portBackend = "backend"
	portMetrics = "metrics"
)

// stopDelayMS keeps signals away from a livekit-server that has just begun: it
// loses one that comes in its first 150 ms and then serves for ever.
const stopDelayMS = 1000

// forceAfterMS is how long a livekit-server that may not drain is given to say
// goodbye.
const forceAfterMS = 1000

// New describes the service with these settings.
func New(s Settings, paths plugin.Paths, secrets plugin.Secrets) plugin.Service {
	return plugin.Service{
		Name: Name, Unit: Unit, Noun: "media",
		Description: "LiveKit: livekit-server and lk-backend",
		Binary:      s.binary(),
		Ports: []plugin.Port{
			port(portSignal, "tcp", s.Port, 7880),
			port(portUDP, "udp", s.UDPPort, 7882),
			port(portBackend, "tcp", s.BackendPort, 8080),
			port(portMetrics, "tcp", s.MetricsPort, 7889),
		},
		Actions: func(in plugin.Instance) ([]plugin.Action, error) { return actions(s, in), nil },
		Prove:   prover{secrets}.prove,
	}
}

// port is pinned when the settings name it.
func port(name, network string, pinned, preferred int) plugin.Port {
	if pinned != 0 {
		return plugin.Port{Name: name, Network: network, Preferred: pinned, Pinned: true}
	}
	return plugin.Port{Name: name, Network: network, Preferred: preferred}
}

// binary says where livekit-server comes from: the upstream release, and where
// that is not to be had, its Go module.
func (s Settings) binary() binary.Spec {
	const upstream = "https://github.com/livekit/livekit/releases/download/v{version}/"
	release := upstream
	if s.ReleaseURL != "" {
		release = s.ReleaseURL
	}
	return binary.Spec{
		Name: "livekit-server", Version: s.Version, Executable: "livekit-server",
		Sources: []binary.Source{
			{
				Kind:         "release",
				URLs:         []string{release + "livekit_{version}_{os}_{arch}.tar.gz"},
				ChecksumsURL: release + "checksums.txt",
			},
			{
				Kind:    "gomodule",
				Module:  "github.com/livekit/livekit-server",
				Package: "github.com/livekit/livekit-server/cmd/server",
			},
		},
	}
}

// actions are gated by configure: the media are never started bare.
func actions(s Settings, in plugin.Instance) []plugin.Action {
	files := filesIn(in.Paths)
	number := func(name string) string { return strconv.Itoa(in.Ports[name]) }
	return []plugin.Action{
		{
			Name: actionConfigure, Kind: plugin.Oneshot, TimeoutMS: 60_000,
			Restart: plugin.RestartOnFailure, MaxRestarts: 3,
			Command: []string{
				in.Lab, "livekit", "configure",
				"--port", number(portSignal), "--udp-port", number(portUDP),
				"--backend-port", number(portBackend), "--metrics-port", number(portMetrics),
				"--livekit-log-level", s.LogLevel,
			},
		},
		{
			Name:      actionServer,
			Command:   []string{in.Binary, "--config", files.server},
			DependsOn: []plugin.Dependency{actionConfigure},
			Ready: []ready.Probe{
				{UDP: fmt.Sprintf("127.0.0.1:%d", in.Ports[portUDP])},
				{HTTP: fmt.Sprintf("http://127.0.0.1:%d/", in.Ports[portSignal])},
			},
			Drain: true, StopDelayMS: stopDelayMS, StopTimeoutMS: forceAfterMS,
		},
		{
			Name:      actionBackend,
			Command:   []string{in.Lab, "lk-backend", "--env-file", files.backend},
			DependsOn: []plugin.Dependency{actionConfigure},
			Ready:     []ready.Probe{{HTTP: fmt.Sprintf("http://127.0.0.1:%d/health", in.Ports[portBackend])}},
		},
	}
}

// files are what Configure derives.
type files struct {
	dir, server, backend, runtime string
}

func filesIn(paths plugin.Paths) files {
	dir := paths.Var(Unit)
	return files{
		dir:     dir,
		server:  filepath.Join(dir, "livekit.yaml"),
		backend: filepath.Join(dir, "backend.env"),
		runtime: filepath.Join(dir, "runtime.json"),
	}
}
