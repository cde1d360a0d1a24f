// Package schema reads a plugin's variables and checks its configuration by the plugin's own JSON Schema, of whatever author.
// It is for hosts: a plugin that is written with package sdk has its configuration checked by sdk/settings, without the
// validator that is linked here.
package schema

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/sdk/internal/document"
	"github.com/rivergate/rivergate/sdk/settings"
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
func Decode(prefix string, env map[string]string, into any, opts ...Option) []settings.Problem {
	schema, err := settings.Schema(into)
	if err != nil {
		return []settings.Problem{{Reason: err.Error()}}
	}
	config, problems := Read(schema, prefix, env, opts...)
	if len(problems) > 0 {
		return problems
	}
	problems = settings.DecodeJSON(config, into)
	for i := range problems {
		if problems[i].Variable != "" {
			problems[i].Variable = settings.Variable(prefix, problems[i].Variable)
		}
	}
	return problems
}

// FromText makes the JSON configuration of a plugin out of variables, typed by the plugin's own schema: any JSON Schema,
// of whatever author. It reports text that cannot be of the declared type, and unknown variables under the prefix. What it
// returns still has to pass Validate; Read does both.
func FromText(schema []byte, prefix string, env map[string]string, opts ...Option) (json.RawMessage, []settings.Problem) {
	doc, err := document.Parse(schema)
	if err != nil {
		return nil, []settings.Problem{{Reason: err.Error()}}
	}
	return fromText(doc, prefix, env, gather(opts))
}

func fromText(d *document.Document, prefix string, env map[string]string, o *options) (json.RawMessage, []settings.Problem) {
	properties := make(map[string]string, len(d.Names)) // variable → property
	known := slices.Clone(o.known)
	for _, name := range d.Names {
		variable := settings.Variable(prefix, name)
		properties[variable] = name
		known = append(known, variable)
	}
	object := map[string]any{}
	var problems []settings.Problem
	for _, variable := range slices.Sorted(maps.Keys(env)) {
		text := env[variable]
		if !strings.HasPrefix(variable, prefix) || text == "" || o.leave[variable] {
			continue
		}
		name, ok := properties[variable]
		if !ok {
			switch {
			case o.unknown:
			case d.Closed():
				problems = append(problems, settings.Problem{
					Variable: variable, Reason: "is not a known setting", Nearest: nearestVariable(variable, prefix, known),
				})
			default:
				// An open schema takes what it does not declare, as text.
				object[strings.ToLower(strings.TrimPrefix(variable, prefix))] = text
			}
			continue
		}
		schema := d.Props[name]
		value, err := d.Convert(schema, text)
		if err != nil {
			reason := err.Error()
			if !d.Secret(schema) {
				reason = document.Quote(text) + " " + reason
			}
			problems = append(problems, settings.Problem{Variable: variable, Reason: reason})
			continue
		}
		object[name] = value
	}
	config, err := document.Marshal(object)
	if err != nil {
		return nil, append(problems, settings.Problem{Reason: err.Error()})
	}
	return config, problems
}

// Validate checks a configuration against a plugin's schema and names each problem by its variable. The value of a
// property that is writeOnly is never printed. A schema that is none is one problem, without a variable.
func Validate(schema []byte, prefix string, config json.RawMessage) []settings.Problem {
	c, err := compile(schema)
	if err != nil {
		return []settings.Problem{{Reason: err.Error()}}
	}
	var problems []settings.Problem
	for _, f := range c.validate(prefix, config) {
		problems = append(problems, f.Problem)
	}
	return problems
}

// Read is FromText and Validate in one: the configuration, and every problem at once, each variable's first reason only.
func Read(schema []byte, prefix string, env map[string]string, opts ...Option) (json.RawMessage, []settings.Problem) {
	c, err := compile(schema)
	if err != nil {
		return nil, []settings.Problem{{Reason: err.Error()}}
	}
	config, problems := fromText(c.doc, prefix, env, gather(opts))
	for _, f := range c.validate(prefix, config) {
		if f.Variable == "" || !slices.ContainsFunc(problems, func(p settings.Problem) bool { return p.Variable == f.Variable }) {
			problems = append(problems, f.Problem)
		}
	}
	slices.SortStableFunc(problems, func(a, b settings.Problem) int { return strings.Compare(a.Variable, b.Variable) })
	return config, problems
}

// nearestVariable compares what follows the prefix: the prefix itself is always right and would make everything near.
func nearestVariable(variable, prefix string, known []string) string {
	bare := make([]string, len(known))
	for i, k := range known {
		bare[i] = strings.TrimPrefix(k, prefix)
	}
	if near := settings.Nearest(strings.TrimPrefix(variable, prefix), bare); near != "" {
		return prefix + near
	}
	return ""
}
