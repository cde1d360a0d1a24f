// Package document reads JSON Schemas as far as it is needed to make typed JSON out of text, and the texts of durations and
// sizes. It is what sdk/settings and sdk/schema share: a plugin links it, and no validator.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A Document is any plugin's JSON Schema. The zero Document knows no references.
type Document struct {
	Top   map[string]any
	Props map[string]any // property → its schema
	Names []string       // the properties, sorted
}

// Parse refuses what cannot describe settings: no JSON, no object, two properties that share a variable.
func Parse(schema []byte) (*Document, error) {
	parsed, err := ParseJSON(schema)
	if err != nil {
		return nil, fmt.Errorf("schema is not JSON: %w", err)
	}
	top, ok := parsed.(map[string]any)
	if !ok {
		return nil, errors.New("schema is not a JSON object")
	}
	d := &Document{Top: top, Props: map[string]any{}}
	d.collect(top, 0)
	d.Names = slices.Sorted(maps.Keys(d.Props))
	seen := map[string]string{}
	for _, name := range d.Names {
		variable := Variable("", name)
		if other, ok := seen[variable]; ok {
			return nil, fmt.Errorf("schema at /properties: %q and %q would have the same variable, …%s", other, name, variable)
		}
		seen[variable] = name
	}
	return d, nil
}

// ParseJSON reads one JSON value and nothing behind it. Numbers keep their text.
func ParseJSON(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the JSON value")
	}
	return value, nil
}

// Marshal is json.Marshal without the HTML escapes.
func Marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// maxDepth ends the walk through $ref and the combinators; a schema may point at itself.
const maxDepth = 16

// parts yields a schema and what it is composed of: the target of a local $ref, the branches of allOf, anyOf, oneOf.
func (d *Document) parts(schema any, depth int) []map[string]any {
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

func (d *Document) collect(schema any, depth int) {
	for _, part := range d.parts(schema, depth) {
		props, _ := part["properties"].(map[string]any)
		for name, prop := range props {
			if _, ok := d.Props[name]; !ok {
				d.Props[name] = prop
			}
		}
	}
}

// resolve follows a reference within the document; anything else is nil.
func (d *Document) resolve(ref string) any {
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		if ref == "#" {
			return d.Top
		}
		return nil
	}
	var at any = d.Top
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

// Closed tells whether properties that are not declared are refused.
func (d *Document) Closed() bool {
	for _, part := range d.parts(d.Top, 0) {
		for _, key := range []string{"additionalProperties", "unevaluatedProperties"} {
			if allowed, ok := part[key].(bool); ok && !allowed {
				return true
			}
		}
	}
	return false
}

// Lookup finds the first part of a schema that has a keyword.
func (d *Document) Lookup(schema any, keyword string) (any, bool) {
	for _, part := range d.parts(schema, 0) {
		if v, ok := part[keyword]; ok {
			return v, true
		}
	}
	return nil, false
}

// maxSecretDepth ends the search for marks of a secret; what lies deeper is not looked at.
const maxSecretDepth = 64

// Secret tells whether the value of a schema is never to be printed: it, or something inside it, is marked so.
func (d *Document) Secret(schema any) bool { return d.marked(schema, map[string]bool{}, 0) }

// marked follows each reference once.
func (d *Document) marked(schema any, followed map[string]bool, depth int) bool {
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

// Unit is what the text of a value measures: UnitDuration, UnitBytes, or "".
func (d *Document) Unit(schema any) string {
	unit, _ := d.Lookup(schema, KeyUnit)
	name, _ := unit.(string)
	return name
}

// Types are the JSON types that a schema allows, as far as it says so; empty: any.
func (d *Document) Types(schema any) map[string]bool {
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
