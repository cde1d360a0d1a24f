package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/rivergate/rivergate/sdk/internal/document"
	"github.com/rivergate/rivergate/sdk/settings"
)

// checker holds a schema that was found to be one.
type checker struct {
	doc    *document.Document
	schema *jsonschema.Schema
}

// finding is a settings.Problem with what the package needs to know about it.
type finding struct {
	settings.Problem
	property string
	missing  bool
}

// Check says where a plugin's schema is not one.
func Check(schema []byte) error {
	_, err := compile(schema)
	return err
}

// location is the name under which a schema is compiled; it is cut from messages.
const location = "mem:///schema"

func compile(schema []byte) (*checker, error) {
	doc, err := document.Parse(schema)
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(noLoader{})
	if err := c.AddResource(location, doc.Top); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	compiled, err := c.Compile(location)
	if err != nil {
		return nil, schemaError(err)
	}
	if t := doc.Types(doc.Top); len(t) > 0 && !t["object"] {
		return nil, errors.New("schema at /type: the configuration must be an object")
	}
	return &checker{doc: doc, schema: compiled}, nil
}

// noLoader keeps a schema from reading files or the network.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("schema refers to %s; only references within it are followed", url)
}

// schemaError turns the compiler's error into "schema at /place: what".
func schemaError(err error) error {
	var invalid *jsonschema.SchemaValidationError
	if errors.As(err, &invalid) {
		var validation *jsonschema.ValidationError
		if errors.As(invalid.Err, &validation) {
			leaf := validation
			for len(leaf.Causes) > 0 {
				leaf = leaf.Causes[0]
			}
			return fmt.Errorf("schema at %s: %s", pointer(leaf.InstanceLocation), reasonOf(leaf, false))
		}
	}
	return fmt.Errorf("schema: %s", strings.ReplaceAll(err.Error(), location+"#", ""))
}

func pointer(path []string) string {
	if len(path) == 0 {
		return "its top"
	}
	return "/" + strings.Join(path, "/")
}

// validate checks a configuration and names every problem by its variable.
func (c *checker) validate(prefix string, config []byte) []finding {
	instance, err := document.ParseJSON(config)
	if err != nil {
		return []finding{{Problem: settings.Problem{Reason: "the configuration is not JSON"}}}
	}
	if document.Huge(instance) {
		return []finding{{Problem: settings.Problem{Reason: "the configuration holds a number that is out of range"}}}
	}
	var found []finding
	if err := c.schema.Validate(instance); err != nil {
		var validation *jsonschema.ValidationError
		if !errors.As(err, &validation) {
			return []finding{{Problem: settings.Problem{Reason: "the configuration cannot be checked"}}}
		}
		found = c.leaves(prefix, validation, found)
	}
	object, _ := instance.(map[string]any)
	for _, f := range c.bounds(prefix, object) {
		// A text that is no duration at all is not one that is too short as well.
		if !slices.ContainsFunc(found, func(o finding) bool { return o.property == f.property }) {
			found = append(found, f)
		}
	}
	return dedupe(found)
}

// leaves walks down to the errors that say something. The branches of anyOf and oneOf fail together and are one problem.
func (c *checker) leaves(prefix string, e *jsonschema.ValidationError, found []finding) []finding {
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		if len(e.InstanceLocation) == 0 {
			for _, name := range k.Missing {
				f := finding{Problem: settings.Problem{Variable: settings.Variable(prefix, name), Reason: "is required"}, property: name, missing: true}
				if doc, ok := c.doc.Lookup(c.doc.Props[name], "description"); ok {
					if text, ok := doc.(string); ok && text != "" {
						f.Reason = "is required: " + text
					}
				}
				found = append(found, f)
			}
			return found
		}
	case *kind.AdditionalProperties:
		if len(e.InstanceLocation) == 0 {
			for _, name := range k.Properties {
				found = append(found, c.unknown(prefix, name))
			}
			return found
		}
	case *kind.Not:
		if len(e.InstanceLocation) == 1 {
			name := e.InstanceLocation[0]
			gone, _ := c.doc.Lookup(c.doc.Props[name], "deprecated")
			if text, _ := c.doc.Lookup(c.doc.Props[name], "description"); gone == true && text != nil {
				return append(found, finding{Problem: settings.Problem{Variable: settings.Variable(prefix, name), Reason: fmt.Sprintf("is refused: %s", text)}, property: name})
			}
		}
	case *kind.AnyOf, *kind.OneOf:
		if len(e.InstanceLocation) > 0 {
			return append(found, c.either(prefix, e))
		}
	}
	if len(e.Causes) == 0 {
		return append(found, c.finding(prefix, e))
	}
	for _, cause := range e.Causes {
		found = c.leaves(prefix, cause, found)
	}
	return found
}

