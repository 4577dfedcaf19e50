package main_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/matryer/is"
)

// aToken is how every signed token begins: {"alg": or {"typ": in base64, and
// then a dot.
var aToken = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]+`)

// secrets asks the supervisor for every secret of the installation, by
// "context/name". Of a URL it is the password that is secret.
func (l *installation) secrets() map[string]string {
	l.t.Helper()
	client := procclient.Impatient(plugin.Paths{Root: l.root, Sockets: filepath.Join(l.root, "var", "sockets")})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	found := map[string]string{}
	for _, space := range []string{busUnit, "livekit"} {
		names, err := client.ListSecrets(ctx, space)
		if err != nil {
			return found // no supervisor: it has told nobody
		}
		for _, name := range names {
			value, err := client.GetSecret(ctx, space, name)
			if err != nil {
				l.t.Fatal(err)
			}
			if u, err := url.Parse(value); err == nil && u.User != nil {
				value, _ = u.User.Password()
			}
			if name != "api_key" { // it is a name: every token says it
				found[space+"/"+name] = value
			}
		}
	}
	return found
}

// checkSecrets fails the test if a secret or a token stands anywhere but where
// it belongs.
func (l *installation) checkSecrets() {
	l.t.Helper()
	l.search(l.secrets(), l.exposed())
}

// search looks for the secrets, and for anything that looks like a token.
func (l *installation) search(secrets, places map[string]string) {
	l.t.Helper()
	for where, text := range places {
		for name, value := range secrets {
			if len(value) >= 8 && strings.Contains(text, value) {
				l.t.Errorf("the secret %s stands in %s", name, where)
			}
		}
		if token := aToken.FindString(text); token != "" {
			l.t.Errorf("a token stands in %s: %.20s…", where, token)
		}
	}
}

// exposed is all that others may come to see: what commands printed, arguments
// and environments of all processes, and their logs.
func (l *installation) exposed() map[string]string {
	places := map[string]string{"the output of commands": l.printed()}
	for _, p := range processesBelow(l.root) {
		places[fmt.Sprintf("the arguments of %d", p.pid)] = p.command
		places[fmt.Sprintf("the environment of %s", p)] = strings.Join(p.environ, "\n")
	}
	for _, file := range filesBelow(filepath.Join(l.root, "var"), ".log") {
		if text, err := os.ReadFile(file); err == nil {
			places[strings.TrimPrefix(file, l.root)] = string(text)
		}
	}
	return places
}

func TestNoSecretGetsAbout(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	issued := l.token(room, "somebody")
	c := startCall(t, room, func(identity string) joinToken { return l.token(room, identity) })
	l.run("token", "--room", "", "--identity", "nobody")
	l.run("service", "no-such-service", "--status")
	l.kill9(t, l.readyStatus().backend().PID)
	eventually(t, readyAgain, func() error { return l.status().isReady() })
	joinOnce(t, l.token(room, "guest"))
	c.end()
	l.must("service", "livekit", "--restart")

	secrets := l.secrets()
	t.Logf("secrets: %v", slices.Sorted(maps.Keys(secrets)))
	is.True(len(secrets) >= 3) // of LiveKit's key, of lk-backend's callers, of the bus
	l.mustKnow(secrets, strings.Join(slices.Collect(maps.Values(l.files())), "\n"))
	secrets["an issued token"] = issued.Token

	places := l.exposed()
	history := l.tail("--all")
	history.await("what is the last", 0, func(e told) bool { return e.is("test.marked") })
	places["the events"] = history.printed()
	places["lab status"] = l.run("status", "--json").stdout + l.run("status").stdout
	for _, unit := range []string{busUnit, hostUnit, controlUnit, mediaUnit} {
		places["lab service logs "+unit] = l.run("service", "logs", unit, "-n", "10000").stdout
	}
	is.True(len(history.seen()) > 10)
	l.search(secrets, places)
	l.checkModes(secrets)
}

// mustKnow makes sure that the search would find what it looks for: the secret
// that the files hold is among those known.
func (l *installation) mustKnow(secrets map[string]string, text string) {
	l.t.Helper()
	for _, value := range secrets {
		if len(value) >= 32 && strings.Contains(text, value) {
			return
		}
	}
	l.t.Fatal("none of the known secrets is the one in the derived files")
}

// checkModes fails the test if a secret is on disk in a file that others may
// read, or in one that need not have it.
func (l *installation) checkModes(secrets map[string]string) {
	l.t.Helper()
	for _, file := range filesBelow(l.root, "") {
		name := strings.TrimPrefix(file, l.root+"/")
		if strings.HasPrefix(name, "var/store/") || strings.HasPrefix(name, "bin/") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it is gone
		}
		for secret, value := range secrets {
			if len(value) < 8 || !strings.Contains(string(text), value) {
				continue
			}
			if !slices.Contains(derived, name) && !strings.HasPrefix(name, "var/hero_proc/hero_proc.db") {
				l.t.Errorf("the secret %s stands in %s", secret, name)
			}
			if info, err := os.Stat(file); err == nil && info.Mode().Perm() != 0o600 {
				l.t.Errorf("%s holds the secret %s and has mode %o", name, secret, info.Mode().Perm())
			}
		}
	}
}
