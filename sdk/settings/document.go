package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A document is any plugin's JSON Schema, as far as it is needed to make typed JSON out of text.
type document struct {
	top   map[string]any
	root  any            // the schema itself
	props map[string]any // property → its schema
	names []string       // the properties, sorted
}

// parseDocument refuses what cannot describe settings: no JSON, no object, two properties that share a variable.
func parseDocument(schema []byte) (*document, error) {
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("schema is not JSON: %w", err)
	}
	top, ok := parsed.(map[string]any)
	if !ok {
		return nil, errors.New("schema is not a JSON object")
	}
	d := &document{top: top, root: top, props: map[string]any{}}
	d.collect(top, 0)
	d.names = slices.Sorted(maps.Keys(d.props))
	seen := map[string]string{}
	for _, name := range d.names {
		variable := Variable("", name)
		if other, ok := seen[variable]; ok {
			return nil, fmt.Errorf("schema at /properties: %q and %q would have the same variable, …%s", other, name, variable)
		}
		seen[variable] = name
	}
	return d, nil
}

// maxDepth ends the walk through $ref and the combinators; a schema may point at itself.
const maxDepth = 16

// parts yields a schema and what it is composed of: the target of a local $ref, the branches of allOf, anyOf, oneOf.
func (d *document) parts(schema any, depth int) []map[string]any {
	s, ok := schema.(map[string]any)
	if !ok || depth > maxDepth {
		return nil
	}
	out := []map[string]any{s}
	if ref, ok := s["$ref"].(string); ok {
		out = append(out, d.parts(d.resolve(ref), depth+1)...)
	}
	for _, key := range []string{"allOf", "anyOf", "oneOf"} {
		branches, _ := s[key].([]any)
		if len(branches) > 64 {
			branches = branches[:64]
		}
		for _, branch := range branches {
			if len(out) > 256 {
				return out
			}
			out = append(out, d.parts(branch, depth+1)...)
		}
	}
	return out
}

func (d *document) collect(schema any, depth int) {
	for _, part := range d.parts(schema, depth) {
		props, _ := part["properties"].(map[string]any)
		for name, prop := range props {
			if _, ok := d.props[name]; !ok {
				d.props[name] = prop
			}
		}
	}
}

// resolve follows a reference within the document; anything else is nil.
func (d *document) resolve(ref string) any {
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		if ref == "#" {
			return d.top
		}
		return nil
	}
	var at any = d.top
	for token := range strings.SplitSeq(pointer, "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[token]
	}
	return at
}

// closed tells whether properties that are not declared are refused.
func (d *document) closed() bool {
	for _, part := range d.parts(d.root, 0) {
		for _, key := range []string{"additionalProperties", "unevaluatedProperties"} {
			if allowed, ok := part[key].(bool); ok && !allowed {
				return true
			}
		}
	}
	return false
}

// lookup finds the first part of a schema that has a keyword.
func (d *document) lookup(schema any, keyword string) (any, bool) {
	for _, part := range d.parts(schema, 0) {
		if v, ok := part[keyword]; ok {
			return v, true
		}
	}
	return nil, false
}

// maxSecretDepth ends the search for marks of a secret; what lies deeper is not looked at.
const maxSecretDepth = 64

// secret tells whether the value of a schema is never to be printed: it, or something inside it, is marked so.
func (d *document) secret(schema any) bool { return d.marked(schema, map[string]bool{}, 0) }

// marked follows each reference once.
func (d *document) marked(schema any, followed map[string]bool, depth int) bool {
	if depth > maxSecretDepth {
		return true
	}
	switch s := schema.(type) {
	case map[string]any:
		if s["writeOnly"] == true || s["format"] == "password" {
			return true
		}
		if ref, ok := s["$ref"].(string); ok && !followed[ref] {
			followed[ref] = true
			if d.marked(d.resolve(ref), followed, depth+1) {
				return true
			}
		}
		for _, part := range s {
			if d.marked(part, followed, depth+1) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(s, func(part any) bool { return d.marked(part, followed, depth+1) })
	}
	return false
}

func (d *document) unit(schema any) string {
	unit, _ := d.lookup(schema, keyUnit)
	name, _ := unit.(string)
	return name
}

// types are the JSON types that a schema allows, as far as it says so; empty: any.
func (d *document) types(schema any) map[string]bool {
	types := map[string]bool{}
	for _, part := range d.parts(schema, 0) {
		switch t := part["type"].(type) {
		case string:
			types[t] = true
		case []any:
			for _, name := range t {
				if name, ok := name.(string); ok {
					types[name] = true
				}
			}
		case nil:
			values, _ := part["enum"].([]any)
			if constant, ok := part["const"]; ok {
				values = append(slices.Clone(values), constant)
			}
			for _, v := range values {
				types[typeOf(v)] = true
			}
		}
	}
	return types
}

func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	default:
		return "object"
	}
}

