package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/sdk/internal/document"
)

// check holds a configuration against the rules that the schema of s states, with the words of schema.Validate; Variable is
// the property. It is a check of our own because a validator of all of JSON Schema costs each start of each plugin 6 ms; a
// fuzz test holds the two against each other.
func (s *spec) check(config []byte) []Problem {
	value, err := document.ParseJSON(config)
	if err != nil {
		return []Problem{{Reason: "the configuration is not JSON"}}
	}
	if document.Huge(value) {
		return []Problem{{Reason: "the configuration holds a number that is out of range"}}
	}
	object, ok := value.(map[string]any)
	if !ok {
		return []Problem{{Reason: "is not " + document.DescribeTypes(map[string]bool{"object": true})}}
	}
	var problems []Problem
	known := make([]string, len(s.fields))
	for i := range s.fields {
		f := &s.fields[i]
		known[i] = f.property
		value, ok := object[f.property]
		switch {
		case ok:
			for _, reason := range f.reasons(value) {
				problems = append(problems, Problem{Variable: f.property, Reason: reason})
			}
		case f.required && f.text["doc"] != "":
			problems = append(problems, Problem{Variable: f.property, Reason: "is required: " + f.text["doc"]})
		case f.required:
			problems = append(problems, Problem{Variable: f.property, Reason: "is required"})
		}
	}
	slices.Sort(known)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, name) {
			near := Nearest(Variable("", name), known) // flushInterval is near flush_interval
			problems = append(problems, Problem{Variable: name, Reason: "is not a known setting", Nearest: near})
		}
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Variable, b.Variable) })
	return problems
}

// reasons says what is wrong with a value of JSON, numbers as json.Number. What a secret holds is in none of them.
func (f *field) reasons(value any) []string {
	if f.gone {
		return []string{"is refused: " + f.text["doc"]}
	}
	switch v := value.(type) {
	case string:
		switch f.kind {
		case kindString, kindSecret:
			return one(f.wrongText(v))
		case kindDuration, kindBytes:
			return one(f.wrongUnit(v))
		}
	case bool:
		if f.kind == kindBool {
			return nil
		}
	case json.Number:
		if f.kind == kindInt || f.kind == kindFloat || f.kind == kindBytes {
			return one(f.wrongNumber(v))
		}
	case []any:
		if f.kind == kindList {
			return each(slices.All(v), f.wrongText)
		}
	case map[string]any:
		if f.kind == kindMap {
			return each(maps.All(v), func(string) string { return "" })
		}
	}
	return []string{f.wrongType()}
}

func (f *field) wrongType() string {
	return "is not " + document.DescribeTypes(new(document.Document).Types(shapes[f.kind]))
}

// each gathers what wrong says of the texts in a list or a map, with where they are.
func each[K comparable](values func(func(K, any) bool), wrong func(text string) string) []string {
	var reasons []string
	for key, value := range values {
		reason := "is not " + document.DescribeTypes(map[string]bool{"string": true})
		if text, ok := value.(string); ok {
			reason = wrong(text)
		}
		if reason != "" {
			reasons = append(reasons, fmt.Sprintf("at %v %s", key, reason))
		}
	}
	slices.Sort(reasons)
	return reasons
}

func one(reason string) []string {
	if reason == "" {
		return nil
	}
	return []string{reason}
}

func (f *field) wrongText(text string) string {
	reason := ""
	switch {
	case f.enum != nil && !slices.Contains(f.enum, text):
		reason = "is none of " + strings.Join(f.enum, ", ")
	case f.text["format"] == "uri" && !isURI(text):
		reason = "is not a valid uri"
	case f.pattern != nil && !f.pattern.MatchString(text):
		reason = "does not match " + f.text["pattern"]
	}
	if reason == "" || f.kind == kindSecret {
		return reason
	}
	return document.Quote(text) + " " + reason
}

// isURI tells whether text is an absolute URI. net/url does not look at an IPv6 address in it.
func isURI(text string) bool {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() {
		return false
	}
	host := u.Hostname()
	if !strings.Contains(host, ":") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Zone() == "" && strings.HasPrefix(u.Host, "[")
}

func (f *field) wrongUnit(text string) string {
	if unit := units[f.kind]; !unit.pattern.MatchString(text) {
		return document.Quote(text) + " " + unit.none
	}
	value, err := f.parse(text)
	if err != nil {
		return err.Error()
	}
	switch {
	case f.min != nil && value.Cmp(f.min) < 0:
		return document.Quote(text) + " is less than " + f.text["min"]
	case f.max != nil && value.Cmp(f.max) > 0:
		return document.Quote(text) + " is more than " + f.text["max"]
	}
	return ""
}

func (f *field) wrongNumber(number json.Number) string {
	value, ok := new(big.Rat).SetString(number.String())
	if !ok || f.kind != kindFloat && !value.IsInt() {
		return f.wrongType()
	}
	least := f.min
	if least == nil && f.kind == kindBytes {
		least = new(big.Rat)
	}
	switch {
	case least != nil && value.Cmp(least) < 0:
		return document.FormatNumber(value) + " is less than " + document.FormatNumber(least)
	case f.max != nil && value.Cmp(f.max) > 0:
		return document.FormatNumber(value) + " is more than " + document.FormatNumber(f.max)
	}
	return ""
}