func (c *checker) unknown(prefix, name string) finding {
	known := make([]string, len(c.doc.Names))
	for i, n := range c.doc.Names {
		known[i] = settings.Variable(prefix, n)
	}
	variable := settings.Variable(prefix, name)
	return finding{
		Problem:  settings.Problem{Variable: variable, Reason: "is not a known setting", Nearest: nearestVariable(variable, prefix, known)},
		property: name,
	}
}

func (c *checker) finding(prefix string, e *jsonschema.ValidationError) finding {
	if len(e.InstanceLocation) == 0 {
		return finding{Problem: settings.Problem{Reason: reasonOf(e, false)}} // the value is the whole configuration
	}
	name := e.InstanceLocation[0]
	schema := c.doc.Props[name]
	secret := c.doc.Secret(schema)
	reason := reasonOf(e, !secret)
	if len(e.InstanceLocation) == 1 {
		if unit := c.doc.Unit(schema); unit != "" {
			reason = unitReason(unit, e, !secret)
		}
	} else {
		reason = "at " + strings.Join(e.InstanceLocation[1:], ".") + " " + reason
	}
	return finding{Problem: settings.Problem{Variable: settings.Variable(prefix, name), Reason: reason}, property: name}
}

func (c *checker) either(prefix string, e *jsonschema.ValidationError) finding {
	f := c.finding(prefix, e)
	var reasons []string
	for _, cause := range e.Causes {
		for _, leaf := range c.leaves(prefix, cause, nil) {
			if !slices.Contains(reasons, leaf.Reason) {
				reasons = append(reasons, leaf.Reason)
			}
		}
	}
	// "is not null" says nothing to somebody who set a variable.
	if rest := slices.DeleteFunc(slices.Clone(reasons), func(r string) bool { return strings.HasPrefix(r, "is not null") }); len(rest) > 0 {
		reasons = rest
	}
	if len(reasons) > 0 {
		f.Reason = strings.Join(reasons, ", or ")
	}
	return f
}

// bounds compares durations and sizes, which JSON Schema sees as text.
func (c *checker) bounds(prefix string, object map[string]any) []finding {
	var found []finding
	for _, name := range slices.Sorted(maps.Keys(object)) {
		schema := c.doc.Props[name]
		unit := c.doc.Unit(schema)
		text, ok := object[name].(string)
		if unit == "" || !ok {
			continue
		}
		value, err := document.ParseUnit(unit, text)
		if err != nil {
			reason := err.Error()
			if c.doc.Secret(schema) {
				reason = "is not a " + unit
			}
			found = append(found, finding{Problem: settings.Problem{Variable: settings.Variable(prefix, name), Reason: reason}, property: name})
			continue
		}
		for _, b := range []struct {
			keyword, words string
			broken         func(bound int64) bool
		}{
			{document.KeyMinimum, "is less than", func(bound int64) bool { return value < bound }},
			{document.KeyMaximum, "is more than", func(bound int64) bool { return value > bound }},
		} {
			v, _ := c.doc.Lookup(schema, b.keyword)
			limit, ok := v.(string)
			if !ok {
				continue
			}
			if bound, err := document.ParseUnit(unit, limit); err == nil && b.broken(bound) {
				reason := fmt.Sprintf("%s %s", b.words, limit)
				if !c.doc.Secret(schema) {
					reason = document.Quote(text) + " " + reason
				}
				found = append(found, finding{Problem: settings.Problem{Variable: settings.Variable(prefix, name), Reason: reason}, property: name})
			}
		}
	}
	return found
}

