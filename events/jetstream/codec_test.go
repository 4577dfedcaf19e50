package jetstream_test

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/events/jetstream"
	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
	"github.com/nats-io/nats.go"
)

func TestEncode(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e := cloudevent.New()
	e.SetID("1")
	e.SetType(events.Registered)
	e.SetSource("/lab/n/host")
	e.SetSubject("live kit")
	e.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC))
	e.SetExtension("partitionkey", "50% \"é\"\r\n")
	is.NoErr(e.SetData(cloudevent.ApplicationJSON, map[string]int{"n": 1}))
	m, err := jetstream.Encode("node.1", e)
	is.NoErr(err)
	is.Equal(m.Subject, "hero.node=2E1.service.50=25=20=22=C3=A9=22=0D=0A.registered")
	is.Equal(string(m.Data), `{"n":1}`)
	id := m.Header[nats.MsgIdHdr]
	delete(m.Header, nats.MsgIdHdr)
	is.Equal(m.Header, nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-type": {events.Registered}, "ce-source": {"/lab/n/host"},
		"ce-subject": {"live%20kit"}, "ce-time": {"2026-01-02T03:04:05.000000678Z"},
		"ce-datacontenttype": {"application/json"}, "ce-partitionkey": {"50%25%20%22%C3%A9%22%0D%0A"},
	})
	other, err := jetstream.Encode("node.2", e)
	is.NoErr(err)
	is.True(other.Header[nats.MsgIdHdr][0] != id[0]) // another node's event is another event
}

