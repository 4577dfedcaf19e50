package events_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/matryer/is"
)

func Example() {
	request, err := events.New(events.StartRequested, "/lab/here/cli", "livekit", events.Request{Service: "livekit"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ready, err := events.New(events.StateType("media", events.StateReady), "/lab/here/host", "livekit",
		events.ServiceState{State: events.StateReady, Revision: 1, URL: "ws://127.0.0.1:7880"})
	if err != nil {
		fmt.Println(err)
		return
	}
	events.Caused(&ready, request)

	subject, _ := events.Subject("here", ready)
	state, _ := events.Data[events.ServiceState](ready)
	fmt.Println(subject)
	fmt.Println(state.State, state.URL)
	fmt.Println(events.Extension(ready, "causationid") == request.ID())
	// Output:
	// hero.here.media.livekit.ready
	// ready ws://127.0.0.1:7880
	// true
}

func made(t *testing.T) events.Event {
	t.Helper()
	e, err := events.New(events.Registered, "/lab/n/host", "livekit", events.Registration{Service: "livekit"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestNew(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e := made(t)
	is.NoErr(e.Validate())
	is.Equal(e.SpecVersion(), "1.0")
	is.Equal(e.Subject(), "livekit")
	is.Equal(events.Entity(e), "livekit")
	is.Equal(e.DataContentType(), "application/json")
	is.True(time.Since(e.Time()) < time.Minute)
	is.True(made(t).ID() != e.ID())
	for _, bad := range [][2]string{{"", "/s"}, {"t", ""}, {"t", "%zz"}} {
		_, err := events.New(bad[0], bad[1], "x", nil)
		is.True(err != nil)
	}
	_, err := events.New("t", "/s", "x", func() {})
	is.True(err != nil) // data that JSON cannot express
}

func TestEntity(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e := made(t)
	e.SetExtension("partitionkey", "livekit/server")
	is.Equal(events.Entity(e), "livekit/server")
	e.SetExtension("partitionkey", nil)
	is.Equal(events.Entity(e), "livekit")
}

func TestCaused(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	first, second, third := made(t), made(t), made(t)
	first.SetExtension("traceparent", "00-1-2-01")
	events.Caused(&second, first)
	events.Caused(&third, second)
	is.Equal(events.Extension(second, "correlationid"), first.ID())
	is.Equal(events.Extension(third, "correlationid"), first.ID()) // one story
	is.Equal(events.Extension(third, "causationid"), second.ID())
	is.Equal(events.Extension(third, "traceparent"), "00-1-2-01")
}

func TestExtension(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e := made(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for value, text := range map[any]string{"text": "text", "": "", true: "true", int32(-1): "-1", at: "2026-01-02T03:04:05.000000006Z"} {
		e.SetExtension("x", value)
		is.Equal(events.Extension(e, "x"), text)
	}
	e.SetExtension("x", []byte{0, 255})
	is.Equal(events.Extension(e, "x"), "AP8=")
	is.Equal(events.Extension(e, "absent"), "")
	is.Equal(events.Extension(events.Event{}, "absent"), "")
}

func TestExpired(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	now := time.Now()
	for value, expired := range map[any]bool{
		nil: false, now.Add(time.Second): false, now.Add(-time.Second): true, now.Add(time.Hour).Format(time.RFC3339): false,
		now.Add(-time.Hour).UTC().Format(time.RFC3339Nano): true, "soon": true,
	} {
		e := made(t)
		e.SetExtension("expirytime", value)
		is.Equal(events.Expired(e, now), expired)
	}
}

func TestData(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e := made(t)
	got, err := events.Data[events.Registration](e)
	is.NoErr(err)
	is.Equal(got.Service, "livekit")
	e.DataEncoded = []byte(`{"service":"x","from a newer version":1}`)
	got, err = events.Data[events.Registration](e)
	is.NoErr(err)
	is.Equal(got.Service, "x")
	for _, bad := range []string{"", "{", `{"service":1}`} {
		e.DataEncoded = []byte(bad)
		_, err = events.Data[events.Registration](e)
		is.True(err != nil)
		is.True(strings.Contains(err.Error(), e.ID()))
	}
}

func TestSubject(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e := made(t)
	subject, err := events.Subject("a.b", e)
	is.NoErr(err)
	is.Equal(subject, "hero.a=2Eb.service.livekit.registered")
	_, err = events.Subject("", e)
	is.True(err != nil)
	for _, typ := range []string{"x", events.Prefix, events.Prefix + "a.b", events.Prefix + "a..v1", events.Prefix + ".b.v1", events.Prefix + "a.b.c.v1", events.Prefix + "a.b.1"} {
		e.SetType(typ)
		_, err = events.Subject("n", e)
		is.True(err != nil)
		_, err = events.Filter("n", typ)
		is.True(err != nil)
	}
	e = made(t)
	e.SetExtension("partitionkey", strings.Repeat("é", events.MaxSubject/6))
	_, err = events.Subject("n", e)
	is.True(err != nil) // too long
	e.SetSubject("")
	e.SetExtension("partitionkey", nil)
	_, err = events.Subject("n", e)
	is.True(err != nil) // about nobody
}

func TestFilter(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	all, err := events.Filter("a b", "")
	is.NoErr(err)
	is.Equal(all, "hero.a=20b.>")
	one, err := events.Filter("n", events.JobStateChanged)
	is.NoErr(err)
	is.Equal(one, "hero.n.job.*.state_changed")
	_, err = events.Filter("", "")
	is.True(err != nil)
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"livekit", "a.b", "*", ">", "é", "\x00\xff", "=41", "A", ""} {
		f.Add(s, s+"x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		token := events.Token(a)
		if strings.ContainsAny(token, ".*> \t\r\n+") || a != "" && token == "" {
			t.Fatalf("%q is no token", token)
		}
		if (a == b) != (token == events.Token(b)) {
			t.Fatalf("%q and %q have the tokens %q and %q", a, b, token, events.Token(b))
		}
	})
}
