package vectors

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	maxConditions = 32
	maxChoices    = 1000 // of $in
)

// Filter is what metadata must fulfil, all of it: {"field": value} or {"field": {"$gte": 1, "$lt": 5}}. A field is a member
// of the metadata object itself. Numbers are compared with numbers, by value; strings with strings, by their bytes;
// anything else only for equality. Lists and objects in metadata fulfil nothing, nor does a field that is not there.
type Filter []condition

type condition struct {
	field string
	op    string // $eq, $in, $gt, $gte, $lt, $lte
	want  []value
}

type kind uint8

const (
	nothing kind = iota // no such field, a list or an object
	null
	no
	yes
	integer
	float
	text
)

// value is a scalar of JSON.
type value struct {
	kind kind
	bits uint64 // int64 or float64
	text string
}

// ParseFilter reads a filter. nil: there is none, or an empty object.
func ParseFilter(raw []byte) (Filter, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var fields map[string]json.RawMessage
	if raw[0] != '{' || json.Unmarshal(raw, &fields) != nil {
		return nil, malformed("filter", "must be an object")
	}
	var f Filter
	for field, raw := range fields {
		if strings.HasPrefix(field, "$") {
			return nil, malformed("filter", "has %s where a field of the metadata should be", quoted(field))
		}
		if raw[0] != '{' {
			v := scalar(raw)
			if v.kind == nothing {
				return nil, malformed("filter."+field, "must be a string, a number, a boolean, null, or an object of operators; for one of several: {\"$in\": […]}")
			}
			f = append(f, condition{field, "$eq", []value{v}})
			continue
		}
		var ops map[string]json.RawMessage
		if err := json.Unmarshal(raw, &ops); err != nil || len(ops) == 0 {
			return nil, malformed("filter."+field, "must have an operator: $eq, $in, $gt, $gte, $lt or $lte")
		}
		for op, raw := range ops {
			c, err := parseCondition(field, op, raw)
			if err != nil {
				return nil, err
			}
			f = append(f, c)
		}
	}
	if len(f) > maxConditions {
		return nil, malformed("filter", "has %d conditions, more than %d", len(f), maxConditions)
	}
	slices.SortFunc(f, func(a, b condition) int { return cmp.Or(cmp.Compare(a.field, b.field), cmp.Compare(a.op, b.op)) })
	return f, nil
}

func parseCondition(field, op string, raw json.RawMessage) (condition, error) {
	c := condition{field: field, op: op}
	place := "filter." + field + "." + op
	switch op {
	case "$eq", "$gt", "$gte", "$lt", "$lte":
		v := scalar(raw)
		if v.kind == nothing || op != "$eq" && v.kind != integer && v.kind != float && v.kind != text {
			return c, malformed(place, "must be a number or a string")
		}
		c.want = []value{v}
	case "$in":
		var choices []json.RawMessage
		if raw[0] != '[' || json.Unmarshal(raw, &choices) != nil || len(choices) > maxChoices {
			return c, malformed(place, "must be a list of at most %d values", maxChoices)
		}
		for _, choice := range choices {
			v := scalar(choice)
			if v.kind == nothing {
				return c, malformed(place, "must hold strings, numbers, booleans or null")
			}
			c.want = append(c.want, v)
		}
	default:
		return c, malformed("filter."+field, "has %s, which is no operator: $eq, $in, $gt, $gte, $lt, $lte", quoted(op))
	}
	return c, nil
}

// quoted keeps what a client sent short.
func quoted(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strconv.QuoteToASCII(s)
}

// scalar reads a JSON value.
func scalar(raw []byte) value {
	switch raw[0] {
	case 'n':
		return value{kind: null}
	case 't':
		return value{kind: yes}
	case 'f':
		return value{kind: no}
	case '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return value{}
		}
		return value{kind: text, text: s}
	case '{', '[':
		return value{}
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return value{kind: integer, bits: uint64(n)}
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil && !math.IsInf(f, 0) {
		return value{}
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<63 { // 1.0 is 1
		return value{kind: integer, bits: uint64(int64(f))}
	}
	return value{kind: float, bits: math.Float64bits(f)}
}

// compare orders two values; ok is false when they cannot be compared.
func compare(a, b value) (order int, ok bool) {
	switch {
	case a.kind == text && b.kind == text:
		return strings.Compare(a.text, b.text), true
	case a.kind == integer && b.kind == integer:
		return cmp.Compare(int64(a.bits), int64(b.bits)), true
	case a.kind == float && b.kind == float:
		return cmp.Compare(math.Float64frombits(a.bits), math.Float64frombits(b.bits)), true
	case a.kind == float && b.kind == integer:
		order, ok = compare(b, a)
		return -order, ok
	case a.kind == integer && b.kind == float:
		n, f := int64(a.bits), math.Float64frombits(b.bits)
		if f >= 1<<63 {
			return -1, true
		} else if f < -1<<63 {
			return 1, true
		}
		// f has a fraction, or it would be an integer.
		return cmp.Or(cmp.Compare(n, int64(math.Floor(f))), -1), true
	}
	return 0, false
}

func (c *condition) holds(v value) bool {
	if v.kind == nothing {
		return false
	}
	for i := range c.want {
		want := &c.want[i]
		order, ok := compare(v, *want)
		if !ok {
			if (c.op == "$eq" || c.op == "$in") && v.kind == want.kind && v.kind < integer {
				return true
			}
			continue
		}
		switch c.op {
		case "$eq", "$in":
			ok = order == 0
		case "$gt":
			ok = order > 0
		case "$gte":
			ok = order >= 0
		case "$lt":
			ok = order < 0
		case "$lte":
			ok = order <= 0
		}
		if ok {
			return true
		}
	}
	return false
}

// member finds a field in a metadata object.
func member(metadata, field string) value {
	if metadata == "" {
		return value{}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(metadata), &fields) != nil {
		return value{}
	}
	raw, ok := fields[field]
	if !ok {
		return value{}
	}
	return scalar(raw)
}

// matches tells whether metadata, a JSON object or empty, fulfils the filter.
func (f Filter) matches(metadata string) bool {
	if metadata == "" {
		return len(f) == 0
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(metadata), &fields) != nil {
		return false
	}
	for i := range f {
		raw, ok := fields[f[i].field]
		if !ok || !f[i].holds(scalar(raw)) {
			return false
		}
	}
	return true
}