func TestEncodeMalformed(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for name, spoil := range map[string]func(*events.Event){
		"no context":    func(e *events.Event) { e.Context = nil },
		"no type":       func(e *events.Event) { e.SetType("") },
		"other type":    func(e *events.Event) { e.SetType("com.example.x") },
		"version 0.3":   func(e *events.Event) { e.SetSpecVersion("0.3") },
		"type not UTF":  func(e *events.Event) { e.SetID("a\xff") },
		"value not UTF": func(e *events.Event) { e.SetExtension("x", "\xc0\xaf") },
		"too long":      func(e *events.Event) { e.SetExtension("partitionkey", strings.Repeat("x", 600)) },
	} {
		e := event(t, "e", 0)
		spoil(&e)
		_, err := jetstream.Encode("n", e)
		if !errors.Is(err, jetstream.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := jetstream.Encode("", event(t, "e", 0))
	is.True(errors.Is(err, jetstream.ErrMalformed))
}

// header returns a valid header with changes.
func header(changes ...string) nats.Header {
	h := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-type": {"t"}, "ce-source": {"/s"}}
	for i := 0; i < len(changes); i += 2 {
		h[changes[i]] = []string{changes[i+1]}
	}
	return h
}

func TestDecode(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e, err := jetstream.Decode(&nats.Msg{
		Header: header("CE-Subject", "a%20b%0d%0A%25", "Ce-X", "", "ce-time", "2026-01-02T03:04:05+02:00", "Other", "%", "ce-dataschema", "https://x/y#1"),
		Data:   []byte("data"),
	})
	is.NoErr(err)
	is.Equal(e.Subject(), "a b\r\n%")
	is.Equal(e.Extensions(), map[string]any{"x": ""})
	is.True(e.Time().Equal(time.Date(2026, 1, 2, 1, 4, 5, 0, time.UTC)))
	is.Equal(e.DataSchema(), "https://x/y#1")
	is.Equal(string(e.Data()), "data")
}

func TestDecodeStructured(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for _, name := range []string{"Content-Type", "content-type", "CONTENT-TYPE"} {
		e, err := jetstream.Decode(&nats.Msg{
			Header: nats.Header{name: {"Application/CloudEvents+JSON; charset=utf-8"}, "ce-id": {"ignored"}},
			Data:   []byte(`{"specversion":"1.0","id":"1","type":"t","source":"/s","subject":"é","x":"y","data":{"n":1}}`),
		})
		is.NoErr(err)
		is.Equal(e.ID(), "1")
		is.Equal(e.Subject(), "é")
		is.Equal(events.Extension(e, "x"), "y")
		is.Equal(string(e.Data()), `{"n":1}`)
	}
}

func TestDecodeMalformed(t *testing.T) {
	t.Parallel()
	twice := header("CE-ID", "2")
	many := header()
	many["ce-id"] = []string{"1", "2"}
	for name, m := range map[string]*nats.Msg{
		"empty":            {},
		"no version":       {Header: nats.Header{"ce-id": {"1"}}},
		"version":          {Header: header("ce-specversion", "1.1")},
		"no id":            {Header: header("ce-id", "")},
		"no source":        {Header: header("ce-source", "")},
		"source":           {Header: header("ce-source", "%25zz:// ")},
		"time":             {Header: header("ce-time", "yesterday")},
		"schema":           {Header: header("ce-dataschema", "%3A")},
		"twice":            {Header: twice},
		"two values":       {Header: many},
		"cut escape":       {Header: header("ce-x", "a%4")},
		"bad escape":       {Header: header("ce-x", "%zz")},
		"overlong":         {Header: header("ce-x", "%C0%AF")},
		"not UTF-8":        {Header: header("ce-x", "\xff")},
		"surrogate":        {Header: header("ce-x", "%ED%A0%80")},
		"name":             {Header: header("ce-a_b", "x")},
		"batch":            {Header: nats.Header{"Content-Type": {"application/cloudevents-batch+json"}}, Data: []byte("[]")},
		"other format":     {Header: nats.Header{"Content-Type": {"application/cloudevents+avro"}}},
		"structured":       {Header: nats.Header{"Content-Type": {"application/cloudevents+json"}}, Data: []byte(`{"specversion":"1.0"}`)},
		"structured 0.3":   {Header: nats.Header{"Content-Type": {"application/cloudevents+json"}}, Data: []byte(`{"specversion":"0.3","id":"1","type":"t","source":"/s"}`)},
		"structured empty": {Header: nats.Header{"Content-Type": {"application/cloudevents+json"}}},
	} {
		if _, err := jetstream.Decode(m); !errors.Is(err, jetstream.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("1", "/lab/n/host", "livekit", "key", "value", []byte(`{}`))
	f.Add("a b%\r\n\"", "urn:x:ü", "..*>", "é\x00", "  %41 ", []byte{0, 255})
	f.Add(" ", "%2f?x=%zz#", "\t", "\xff", "", []byte(nil))
	f.Fuzz(func(t *testing.T, id, source, subject, key, value string, data []byte) {
		e := cloudevent.New()
		e.SetID(id)
		e.SetType(events.Registered)
		e.SetSource(source)
		e.SetSubject(subject)
		e.SetExtension("partitionkey", key)
		e.SetExtension("value", value)
		if err := e.SetData("application/octet-stream", data); err != nil {
			t.Fatal(err)
		}
		m, err := jetstream.Encode("n", e)
		if err != nil {
			if !errors.Is(err, jetstream.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		for name, values := range m.Header {
			for _, c := range []byte(name + values[0]) {
				if c <= ' ' || c > '~' {
					t.Fatalf("header %s carries %q", name, values[0])
				}
			}
		}
		got, err := jetstream.Decode(m)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID() != e.ID() || got.Source() != e.Source() || got.Subject() != e.Subject() || !bytes.Equal(got.Data(), e.Data()) ||
			events.Entity(got) != events.Entity(e) || events.Extension(got, "value") != value {
			t.Fatalf("%v came back as %v", e, got)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("ce-id", "1", "Content-Type", "text/plain", []byte("x"))
	f.Add("CE-Time", "2026-01-02T03:04:05Z", "ce-source", "%", []byte(nil))
	f.Add("x", "", "content-type", "application/cloudevents+json", []byte(`{"specversion":"1.0","id":"1","type":"t","source":"/s","data_base64":"AA=="}`))
	f.Add("x", "", "content-type", "application/cloudevents", []byte(`{"data":1,"specversion":null}`))
	f.Fuzz(func(t *testing.T, name, value, name2, value2 string, data []byte) {
		e, err := jetstream.Decode(&nats.Msg{Header: header(name, value, name2, value2), Data: data})
		if err != nil {
			if !errors.Is(err, jetstream.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		e.SetType(events.Registered)
		m, err := jetstream.Encode("n", e)
		if err != nil {
			return // it has no entity
		}
		again, err := jetstream.Decode(m)
		if err != nil {
			t.Fatal(err)
		}
		second, err := jetstream.Encode("n", again)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(m.Header, second.Header, func(a, b []string) bool { return a[0] == b[0] }) {
			t.Fatalf("%v became %v", m.Header, second.Header)
		}
	})
}
