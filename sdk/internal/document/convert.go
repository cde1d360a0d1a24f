package document

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Convert makes a JSON value of text by what the schema allows. Its error is the reason, without the text itself.
func (d *Document) Convert(schema any, text string) (any, error) {
	types := d.Types(schema)
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
			case json.Valid([]byte(trimmed)) && !Huge(json.Number(trimmed)) && (types["number"] || f == math.Trunc(f)):
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
	case isText && d.Unit(schema) != "":
		return trimmed, nil
	case isText:
		return text, nil
	case types["null"] && trimmed == "null":
		return nil, nil
	}
	return nil, fmt.Errorf("is not %s", DescribeTypes(types))
}

func (d *Document) convertList(schema any, text string) (any, error) {
	items, hasItems := d.Lookup(schema, "items")
	list := []any{}
	for i, item := range SplitList(text) {
		if !hasItems {
			list = append(list, item)
			continue
		}
		v, err := d.Convert(items, item)
		if err != nil {
			return nil, fmt.Errorf("item %d %w", i+1, err)
		}
		list = append(list, v)
	}
	return list, nil
}

func (d *Document) convertMap(schema any, text string) (any, error) {
	values, _ := d.Lookup(schema, "additionalProperties")
	properties, _ := d.Lookup(schema, "properties")
	declared, _ := properties.(map[string]any)
	object := map[string]any{}
	for i, item := range SplitList(text) {
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
		v, err := d.Convert(of, value)
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
	parsed, err := ParseJSON([]byte(text))
	if err != nil || Huge(parsed) {
		return none, false
	}
	v, ok := parsed.(T)
	return v, ok
}

// Huge tells whether a value holds a number beyond float64. Whoever checks one computes with exact fractions, and
// one of 1e999999999 would take minutes.
func Huge(v any) bool {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return true
		}
		_, exponent, ok := strings.Cut(strings.ToLower(v.String()), "e")
		return ok && f == 0 && len(exponent) > 4 // 1e-999999999 is 0 to strconv, and a fraction to the validator
	case []any:
		return slices.ContainsFunc(v, Huge)
	case map[string]any:
		for _, member := range v {
			if Huge(member) {
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

// DescribeTypes says in plain words what a value of one of these JSON types is.
func DescribeTypes(types map[string]bool) string {
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

// SplitList cuts at commas and drops blanks around and empty items.
func SplitList(text string) []string {
	var out []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// Quote prints a value for a person, short.
func Quote(s string) string {
	if runes := []rune(s); len(runes) > 80 {
		s = string(runes[:80]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// FormatNumber prints a number for a person, and for JSON.
func FormatNumber(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return fmt.Sprint(f)
}
