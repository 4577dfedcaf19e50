// Package manifest reads an external service that is declared in TOML.
//
// It is strict: an unknown key, a wrong type or a missing name is an error that
// names the key, and it comes before anything is done. Values, which may be
// secrets, are not in the errors.
package manifest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"github.com/BurntSushi/toml"
)

// maxSize is more than any manifest written by hand.
const maxSize = 1 << 20

// Manifest declares an external service: its binary and the actions that run it.
type Manifest struct {
	Name        string      `mapstructure:"name"`
	Description string      `mapstructure:"description"`
	Binary      binary.Spec `mapstructure:"binary"`
	Actions     []Action    `mapstructure:"action"`
}

// Action declares one process of the service.
type Action struct {
	Name        string            `mapstructure:"name"`
	Kind        string            `mapstructure:"kind"`
	Command     []string          `mapstructure:"command"`
	Cwd         string            `mapstructure:"cwd"`
	Env         map[string]string `mapstructure:"env"`
	Ports       map[string]int    `mapstructure:"ports"` // 0: any that is free, then kept
	DependsOn   []string          `mapstructure:"depends_on"`
	Restart     string            `mapstructure:"restart"`
	StopSignal  string            `mapstructure:"stop_signal"`
	StopTimeout time.Duration     `mapstructure:"stop_timeout"`
	Ready       []ready.Probe     `mapstructure:"ready"`
}

// ReadFile reads and checks the manifest in the file.
func ReadFile(file string) (Manifest, error) {
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxSize {
		err = fmt.Errorf("it has %d bytes, at most %d are read", info.Size(), maxSize)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	m, err := Parse(string(text))
	if err != nil {
		return m, fmt.Errorf("manifest %s: %w", file, err)
	}
	return m, nil
}

// Parse reads and checks a manifest.
func Parse(text string) (Manifest, error) {
	var m Manifest
	table := map[string]any{}
	if _, err := toml.Decode(text, &table); err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) { // its own text quotes the line
			return m, fmt.Errorf("line %d: %s", parse.Position.Line, parse.Message)
		}
		return m, err
	}
	if err := plugin.Decode(table, &m); err != nil {
		return m, err
	}
	return m, m.validate()
}

func (m Manifest) validate() error {
	var problems []error
	need := func(key, value string) {
		if value == "" {
			problems = append(problems, fmt.Errorf("key %s is missing", key))
		}
	}
	need("name", m.Name)
	need("binary.name", m.Binary.Name)
	need("binary.version", m.Binary.Version)
	if len(m.Binary.Sources) == 0 {
		problems = append(problems, errors.New("[[binary.source]] is missing: say where the binary comes from"))
	}
	for i, a := range m.Actions {
		need(fmt.Sprintf("action[%d].name", i), a.Name)
		if len(a.Command) == 0 {
			problems = append(problems, fmt.Errorf("key action[%d].command is missing", i))
		}
		for j, p := range a.Ready {
			if err := p.Validate(); err != nil {
				problems = append(problems, fmt.Errorf("action[%d].ready[%d]: %w", i, j, err))
			}
		}
	}
	return errors.Join(problems...)
}
