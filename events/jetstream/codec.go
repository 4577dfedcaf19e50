package jetstream

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
)

const (
	attributePrefix = "ce-"
	structuredType  = "application/cloudevents"
)

// Encode expresses the event of the node as a NATS message in binary mode: each
// attribute is a header, the data is the payload. An event that is not valid,
// or whose attributes are not text, is [ErrMalformed].
//
// The message carries an id by which the server recognises a repetition; it
// stands for the node, the source and the id of the event.
func Encode(node string, e events.Event) (*nats.Msg, error) {
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if e.SpecVersion() != event.CloudEventsVersionV1 {
		return nil, fmt.Errorf("%w: specversion is %q, not %q", ErrMalformed, e.SpecVersion(), event.CloudEventsVersionV1)
	}
	subject, err := events.Subject(node, e)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	m := &nats.Msg{Subject: subject, Data: e.Data(), Header: make(nats.Header, 12)}
	for name, value := range attributes(e) {
		if !utf8.ValidString(value) {
			return nil, fmt.Errorf("%w: attribute %s is not UTF-8", ErrMalformed, name)
		}
		m.Header[attributePrefix+name] = []string{escape(value)}
	}
	for name, value := range e.Extensions() {
		text, err := types.Format(value)
		if err != nil || !utf8.ValidString(text) {
			return nil, fmt.Errorf("%w: attribute %s is not text", ErrMalformed, name)
		}
		m.Header[attributePrefix+name] = []string{escape(text)}
	}
	m.Header[nats.MsgIdHdr] = []string{messageID(node, e)}
	return m, nil
}

// attributes yields the attributes that are set and no extensions.
func attributes(e events.Event) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		all := [...]struct{ name, value string }{
			{"specversion", e.SpecVersion()}, {"id", e.ID()}, {"source", e.Source()}, {"type", e.Type()},
			{"subject", e.Subject()}, {"dataschema", e.DataSchema()}, {"datacontenttype", e.DataContentType()},
			{"time", ""},
		}
		if !e.Time().IsZero() {
			all[len(all)-1].value = types.FormatTime(e.Time())
		}
		for _, a := range all {
			if a.value != "" && !yield(a.name, a.value) {
				return
			}
		}
	}
}

func messageID(node string, e events.Event) string {
	sum := sha256.Sum256([]byte(node + "\x00" + e.Source() + "\x00" + e.ID()))
	return hex.EncodeToString(sum[:16])
}

// Decode reads an event from a NATS message, in binary or structured mode.
// Header names count without case. A message that is no CloudEvent 1.0 is
// [ErrMalformed].
//
// Extensions come out as text: a header does not say what it was.
func Decode(m *nats.Msg) (events.Event, error) {
	return decode(m.Header, m.Data)
}

func decode(header nats.Header, data []byte) (events.Event, error) {
	for name, values := range header {
		if strings.EqualFold(name, "content-type") && len(values) > 0 && strings.HasPrefix(strings.ToLower(values[0]), structuredType) {
			return decodeStructured(values[0], data)
		}
	}
	found := make(map[string]string, len(header))
	for name, values := range header {
		if len(name) <= len(attributePrefix) || !strings.EqualFold(name[:len(attributePrefix)], attributePrefix) {
			continue
		}
		name = strings.ToLower(name[len(attributePrefix):])
		if _, twice := found[name]; twice || len(values) != 1 {
			return events.Event{}, fmt.Errorf("%w: attribute %s is there more than once", ErrMalformed, name)
		}
		value, err := unescape(values[0])
		if err != nil {
			return events.Event{}, fmt.Errorf("%w: attribute %s: %w", ErrMalformed, name, err)
		}
		found[name] = value
	}
	return assemble(found, data)
}

// assemble sets the fields itself where the SDK would trim what it is given.
func assemble(found map[string]string, data []byte) (events.Event, error) {
	if v := found["specversion"]; v != event.CloudEventsVersionV1 {
		return events.Event{}, fmt.Errorf("%w: specversion is %q, not %q", ErrMalformed, v, event.CloudEventsVersionV1)
	}
	context := &event.EventContextV1{}
	for name, value := range found {
		if err := setAttribute(context, name, value); err != nil {
			return events.Event{}, fmt.Errorf("%w: attribute %s: %w", ErrMalformed, name, err)
		}
	}
	e := events.Event{Context: context}
	if len(data) > 0 {
		e.DataEncoded = data
	}
	if err := e.Validate(); err != nil {
		return events.Event{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return e, nil
}

func setAttribute(context *event.EventContextV1, name, value string) error {
	switch name {
	case "specversion":
	case "id":
		context.ID = value
	case "type":
		context.Type = value
	case "subject":
		context.Subject = &value
	case "datacontenttype":
		context.DataContentType = &value
	case "source":
		u, err := url.Parse(value)
		if err != nil {
			return errNotURI
		}
		context.Source = types.URIRef{URL: *u}
	case "dataschema":
		u, err := url.Parse(value)
		if err != nil {
			return errNotURI
		}
		context.DataSchema = &types.URI{URL: *u}
	case "time":
		t, err := types.ParseTime(value)
		if err != nil {
			return errNotTime
		}
		context.Time = &types.Timestamp{Time: t}
	default:
		return context.SetExtension(name, value)
	}
	return nil
}

// decodeStructured reads an event that is the payload as a whole.
func decodeStructured(contentType string, data []byte) (events.Event, error) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil || media != event.ApplicationCloudEventsJSON {
		return events.Event{}, fmt.Errorf("%w: content type is not %s", ErrMalformed, event.ApplicationCloudEventsJSON)
	}
	var e events.Event
	if err := json.Unmarshal(data, &e); err != nil {
		return events.Event{}, fmt.Errorf("%w: the payload is no event in JSON", ErrMalformed)
	}
	if e.SpecVersion() != event.CloudEventsVersionV1 {
		return events.Event{}, fmt.Errorf("%w: specversion is %q, not %q", ErrMalformed, e.SpecVersion(), event.CloudEventsVersionV1)
	}
	if err := e.Validate(); err != nil {
		return events.Event{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return e, nil
}
