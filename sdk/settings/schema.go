package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
)

const draft = "https://json-schema.org/draft/2020-12/schema"

// The two unit keywords are ours. A validator that does not know them ignores them; ours words its messages by them and
// compares the bounds, which JSON Schema cannot do for text.
const (
	keyUnit    = "x-unit" // "duration" or "bytes"
	keyMinimum = "x-minimum"
	keyMaximum = "x-maximum"

	unitDuration = "duration"
	unitBytes    = "bytes"
)

// The texts that time.ParseDuration and ParseBytes take, without a sign.
const (
	durationPattern = `^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`
	bytesPattern    = `^[0-9]+ *(B|KiB|MiB|GiB|TiB)?$`
)

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
		text, err := marshal(p)
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
	out := json.RawMessage(b.Bytes())
	return out, s.checkDefaults(out)
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
		p.Type = "integer"
	case kindFloat:
		p.Type = "number"
	case kindDuration:
		p.Type, p.Unit, p.Pattern = "string", unitDuration, durationPattern
		p.XMinimum, p.XMaximum = f.text["min"], f.text["max"]
	case kindBytes:
		p.Type, p.Unit, p.Pattern = []string{"string", "integer"}, unitBytes, bytesPattern
		p.XMinimum, p.XMaximum = f.text["min"], f.text["max"]
		p.Minimum = "0"
	case kindList:
		p.Type, p.Items = "array", &property{Type: "string", Enum: f.enum, Pattern: p.Pattern, Format: p.Format}
		p.Pattern, p.Format = "", ""
	case kindMap:
		p.Type, p.AdditionalProperties = "object", &property{Type: "string"}
	}
	for name, to := range map[string]*json.Number{"min": &p.Minimum, "max": &p.Maximum} {
		text, ok := f.text[name]
		if !ok {
			continue
		}
		switch f.kind {
		case kindInt, kindFloat:
			value, err := f.value(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			*to = json.Number(value)
		case kindDuration, kindBytes:
			n, err := parseUnit(p.Unit, text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if f.kind == kindBytes {
				*to = json.Number(fmt.Sprint(n))
			}
		}
	}
	if text, ok := f.text["default"]; ok {
		value, err := f.value(text)
		if err != nil {
			return nil, fmt.Errorf("default: %w", err)
		}
		p.Default = value
	}
	if text, ok := f.text["example"]; ok {
		value, err := f.value(text)
		if err != nil {
			return nil, fmt.Errorf("example: %w", err)
		}
		p.Examples = []any{value}
	}
	return p, nil
}

// value makes JSON of a tag's text, by the same rules by which a variable's text becomes JSON.
func (f *field) value(text string) (json.RawMessage, error) {
	bare := &field{kind: f.kind, text: map[string]string{}}
	p, err := bare.schema()
	if err != nil {
		return nil, err
	}
	raw, err := marshal(p)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(raw)
	if err != nil {
		return nil, err
	}
	value, err := doc.convert(doc.root, text)
	if err != nil {
		return nil, err
	}
	return marshal(value)
}

// checkDefaults holds the author's own defaults and examples against the author's own rules.
func (s *spec) checkDefaults(schema json.RawMessage) error {
	c, err := compile(schema)
	if err != nil {
		return fmt.Errorf("settings: %s: %w", s.typ, err)
	}
	for _, tag := range []string{"default", "example"} {
		values := map[string]json.RawMessage{}
		for i := range s.fields {
			f := &s.fields[i]
			if text, ok := f.text[tag]; ok {
				if values[f.property], err = f.value(text); err != nil {
					return err
				}
			}
		}
		raw, err := marshal(values)
		if err != nil {
			return err
		}
		for _, p := range c.validate("", raw) {
			if p.missing {
				continue
			}
			return fmt.Errorf("settings: %s: %s of %s: %s", s.typ, tag, p.Variable, p.Reason)
		}
	}
	return nil
}

// marshal is json.Marshal without the HTML escapes.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
