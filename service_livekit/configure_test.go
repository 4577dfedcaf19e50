package livekit_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/plugintest"
	livekit "forge.ourworld.tf/lhumina_code/lab/service_livekit"
	"forge.ourworld.tf/lhumina_code/lab/service_livekit/backend"
	"github.com/goccy/go-yaml"
	"github.com/matryer/is"
)

// media is an installation to configure.
type media struct {
	t       *testing.T
	secrets plugin.Secrets
	options livekit.ConfigureOptions
	said    *bytes.Buffer
}

func newMedia(t *testing.T) *media {
	host := plugintest.NewHost(t)
	said := new(bytes.Buffer)
	return &media{t: t, secrets: host.Secrets, said: said, options: livekit.ConfigureOptions{
		Paths: host.Paths, Port: 7880, UDPPort: 7882, BackendPort: 8080, MetricsPort: 7889, Out: said,
	}}
}

func (m *media) configure() error { return livekit.Configure(m.t.Context(), m.options, m.secrets) }

func (m *media) path(name string) string {
	return filepath.Join(m.options.Paths.Var(livekit.Unit), name)
}

func (m *media) read(name string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

var derived = []string{"livekit.yaml", "backend.env", "runtime.json"}

func TestConfigureDerivesFilesThatAgree(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	m := newMedia(t)
	is.NoErr(m.configure())
	for _, name := range derived {
		info, err := os.Stat(m.path(name))
		is.NoErr(err)
		is.Equal(info.Mode().Perm(), os.FileMode(0o600)) // for nobody else to read
	}
	config, err := backend.LoadConfig(m.path("backend.env"))
	is.NoErr(err)
	var server struct {
		Port int               `yaml:"port"`
		Keys map[string]string `yaml:"keys"`
	}
	is.NoErr(yaml.Unmarshal([]byte(m.read("livekit.yaml")), &server))
	is.Equal(server.Keys, map[string]string{config.Key: config.Secret})
	is.Equal(config.URL, "ws://127.0.0.1:7880")
	is.True(strings.Contains(m.read("runtime.json"), config.Key))
	is.True(!strings.Contains(m.read("runtime.json"), config.Secret))
	is.True(!strings.Contains(m.said.String(), config.Secret)) // it tells what it did, not what it wrote
}

func TestConfigureAgainTouchesNothing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	m := newMedia(t)
	is.NoErr(m.configure())
	before := map[string]os.FileInfo{}
	for _, name := range derived {
		before[name], _ = os.Stat(m.path(name))
	}
	is.NoErr(m.configure())
	for _, name := range derived {
		now, err := os.Stat(m.path(name))
		is.NoErr(err)
		is.True(os.SameFile(before[name], now)) // not even replaced by the same
	}
}

func TestConfigureRepairsWhatDisagrees(t *testing.T) {
	t.Parallel()
	for damage, do := range map[string]func(path string) error{
		"deleted":         os.Remove,
		"empty":           func(path string) error { return os.Truncate(path, 0) },
		"corrupt":         func(path string) error { return os.WriteFile(path, []byte("keys: {K2: S2}\x00"), 0o600) },
		"readable by all": func(path string) error { return os.Chmod(path, 0o644) },
		"a dangling link": func(path string) error {
			return firstError(os.Remove(path), os.Symlink(filepath.Join(filepath.Dir(path), "nowhere"), path))
		},
	} {
		for _, name := range derived {
			t.Run(name+" "+damage, func(t *testing.T) {
				t.Parallel()
				is := is.New(t)
				m := newMedia(t)
				is.NoErr(m.configure())
				want := map[string]string{}
				for _, each := range derived {
					want[each] = m.read(each)
				}
				is.NoErr(do(m.path(name)))
				is.NoErr(m.configure())
				for _, each := range derived {
					is.Equal(m.read(each), want[each]) // with the same secret
				}
				info, err := os.Lstat(m.path(name))
				is.NoErr(err)
				is.Equal(info.Mode(), os.FileMode(0o600))
			})
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestConfigureTwiceAtOnceMintsOneSecret(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	m := newMedia(t)
	m.options.Out = io.Discard
	var both sync.WaitGroup
	for range 8 {
		both.Go(func() {
			if err := m.configure(); err != nil {
				t.Errorf("configure: %v", err)
			}
		})
	}
	both.Wait()
	config, err := backend.LoadConfig(m.path("backend.env"))
	is.NoErr(err)
	is.True(strings.Contains(m.read("livekit.yaml"), config.Key+": "+config.Secret))
}

func TestConfigureSaysWhereItCannotWrite(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	m := newMedia(t)
	folder := m.options.Paths.Var(livekit.Unit)
	is.NoErr(os.MkdirAll(filepath.Dir(folder), 0o700))
	is.NoErr(os.WriteFile(folder, nil, 0o600)) // stops root too
	err := m.configure()
	is.True(err != nil && strings.Contains(err.Error(), folder))
	is.NoErr(os.Remove(folder))
	is.NoErr(m.configure())
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*livekit.Settings)
		want   string // in the error; empty: none
	}{
		"default":          {func(*livekit.Settings) {}, ""},
		"version with v":   {func(s *livekit.Settings) { s.Version = "v1.13.5" }, "livekit.version"},
		"no version":       {func(s *livekit.Settings) { s.Version = "" }, "livekit.version"},
		"port too large":   {func(s *livekit.Settings) { s.Port = 70000 }, "livekit.port"},
		"negative port":    {func(s *livekit.Settings) { s.UDPPort = -1 }, "livekit.udp_port"},
		"one port twice":   {func(s *livekit.Settings) { s.Port, s.BackendPort = 9000, 9000 }, "livekit.backend_port"},
		"TCP and UDP":      {func(s *livekit.Settings) { s.Port, s.UDPPort = 9000, 9000 }, ""},
		"unknown level":    {func(s *livekit.Settings) { s.LogLevel = "loud" }, "livekit.log_level"},
		"mirror, no slash": {func(s *livekit.Settings) { s.ReleaseURL = "https://example.org/livekit" }, "livekit.release_url"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			s := livekit.DefaultSettings()
			test.change(&s)
			err := s.Validate()
			is.Equal(err == nil, test.want == "")
			is.True(err == nil || strings.Contains(err.Error(), test.want)) // the key is named
		})
	}
}

func TestServiceIsGatedByConfigure(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	m := newMedia(t)
	service := livekit.New(livekit.DefaultSettings(), m.options.Paths, m.secrets)
	actions, err := service.Actions(plugin.Instance{Binary: "/livekit-server", Lab: "/lab", Paths: m.options.Paths})
	is.NoErr(err)
	is.Equal(actions[0].Kind, plugin.Oneshot)
	for _, a := range actions[1:] {
		is.Equal(a.DependsOn, []plugin.Dependency{plugin.Dependency(actions[0].Name)}) // never started bare
		is.True(len(a.Ready) > 0)                                                      // ready is never a PID
	}
}
