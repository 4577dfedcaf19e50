package manifest_test

import (
	"strings"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/plugin/manifest"
	"github.com/matryer/is"
)

const nats = `
name = "nats"
[binary]
name = "nats-server"
version = "2.15.2"
executable = "nats-server"
words = { os = { darwin = "mac" }, arch = { amd64 = "x86_64" } }
[[binary.source]]
kind = "release"
urls = ["https://example.org/v{version}/nats-server-v{version}-{os}-{arch}.tar.gz"]
checksums_url = "https://example.org/v{version}/SHA256SUMS"
[[binary.source]]
kind = "gomodule"
module = "github.com/nats-io/nats-server/v2"
package = "github.com/nats-io/nats-server/v2"
[[action]]
name = "server"
command = ["{binary}", "-a", "127.0.0.1", "-p", "{port.client}"]
ports = { client = 4222 }
depends_on = []
restart = "on-failure"
stop_signal = "TERM"
stop_timeout = "30s"
[[action.ready]]
tcp = "127.0.0.1:{port.client}"
`

func TestParse(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	m, err := manifest.Parse(nats)
	is.NoErr(err)
	is.Equal(m.Binary.Version, "2.15.2")
	is.Equal(m.Binary.Words.Arch["amd64"], "x86_64")
	is.Equal(m.Binary.Sources[1].Module, "github.com/nats-io/nats-server/v2")
	is.Equal(m.Actions[0].Ports["client"], 4222)
	is.Equal(m.Actions[0].Ready[0].TCP, "127.0.0.1:{port.client}")
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ old, new, want string }{
		"misspelt key":     {`checksums_url`, `checksum_url`, "unknown key checksum_url in binary.source[0]"},
		"unknown table":    {`[[action]]`, `[[actions]]`, "unknown key actions"},
		"wrong type":       {`version = "2.15.2"`, `version = 2`, "key binary.version: expected string"},
		"no name":          {`name = "nats"`, ``, "key name is missing"},
		"bare duration":    {`"30s"`, `30`, `key action[0].stop_timeout: expected duration such as "30s"`},
		"two probes":       {`tcp = "127.0.0.1:{port.client}"`, "tcp = \"a:1\"\nunix = \"/s\"", "action[0].ready[0]: a probe has exactly one of"},
		"not TOML":         {`[binary]`, `[binary`, "line "},
		"twice the same":   {`name = "nats"`, "name = \"nats\"\nname = \"x\"", "line 3"},
		"no source at all": {nats, "name=\"a\"\n[binary]\nname=\"b\"\nversion=\"1\"", "[[binary.source]] is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			_, err := manifest.Parse(strings.Replace(nats, test.old, test.new, 1))
			is.True(err != nil)
			is.True(strings.Contains(err.Error(), test.want)) // the error names the key
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(nats)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := manifest.Parse(text)
		if err == nil && (m.Name == "" || len(m.Binary.Sources) == 0) {
			t.Fatal("accepted without a name or a source")
		}
	})
}
