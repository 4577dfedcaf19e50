package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/BurntSushi/toml"
)

// maxSettings is how long a file that people write may be, in bytes.
const maxSettings = 1 << 20

// settingsOf reads the plugin's table of etc/lab.toml, each time it is asked. A
// table of no plugin is an error: it would be without effect.
func (a *App) settingsOf(paths plugin.Paths, name string) plugin.Settings {
	return func() (map[string]any, error) {
		file := filepath.Join(paths.Etc(), "lab.toml")
		all, err := readTOML(file)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		known := []string{}
		for _, f := range a.Plugins {
			known = append(known, f.Name)
		}
		for _, key := range slices.Sorted(maps.Keys(all)) {
			if !slices.Contains(known, key) {
				return nil, fmt.Errorf("read %s: unknown table %s; known are %s", file, key, strings.Join(known, ", "))
			}
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

// readTOML reads a file that people write. Its errors say where and what, without
// the line itself, which may hold a secret.
func readTOML(file string) (map[string]any, error) {
	info, err := os.Stat(file) // before it is opened: some files make whoever opens them wait
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxSettings {
		return nil, fmt.Errorf("read %s: it is not a regular file of at most %d bytes", file, maxSettings)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	defer f.Close()
	table := map[string]any{}
	_, err = toml.NewDecoder(io.LimitReader(f, maxSettings)).Decode(&table)
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return nil, fmt.Errorf("read %s: line %d: %s", file, parse.Position.Line, parse.Message)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return table, nil
}