func unitReason(unit string, e *jsonschema.ValidationError, show bool) string {
	switch k := e.ErrorKind.(type) {
	case *kind.Pattern:
		what := document.NoDuration
		if unit == document.UnitBytes {
			what = document.NoBytes
		}
		if show {
			return document.Quote(k.Got) + " " + what
		}
		return what
	}
	return reasonOf(e, show)
}

// reasonOf says what is wrong in plain words. Without show no part of the value is printed.
func reasonOf(e *jsonschema.ValidationError, show bool) string {
	value := func(text string) string {
		if !show {
			return ""
		}
		return text + " "
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		types := map[string]bool{}
		for _, name := range k.Want {
			types[name] = true
		}
		if len(types) == 1 && types["null"] {
			return "is not null"
		}
		return "is not " + document.DescribeTypes(types)
	case *kind.Enum:
		return value(quoteAny(k.Got)) + "is none of " + joinAny(k.Want)
	case *kind.Const:
		return value(quoteAny(k.Got)) + "is not " + joinAny([]any{k.Want})
	case *kind.Format:
		return value(quoteAny(k.Got)) + "is not a valid " + k.Want
	case *kind.Pattern:
		return value(document.Quote(k.Got)) + "does not match " + k.Want
	case *kind.Minimum:
		return value(document.FormatNumber(k.Got)) + "is less than " + document.FormatNumber(k.Want)
	case *kind.Maximum:
		return value(document.FormatNumber(k.Got)) + "is more than " + document.FormatNumber(k.Want)
	case *kind.ExclusiveMinimum:
		return value(document.FormatNumber(k.Got)) + "is not more than " + document.FormatNumber(k.Want)
	case *kind.ExclusiveMaximum:
		return value(document.FormatNumber(k.Got)) + "is not less than " + document.FormatNumber(k.Want)
	case *kind.MultipleOf:
		return value(document.FormatNumber(k.Got)) + "is not a multiple of " + document.FormatNumber(k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("is shorter than %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("is longer than %d characters", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("has fewer than %d items", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("has more than %d items", k.Want)
	case *kind.UniqueItems:
		return fmt.Sprintf("has the same item twice (%d and %d)", k.Duplicates[0]+1, k.Duplicates[1]+1)
	case *kind.Required:
		return "misses " + strings.Join(k.Missing, ", ")
	case *kind.DependentRequired:
		return fmt.Sprintf("with %s also set %s", k.Prop, strings.Join(k.Missing, ", "))
	case *kind.Dependency:
		return fmt.Sprintf("with %s also set %s", k.Prop, strings.Join(k.Missing, ", "))
	case *kind.AdditionalProperties:
		return "has unknown members " + strings.Join(k.Properties, ", ")
	case *kind.FalseSchema:
		return "is not allowed here"
	case *kind.AnyOf, *kind.OneOf, *kind.AllOf, *kind.Not:
		return "is not one of the allowed combinations"
	default:
		// Not the library's own text: it may hold the value.
		return "is not allowed by the schema (" + strings.Join(e.ErrorKind.KeywordPath(), "/") + ")"
	}
}

func quoteAny(v any) string {
	if s, ok := v.(string); ok {
		return document.Quote(s)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "the value"
	}
	return string(text)
}

func joinAny(list []any) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, ", ")
}

// dedupe keeps the first of several findings that say the same of one variable, and one per text that is no unit at all.
func dedupe(found []finding) []finding {
	var out []finding
	for _, f := range found {
		if !slices.ContainsFunc(out, func(o finding) bool { return o.Problem == f.Problem }) {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b finding) int { return strings.Compare(a.Variable, b.Variable) })
	return out
}
