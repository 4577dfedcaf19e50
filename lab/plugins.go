package main

import (
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	livekit "forge.ourworld.tf/lhumina_code/lab/service_livekit"
)

// media is the plugin that lab up brings up.
const media = livekit.Name

// plugins lists every plugin there is. A service is added here and nowhere
// else.
func plugins() []plugin.Factory {
	return []plugin.Factory{
		{Name: livekit.Name, Unit: livekit.Unit, New: newLiveKit},
	}
}

// newLiveKit makes the LiveKit plugin, which reads its settings whenever they
// are about to take effect.
func newLiveKit(host plugin.Host, settings plugin.Settings) (plugin.Plugin, error) {
	describe := func() (plugin.Service, error) {
		chosen := livekit.DefaultSettings()
		table, err := settings()
		if err != nil {
			return plugin.Service{}, err
		}
		if err := plugin.Decode(table, &chosen); err != nil {
			return plugin.Service{}, err
		}
		if err := chosen.Validate(); err != nil {
			return plugin.Service{}, err
		}
		return livekit.New(chosen, host.Paths, host.Secrets), nil
	}
	standard := livekit.New(livekit.DefaultSettings(), host.Paths, host.Secrets)
	return plugin.NewLifecycle(host, standard, describe), nil
}
