package main_test

import (
	"net/url"
	"strings"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"github.com/matryer/is"
)

// TestOutsideClusterTakesThePlaceOfTheBus has one installation use the NATS of
// another: the two share it without mixing.
func TestOutsideClusterTakesThePlaceOfTheBus(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	theirs, ours := upInstallation(t), newInstallation(t)
	paths, err := plugin.NewPaths(theirs.root)
	is.NoErr(err)
	natsURL, err := procclient.New(paths).GetSecret(t.Context(), busUnit, "nats_url")
	is.NoErr(err)

	ours.extraEnv = []string{"NATS_URL=" + natsURL}
	ours.must("up", "--timeout", "2m")
	is.Equal(ours.readyStatus().service(busUnit).Name, "") // no embedded one is started
	ours.token("room", "ann")
	before := theirs.readyStatus()

	ours.extraEnv = nil
	ours.must("service", "livekit", "--restart") // the cluster is remembered
	sameMedia(t, before, theirs.readyStatus())   // whose other lab did not listen

	media := ours.readyStatus()
	ours.must("up", "--embedded-bus")
	now := ours.readyStatus()
	is.True(now.pid(busUnit) != 0)
	sameMedia(t, media, now) // changing the bus touches no call
}

func TestClusterThatCannotBeUsedChangesNothing(t *testing.T) {
	t.Parallel()
	theirs, ours := upInstallation(t), upInstallation(t)
	paths, err := plugin.NewPaths(theirs.root)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := procclient.New(paths).GetSecret(t.Context(), busUnit, "nats_url")
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := url.Parse(secret)
	if err != nil {
		t.Fatal(err)
	}
	before := ours.readyStatus()
	for name, natsURL := range map[string]string{
		"no URL":           "hunter2",
		"nobody listens":   "nats://ann:hunter2@127.0.0.1:1",
		"another password": "nats://" + cluster.User.Username() + ":hunter2@" + cluster.Host,
	} {
		is := is.New(t)
		ours.extraEnv = []string{"NATS_URL=" + natsURL}
		got := ours.run("up")
		ours.extraEnv = nil
		got.expect(t, 1)
		t.Logf("%s: %s", name, got.stderr)
		is.True(strings.Contains(got.stderr, "NATS_URL"))
		is.True(!strings.Contains(got.stderr, "hunter2"))
	}
	now := ours.readyStatus()
	sameMedia(t, before, now)
	if now.pid(busUnit) != before.pid(busUnit) || now.pid(hostUnit) != before.pid(hostUnit) {
		t.Fatal("bus or host was restarted")
	}
}
