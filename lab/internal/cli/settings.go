package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/BurntSushi/toml"
)

// settingsOf reads the plugin's table of etc/lab.toml, each time it is asked.
func settingsOf(paths plugin.Paths, name string) plugin.Settings {
	return func() (map[string]any, error) {
		file := filepath.Join(paths.Etc(), "lab.toml")
		all := map[string]any{}
		_, err := toml.DecodeFile(file, &all)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, tomlError(err))
		}
		table, ok := all[name]
		if !ok {
			return nil, nil
		}
		settings, ok := table.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("read %s: %s is not a table", file, name)
		}
		return settings, nil
	}
}

// tomlError says where and what, without the line itself, which may hold a
// secret.
func tomlError(err error) error {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("line %d: %s", parse.Position.Line, parse.Message)
	}
	return err
}
