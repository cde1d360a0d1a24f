package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Option changes how variables are read.
type Option func(*options)

type options struct {
	leave   map[string]bool
	known   []string
	unknown bool
}

// Leave names variables under the prefix that somebody else reads: they are no problem, and count as known names when a
// misspelt one is looked for.
func Leave(variables ...string) Option {
	return func(o *options) {
		for _, v := range variables {
			o.leave[v] = true
		}
		o.known = append(o.known, variables...)
	}
}

// LeaveUnknown accepts variables under the prefix that are not known.
func LeaveUnknown() Option { return func(o *options) { o.unknown = true } }

func gather(opts []Option) *options {
	o := &options{leave: map[string]bool{}}
	for _, opt := range opts {
		opt(o)
	}
	return o
}

// Decode fills into, a pointer to a struct with config tags, from the variables of env that start with prefix
// ("RIVERGATE_"). An empty value counts as not set. It reports every problem at once, in the order of the variables'
// names, and none means that into is complete and valid. A mistake in the tags is a problem without a variable.
func Decode(prefix string, env map[string]string, into any, opts ...Option) []Problem {
	s, target, err := target(into)
	if err != nil {
		return []Problem{{Reason: err.Error()}}
	}
	schema, err := s.schema()
	if err != nil {
		return []Problem{{Reason: err.Error()}}
	}
	config, problems := Read(schema, prefix, env, opts...)
	if len(problems) > 0 {
		return problems
	}
	return s.fill(target, config)
}

// DecodeJSON fills into from a JSON object, as Configure carries it. It checks what the host has checked once more, since
// not every host does. Problem.Variable is the property.
func DecodeJSON(data []byte, into any) []Problem {
	s, target, err := target(into)
	if err != nil {
		return []Problem{{Reason: err.Error()}}
	}
	schema, err := s.schema()
	if err != nil {
		return []Problem{{Reason: err.Error()}}
	}
	if len(data) == 0 {
		data = []byte("{}")
	}
	c, err := compile(schema)
	if err != nil {
		return []Problem{{Reason: err.Error()}}
	}
	var problems []Problem
	for _, f := range c.validate("", data) {
		p := f.Problem
		p.Variable = f.property
		if p.Nearest != "" {
			p.Nearest = strings.ToLower(p.Nearest)
		}
		problems = append(problems, p)
	}
	if len(problems) > 0 {
		return problems
	}
	return s.fill(target, data)
}

func target(into any) (*spec, reflect.Value, error) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, reflect.Value{}, fmt.Errorf("settings: %T is not a pointer to a struct", into)
	}
	s, err := specOf(into)
	return s, v.Elem(), err
}

// fill sets every field: to the value in config, else to its default, else to its zero value. config is valid by now.
func (s *spec) fill(target reflect.Value, config []byte) []Problem {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(config, &values); err != nil {
		return []Problem{{Reason: "the configuration is not a JSON object"}}
	}
	var problems []Problem
	for i := range s.fields {
		f := &s.fields[i]
		raw, ok := values[f.property]
		if !ok {
			text, ok := f.text["default"]
			if !ok {
				target.FieldByIndex(f.path).SetZero()
				continue
			}
			var err error
			if raw, err = f.value(text); err != nil {
				problems = append(problems, Problem{Variable: f.property, Reason: err.Error()})
				continue
			}
		}
		if err := f.set(target.FieldByIndex(f.path), raw); err != nil {
			// The error of the decoder may hold the value.
			problems = append(problems, Problem{Variable: f.property, Reason: "is not a valid " + f.kind.String()})
		}
	}
	return problems
}

func (f *field) set(v reflect.Value, raw json.RawMessage) error {
	switch f.kind {
	case kindDuration, kindBytes:
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return json.Unmarshal(raw, v.Addr().Interface()) // a size as a plain number
		}
		if f.kind == kindBytes {
			n, err := ParseBytes(text)
			v.SetInt(int64(n))
			return err
		}
		d, err := time.ParseDuration(text)
		v.SetInt(int64(d))
		return err
	case kindInt:
		// A schema takes 3.0 and 1e3 for integers; encoding/json does not.
		n, err := wholeNumber(raw)
		if err != nil || v.OverflowInt(n) {
			return fmt.Errorf("out of range")
		}
		v.SetInt(n)
		return nil
	default:
		v.SetZero()
		return json.Unmarshal(raw, v.Addr().Interface())
	}
}

// FromText makes the JSON configuration of a plugin out of variables, typed by the plugin's own schema: any JSON Schema,
// of whatever author. It reports text that cannot be of the declared type, and unknown variables under the prefix. What it
// returns still has to pass Validate; Read does both.
func FromText(schema []byte, prefix string, env map[string]string, opts ...Option) (json.RawMessage, []Problem) {
	doc, err := parseDocument(schema)
	if err != nil {
		return nil, []Problem{{Reason: err.Error()}}
	}
	return doc.fromText(prefix, env, gather(opts))
}

func (d *document) fromText(prefix string, env map[string]string, o *options) (json.RawMessage, []Problem) {
	properties := make(map[string]string, len(d.names)) // variable → property
	known := slices.Clone(o.known)
	for _, name := range d.names {
		variable := Variable(prefix, name)
		properties[variable] = name
		known = append(known, variable)
	}
	object := map[string]any{}
	var problems []Problem
	for _, variable := range slices.Sorted(maps.Keys(env)) {
		text := env[variable]
		if !strings.HasPrefix(variable, prefix) || text == "" || o.leave[variable] {
			continue
		}
		name, ok := properties[variable]
		if !ok {
			switch {
			case o.unknown:
			case d.closed():
				problems = append(problems, Problem{
					Variable: variable, Reason: "is not a known setting", Nearest: nearestVariable(variable, prefix, known),
				})
			default:
				// An open schema takes what it does not declare, as text.
				object[strings.ToLower(strings.TrimPrefix(variable, prefix))] = text
			}
			continue
		}
		schema := d.props[name]
		value, err := d.convert(schema, text)
		if err != nil {
			reason := err.Error()
			if !d.secret(schema) {
				reason = quote(text) + " " + reason
			}
			problems = append(problems, Problem{Variable: variable, Reason: reason})
			continue
		}
		object[name] = value
	}
	config, err := marshal(object)
	if err != nil {
		return nil, append(problems, Problem{Reason: err.Error()})
	}
	return config, problems
}

// Validate checks a configuration against a plugin's schema and names each problem by its variable. The value of a
// property that is writeOnly is never printed. A schema that is none is one problem, without a variable.
func Validate(schema []byte, prefix string, config json.RawMessage) []Problem {
	c, err := compile(schema)
	if err != nil {
		return []Problem{{Reason: err.Error()}}
	}
	var problems []Problem
	for _, f := range c.validate(prefix, config) {
		problems = append(problems, f.Problem)
	}
	return problems
}

// Read is FromText and Validate in one: the configuration, and every problem at once, each variable's first reason only.
func Read(schema []byte, prefix string, env map[string]string, opts ...Option) (json.RawMessage, []Problem) {
	c, err := compile(schema)
	if err != nil {
		return nil, []Problem{{Reason: err.Error()}}
	}
	config, problems := c.doc.fromText(prefix, env, gather(opts))
	for _, f := range c.validate(prefix, config) {
		if f.Variable == "" || !slices.ContainsFunc(problems, func(p Problem) bool { return p.Variable == f.Variable }) {
			problems = append(problems, f.Problem)
		}
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Variable, b.Variable) })
	return config, problems
}
