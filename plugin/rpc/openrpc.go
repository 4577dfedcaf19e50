package rpc

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"
)

// document is the description of a service in the form of OpenRPC 1.3.
type document struct {
	OpenRPC string            `json:"openrpc"`
	Info    info              `json:"info"`
	Methods []describedMethod `json:"methods"`
}

type info struct {
	Title   string `json:"title"`
	Version string `json:"version"`
}

type describedMethod struct {
	Name           string  `json:"name"`
	Summary        string  `json:"summary,omitempty"`
	ParamStructure string  `json:"paramStructure"`
	Params         []value `json:"params"`
	Result         value   `json:"result"`
}

// value is a parameter or a result.
type value struct {
	Name     string             `json:"name"`
	Required bool               `json:"required,omitempty"`
	Schema   *jsonschema.Schema `json:"schema"`
}

// describe derives the description from the methods themselves.
func (s Service) describe() (document, error) {
	d := document{OpenRPC: "1.3.2", Info: info{s.Name, s.Version}, Methods: []describedMethod{}}
	all := s.methods()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m, err := describeMethod(name, all[name])
		if err != nil {
			return d, fmt.Errorf("describe method %s: %w", name, err)
		}
		d.Methods = append(d.Methods, m)
	}
	return d, nil
}

func describeMethod(name string, m Method) (describedMethod, error) {
	d := describedMethod{Name: name, Summary: m.summary, ParamStructure: "by-name", Params: []value{}, Result: value{Name: "result"}}
	var err error
	if d.Result.Schema, err = schema(m.info.Result); err != nil || m.info.Argument == nil {
		return d, err
	}
	params, err := schema(m.info.Argument)
	if err != nil {
		return d, err
	}
	for _, p := range slices.Sorted(maps.Keys(params.Properties)) {
		d.Params = append(d.Params, value{p, slices.Contains(params.Required, p), params.Properties[p]})
	}
	return d, nil
}

// schema is that of the JSON which values of the type become; anything where
// there is no type.
func schema(t reflect.Type) (*jsonschema.Schema, error) {
	if t == nil {
		return &jsonschema.Schema{}, nil
	}
	return jsonschema.ForType(t, &jsonschema.ForOptions{})
}
