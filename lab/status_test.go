package main_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// The services of an installation, by their names under the supervisor.
const (
	busUnit     = "hero_bus"
	hostUnit    = "lab_host"
	controlUnit = "hero_livekit_server"
	mediaUnit   = "hero_livekit_media"
)

// status is what scripts rely on in `lab status --json`.
type status struct {
	Ready      bool `json:"ready"`
	Supervisor *struct {
		PID       int    `json:"pid"`
		KeeperPID int    `json:"keeper_pid"`
		Version   string `json:"version"`
	} `json:"supervisor"`
	Media struct {
		State        string    `json:"state"`
		Revision     uint64    `json:"revision"`
		Since        time.Time `json:"since"`
		Version      string    `json:"version"`
		URL          string    `json:"url"`
		BackendURL   string    `json:"backend_url"`
		Participants int       `json:"participants"`
		Reason       string    `json:"reason"`
	} `json:"media"`
	Services []service `json:"services"`
	Problems []string  `json:"problems"`
}

type service struct {
	Name    string   `json:"name"`
	Wanted  string   `json:"wanted"`
	State   string   `json:"state"`
	Actions []action `json:"actions"`
}

type action struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Ready     bool   `json:"ready"`
	PID       int    `json:"pid"`
	PGID      int    `json:"pgid"`
	StartedAt string `json:"started_at"`
	Restarts  int    `json:"restarts"`
	ExitCode  *int   `json:"exit_code"`
	Why       string `json:"why"`
}

// status asks for the state of everything; the exit code has to agree with it.
func (l *installation) status() status {
	l.t.Helper()
	got := l.run("status", "--json")
	var s status
	got.decode(l.t, &s)
	if want := map[bool]int{true: 0, false: 4}[s.Ready]; got.code != want {
		l.t.Fatalf("lab status: exit %d with ready %v", got.code, s.Ready)
	}
	return s
}

// readyStatus is status of what has to be ready.
func (l *installation) readyStatus() status {
	l.t.Helper()
	s := l.status()
	if err := s.isReady(); err != nil {
		l.t.Fatal(err)
	}
	return s
}

func (s status) isReady() error {
	if !s.Ready {
		return fmt.Errorf("not ready: %v", s.Problems)
	}
	return nil
}

// service returns the named service, empty when there is none.
func (s status) service(name string) service {
	for _, each := range s.Services {
		if each.Name == name {
			return each
		}
	}
	return service{}
}

// action returns the named action of the service, empty when there is none.
func (s status) action(service, name string) action {
	for _, each := range s.service(service).Actions {
		if each.Name == name {
			return each
		}
	}
	return action{}
}

// pid returns the process of a service that has but one.
func (s status) pid(service string) int {
	for _, each := range s.service(service).Actions {
		return each.PID
	}
	return 0
}

func (s status) livekit() action { return s.action(mediaUnit, "livekit-server") }
func (s status) backend() action { return s.action(mediaUnit, "lk-backend") }

// token gets a join token from lk-backend.
func (l *installation) token(room, identity string) joinToken {
	l.t.Helper()
	got := l.runQuietly("token", "--room", room, "--identity", identity, "--json")
	got.expect(l.t, 0)
	var token joinToken
	got.decode(l.t, &token)
	if token.URL == "" || token.Token == "" || !token.ExpiresAt.After(time.Now()) {
		l.t.Fatalf("lab token: incomplete answer, url %q, expires %s", token.URL, token.ExpiresAt)
	}
	return token
}

// joinToken is what `lab token --json` prints.
type joinToken struct {
	URL       string    `json:"url"`
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// sameMedia fails the test unless livekit-server and lk-backend are the very
// processes they were.
func sameMedia(t *testing.T, before, now status) {
	t.Helper()
	for _, name := range []string{"livekit-server", "lk-backend"} {
		a, b := before.action(mediaUnit, name), now.action(mediaUnit, name)
		if a.PID == 0 || a.PID != b.PID || a.PGID != b.PGID || a.StartedAt != b.StartedAt {
			t.Fatalf("%s was process %d in group %d, started %s; now it is %d in group %d, started %s",
				name, a.PID, a.PGID, a.StartedAt, b.PID, b.PGID, b.StartedAt)
		}
	}
}

// jsonLine decodes one line of output.
func jsonLine[T any](t *testing.T, line []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(line, &v); err != nil {
		t.Fatalf("read %q: %v", line, err)
	}
	return v
}
