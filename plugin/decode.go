package plugin

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mitchellh/mapstructure"
)

// Decode fills out, a pointer to a struct with mapstructure tags, from a table
// of settings. What the table does not mention keeps its value, so out holds
// the defaults.
//
// It is strict: an unknown key, a key in other case, a text for a number, a
// fraction or an overflow are errors. Durations are texts such as "30s". The
// errors name keys and types and never a value, which may be a secret.
func Decode(settings map[string]any, out any) error {
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:      out,
		ErrorUnused: true,
		MatchName:   func(key, field string) bool { return key == field },
		DecodeHook:  mapstructure.ComposeDecodeHookFunc(duration, exactNumber),
	})
	if err != nil {
		return fmt.Errorf("decode settings: %w", err)
	}
	err = decoder.Decode(settings)
	var many *mapstructure.Error
	if errors.As(err, &many) {
		var reasons []error
		for _, text := range slices.Compact(slices.Sorted(slices.Values(many.Errors))) {
			reasons = append(reasons, withoutValue(text, out))
		}
		return errors.Join(reasons...)
	}
	if err != nil {
		return withoutValue(err.Error(), out)
	}
	return nil
}

// duration reads texts such as "1m30s" where a time.Duration is wanted, and
// refuses bare numbers, whose unit nobody can tell.
func duration(from, to reflect.Value) (any, error) {
	if to.Type() != reflect.TypeFor[time.Duration]() {
		return from.Interface(), nil
	}
	if from.Kind() != reflect.String {
		return nil, errors.New(`expected type 'duration such as "30s"'`)
	}
	d, err := time.ParseDuration(from.String())
	if err != nil {
		return nil, errors.New(`expected type 'duration such as "30s"'`)
	}
	return d, nil
}

// exactNumber refuses what would lose something on its way into an integer.
func exactNumber(from, to reflect.Value) (any, error) {
	if to.Type() == reflect.TypeFor[time.Duration]() || !to.CanInt() && !to.CanUint() {
		return from.Interface(), nil
	}
	fits := true
	switch {
	case from.CanFloat():
		fits = false
	case from.CanInt() && to.CanInt():
		fits = !to.OverflowInt(from.Int())
	case from.CanInt() && to.CanUint():
		fits = from.Int() >= 0 && !to.OverflowUint(uint64(from.Int()))
	case from.CanUint() && to.CanUint():
		fits = !to.OverflowUint(from.Uint())
	case from.CanUint() && to.CanInt():
		fits = from.Uint() <= 1<<63-1 && !to.OverflowInt(int64(from.Uint()))
	}
	if !fits {
		return nil, fmt.Errorf("expected type 'whole number that fits %s'", to.Kind())
	}
	return from.Interface(), nil
}

var (
	fieldIn    = regexp.MustCompile(`'([^']*)'`)
	expectedIn = regexp.MustCompile(`expected (?:type )?(?:an? )?'?([^',]+)`)
	unknownIn  = regexp.MustCompile(`^'([^']*)' has invalid keys: (.*)$`)
)

// withoutValue rewrites an error of mapstructure, which quotes values, into
// one that has only the key and what was expected.
func withoutValue(text string, out any) error {
	if m := unknownIn.FindStringSubmatch(text); m != nil {
		where := ""
		if m[1] != "" {
			where = " in " + m[1]
		}
		return fmt.Errorf("unknown key %s%s; known are %s", m[2], where, strings.Join(keysAt(reflect.TypeOf(out), m[1]), ", "))
	}
	field, expected := "settings", "another type"
	if m := fieldIn.FindStringSubmatch(text); m != nil && m[1] != "" {
		field = m[1]
	}
	if m := expectedIn.FindStringSubmatch(text); m != nil {
		expected = m[1]
	} else if strings.Contains(text, "must be an array or slice") {
		expected = "list"
	}
	return fmt.Errorf("key %s: expected %s", field, expected)
}

var index = regexp.MustCompile(`\[[^\]]*\]`)

// keysAt lists the keys that the struct at the path below t knows.
func keysAt(t reflect.Type, path string) []string {
	known := keys(t)
	for _, name := range strings.Split(index.ReplaceAllString(path, ""), ".") {
		if name != "" {
			known = keys(known[name])
		}
	}
	return slices.Sorted(maps.Keys(known))
}

// keys maps the keys of a struct type, or of the elements of t, to their types.
func keys(t reflect.Type) map[string]reflect.Type {
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map) {
		t = t.Elem()
	}
	known := map[string]reflect.Type{}
	if t == nil || t.Kind() != reflect.Struct {
		return known
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("mapstructure"), ",")
		if name != "" && name != "-" {
			known[name] = t.Field(i).Type
		}
	}
	return known
}
