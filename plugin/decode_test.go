package plugin_test

import (
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/matryer/is"
)

type settings struct {
	Name   string        `mapstructure:"name"`
	Port   uint16        `mapstructure:"port"`
	Tries  int           `mapstructure:"tries"`
	Grace  time.Duration `mapstructure:"grace"`
	Urls   []string      `mapstructure:"urls"`
	Nested struct {
		Secret string `mapstructure:"secret"`
	} `mapstructure:"nested"`
}

func TestDecodeKeepsDefaults(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	got := settings{Port: 7880, Tries: 3}
	is.NoErr(plugin.Decode(map[string]any{"name": "a", "tries": int64(5), "grace": "1m30s", "nested": map[string]any{"secret": "s"}}, &got))
	is.Equal(got.Port, uint16(7880))
	is.Equal(got.Tries, 5)
	is.Equal(got.Grace, 90*time.Second)
	is.Equal(got.Nested.Secret, "s")
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for name, test := range map[string]struct {
		settings map[string]any
		want     string
	}{
		"unknown key":        {map[string]any{"prot": int64(1)}, "unknown key prot; known are grace, name, nested, port, tries, urls"},
		"unknown nested key": {map[string]any{"nested": map[string]any{"secrte": secret}}, "unknown key secrte in nested; known are secret"},
		"other case":         {map[string]any{"Name": secret}, "unknown key Name; known are grace, name, nested, port, tries, urls"},
		"overflow":           {map[string]any{"port": int64(70000)}, "key port: expected whole number that fits uint16"},
		"negative":           {map[string]any{"port": int64(-1)}, "key port: expected whole number that fits uint16"},
		"fraction":           {map[string]any{"tries": 1.9}, "key tries: expected whole number that fits int"},
		"text for number":    {map[string]any{"tries": secret}, "key tries: expected int"},
		"number for text":    {map[string]any{"name": int64(5)}, "key name: expected string"},
		"bare duration":      {map[string]any{"grace": int64(5)}, `key grace: expected duration such as "30s"`},
		"bad duration":       {map[string]any{"grace": secret}, `key grace: expected duration such as "30s"`},
		"text for list":      {map[string]any{"urls": secret}, "key urls: expected list"},
		"text for table":     {map[string]any{"nested": secret}, "key nested: expected map"},
		"nested number":      {map[string]any{"nested": map[string]any{"secret": int64(4711)}}, "key nested.secret: expected string"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			err := plugin.Decode(test.settings, new(settings))
			is.True(err != nil)
			is.Equal(err.Error(), test.want)
			is.True(!strings.Contains(err.Error(), secret) && !strings.Contains(err.Error(), "4711"))
		})
	}
}