// convert makes a JSON value of text by what the schema allows. Its error is the reason, without the text itself.
func (d *document) convert(schema any, text string) (any, error) {
	types := d.types(schema)
	trimmed := strings.TrimSpace(text)
	isText := types["string"] || len(types) == 0
	if types["integer"] {
		// With text allowed as well only the plain form is a number: an id such as 007 stays what it is.
		if n, err := strconv.ParseInt(trimmed, 10, 64); err == nil && (!isText || strconv.FormatInt(n, 10) == trimmed) {
			return json.Number(strconv.FormatInt(n, 10)), nil
		}
	}
	if types["number"] || types["integer"] {
		if f, err := strconv.ParseFloat(trimmed, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			switch {
			case json.Valid([]byte(trimmed)) && !huge(json.Number(trimmed)) && (types["number"] || f == math.Trunc(f)):
				return json.Number(trimmed), nil
			case !isText && types["number"]:
				return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), nil
			}
		}
	}
	if types["boolean"] {
		switch lower := strings.ToLower(trimmed); {
		case lower == "true", lower == "false":
			return lower == "true", nil
		case isText:
		case slices.Contains([]string{"1", "yes", "on", "t", "y"}, lower):
			return true, nil
		case slices.Contains([]string{"0", "no", "off", "f", "n"}, lower):
			return false, nil
		}
	}
	if types["array"] {
		if list, ok := parseAs[[]any](trimmed, '['); ok {
			return list, nil
		}
		if !isText {
			return d.convertList(schema, trimmed)
		}
	}
	if types["object"] {
		if object, ok := parseAs[map[string]any](trimmed, '{'); ok {
			return object, nil
		}
		if !isText {
			return d.convertMap(schema, trimmed)
		}
	}
	switch {
	case isText && d.unit(schema) != "":
		return trimmed, nil
	case isText:
		return text, nil
	case types["null"] && trimmed == "null":
		return nil, nil
	}
	return nil, fmt.Errorf("is not %s", describeTypes(types))
}

func (d *document) convertList(schema any, text string) (any, error) {
	items, hasItems := d.lookup(schema, "items")
	list := []any{}
	for i, item := range splitList(text) {
		if !hasItems {
			list = append(list, item)
			continue
		}
		v, err := d.convert(items, item)
		if err != nil {
			return nil, fmt.Errorf("item %d %w", i+1, err)
		}
		list = append(list, v)
	}
	return list, nil
}

func (d *document) convertMap(schema any, text string) (any, error) {
	values, _ := d.lookup(schema, "additionalProperties")
	properties, _ := d.lookup(schema, "properties")
	declared, _ := properties.(map[string]any)
	object := map[string]any{}
	for i, item := range splitList(text) {
		key, value, ok := strings.Cut(item, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || key == "" {
			return nil, fmt.Errorf("has no key=value as item %d", i+1)
		}
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("has the key %q twice", key)
		}
		of := values
		if schema, ok := declared[key]; ok {
			of = schema
		}
		v, err := d.convert(of, value)
		if err != nil {
			return nil, fmt.Errorf("item %d %w", i+1, err)
		}
		object[key] = v
	}
	return object, nil
}

// parseAs reads text as JSON when it begins as the wanted type does.
func parseAs[T any](text string, first byte) (T, bool) {
	var none T
	if text == "" || text[0] != first {
		return none, false
	}
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil || huge(parsed) {
		return none, false
	}
	v, ok := parsed.(T)
	return v, ok
}

// huge tells whether a value holds a number beyond float64. The validator computes with exact fractions, and one of
// 1e999999999 would take it minutes.
func huge(v any) bool {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return true
		}
		_, exponent, ok := strings.Cut(strings.ToLower(v.String()), "e")
		return ok && f == 0 && len(exponent) > 4 // 1e-999999999 is 0 to strconv, and a fraction to the validator
	case []any:
		return slices.ContainsFunc(v, huge)
	case map[string]any:
		for _, member := range v {
			if huge(member) {
				return true
			}
		}
	}
	return false
}

var typeWords = map[string]string{
	"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
	"array": "a comma-separated list", "object": "a list of key=value", "null": "null",
}

func describeTypes(types map[string]bool) string {
	var words []string
	for _, name := range []string{"boolean", "integer", "number", "string", "array", "object"} {
		if types[name] && (name != "integer" || !types["number"]) {
			words = append(words, typeWords[name])
		}
	}
	if len(words) == 0 {
		return "allowed here"
	}
	return strings.Join(words, " or ")
}
