package settings

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/rivergate/rivergate/sdk/internal/document"
)

const draft = "https://json-schema.org/draft/2020-12/schema"

// property is one property of the schema, its members in the order in which a person reads them.
type property struct {
	Type                 any             `json:"type"`
	Description          string          `json:"description,omitempty"`
	Default              json.RawMessage `json:"default,omitempty"`
	Enum                 []string        `json:"enum,omitempty"`
	Minimum              json.Number     `json:"minimum,omitempty"`
	Maximum              json.Number     `json:"maximum,omitempty"`
	Pattern              string          `json:"pattern,omitempty"`
	Format               string          `json:"format,omitempty"`
	Items                *property       `json:"items,omitempty"`
	AdditionalProperties *property       `json:"additionalProperties,omitempty"`
	Examples             []any           `json:"examples,omitempty"`
	WriteOnly            bool            `json:"writeOnly,omitempty"`
	Unit                 string          `json:"x-unit,omitempty"`
	XMinimum             string          `json:"x-minimum,omitempty"`
	XMaximum             string          `json:"x-maximum,omitempty"`
	Deprecated           bool            `json:"deprecated,omitempty"`
	Not                  *struct{}       `json:"not,omitempty"` // {}: no value at all is right
}

// Schema is the JSON Schema (2020-12) of v's configuration, a struct or a pointer to one: an object whose properties come
// in the order of the fields. A tag that makes no sense is an error that names the field.
func Schema(v any) (json.RawMessage, error) {
	s, err := specOf(v)
	if err != nil {
		return nil, err
	}
	return s.schema()
}

func (s *spec) schema() (json.RawMessage, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"$schema":%q,"type":"object","properties":{`, draft)
	var required []string
	for i := range s.fields {
		f := &s.fields[i]
		p, err := f.schema()
		if err != nil {
			return nil, fmt.Errorf("settings: %s: field %s: %w", s.typ, f.goName, err)
		}
		text, err := document.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("settings: %s: field %s: %w", s.typ, f.goName, err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", f.property, text)
		if f.required {
			required = append(required, f.property)
		}
	}
	b.WriteByte('}')
	if len(required) > 0 {
		list, err := json.Marshal(required)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, `,"required":%s`, list)
	}
	b.WriteString(`,"additionalProperties":false}`)
	return b.Bytes(), nil
}

func (f *field) schema() (*property, error) {
	p := &property{Description: f.text["doc"], Format: f.text["format"], Pattern: f.text["pattern"]}
	if f.kind != kindList {
		p.Enum = f.enum
	}
	if f.gone {
		p.Deprecated, p.Not = true, new(struct{})
	}
	switch f.kind {
	case kindString:
		p.Type = "string"
	case kindSecret:
		p.Type, p.WriteOnly = "string", true
	case kindBool:
		p.Type = "boolean"
	case kindInt:
		p.Type, p.Minimum, p.Maximum = "integer", bound(f.min), bound(f.max)
	case kindFloat:
		p.Type, p.Minimum, p.Maximum = "number", bound(f.min), bound(f.max)
	case kindDuration:
		p.Type, p.Unit, p.Pattern = "string", document.UnitDuration, document.DurationPattern
		p.XMinimum, p.XMaximum = f.text["min"], f.text["max"]
	case kindBytes:
		p.Type, p.Unit, p.Pattern = []string{"string", "integer"}, document.UnitBytes, document.BytesPattern
		p.XMinimum, p.XMaximum = f.text["min"], f.text["max"]
		p.Minimum, p.Maximum = cmp.Or(bound(f.min), "0"), bound(f.max)
	case kindList:
		p.Type, p.Items = "array", &property{Type: "string", Enum: f.enum, Pattern: p.Pattern, Format: p.Format}
		p.Pattern, p.Format = "", ""
	case kindMap:
		p.Type, p.AdditionalProperties = "object", &property{Type: "string"}
	}
	if _, ok := f.text["default"]; ok {
		value, err := f.value("default")
		if err != nil {
			return nil, err
		}
		p.Default = value
	}
	if _, ok := f.text["example"]; ok {
		value, err := f.value("example")
		if err != nil {
			return nil, err
		}
		p.Examples = []any{value}
	}
	return p, nil
}

// bound is a number of the schema; none: "".
func bound(r *big.Rat) json.Number {
	if r == nil {
		return ""
	}
	return json.Number(document.FormatNumber(r))
}

// value makes JSON of a tag's text, which must be right by the author's own rules.
func (f *field) value(tag string) (json.RawMessage, error) {
	value, err := f.convert(f.text[tag])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tag, err)
	}
	if reasons := f.reasons(value); len(reasons) > 0 {
		return nil, fmt.Errorf("%s: %s", tag, reasons[0])
	}
	return document.Marshal(value)
}
