package sdk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"unicode/utf8"
)

// Value is the JSON value of a member, not decoded yet. The zero Value stands for a member that is not there.
type Value struct{ raw []byte }

// Raw is the client's own bytes, numbers included. Read, do not write; valid until Deliver returns.
func (v Value) Raw() json.RawMessage { return v.raw }

// IsNull tells whether the value is null or not there.
func (v Value) IsNull() bool { return len(v.raw) == 0 || v.raw[0] == 'n' }

// IsString tells whether the value is a JSON string.
func (v Value) IsString() bool { return len(v.raw) > 0 && v.raw[0] == '"' }

// IsNumber tells whether the value is a JSON number.
func (v Value) IsNumber() bool {
	return len(v.raw) > 0 && (v.raw[0] == '-' || v.raw[0] >= '0' && v.raw[0] <= '9')
}

// String is the value as text: a string without quotes and escapes, a number as the client wrote it, true or false, the
// JSON of an object or array, and nothing for null.
func (v Value) String() string {
	switch {
	case v.IsNull():
		return ""
	case v.IsString():
		return unquote(v.raw)
	default:
		return string(v.raw)
	}
}

// Number is the number as the client wrote it, every digit, or "" when the value is no number.
func (v Value) Number() json.Number {
	if !v.IsNumber() {
		return ""
	}
	return json.Number(v.raw)
}

// Int64 is the value of a number without fraction and exponent.
func (v Value) Int64() (int64, error) {
	if !v.IsNumber() {
		return 0, v.not("a number")
	}
	return strconv.ParseInt(string(v.raw), 10, 64)
}

// Float64 is the nearest float64 of a number.
func (v Value) Float64() (float64, error) {
	if !v.IsNumber() {
		return 0, v.not("a number")
	}
	return strconv.ParseFloat(string(v.raw), 64)
}

// Bool is the value of true or false.
func (v Value) Bool() (bool, error) {
	switch {
	case len(v.raw) > 0 && v.raw[0] == 't':
		return true, nil
	case len(v.raw) > 0 && v.raw[0] == 'f':
		return false, nil
	}
	return false, v.not("true or false")
}

// Fields yields the members of an object, as Row.Fields does; of anything else, nothing.
func (v Value) Fields() iter.Seq2[string, Value] { return fields(v.raw) }

// Decode fills into as encoding/json does.
func (v Value) Decode(into any) error {
	if len(v.raw) == 0 {
		return v.not("there")
	}
	return json.Unmarshal(v.raw, into)
}

// not names the kind only: rows hold what their senders put there, and errors are logged.
func (v Value) not(what string) error {
	is := "missing"
	if len(v.raw) > 0 {
		switch v.raw[0] {
		case 'n':
			is = "null"
		case 't', 'f':
			is = "a boolean"
		case '"':
			is = "a string"
		case '{':
			is = "an object"
		case '[':
			is = "an array"
		default:
			is = "a number"
		}
	}
	return fmt.Errorf("value is %s, not %s", is, what)
}

// lookup finds the last member of that name.
func lookup(object []byte, name string) (found Value, ok bool) {
	for key, value := range members(object) {
		if keyIs(key, name) {
			found, ok = value, true
		}
	}
	return found, ok
}

func fields(object []byte) iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for key, value := range members(object) {
			if !yield(unquote(key), value) {
				return
			}
		}
	}
}

// members walks the object once. It relies on the bytes being valid JSON, as every row is; in other bytes it stops where
// it no longer understands them, and never reads beyond their end.
func members(object []byte) iter.Seq2[[]byte, Value] {
	return func(yield func([]byte, Value) bool) {
		i := blank(object, 0)
		if i >= len(object) || object[i] != '{' {
			return
		}
		i++
		for {
			i = blank(object, i)
			if i >= len(object) || object[i] != '"' {
				return
			}
			end := stringEnd(object, i)
			if end < 0 {
				return
			}
			key := object[i:end:end]
			i = blank(object, end)
			if i >= len(object) || object[i] != ':' {
				return
			}
			i = blank(object, i+1)
			end = valueEnd(object, i)
			if end <= i {
				return
			}
			if !yield(key, Value{raw: object[i:end:end]}) {
				return
			}
			i = blank(object, end)
			if i >= len(object) || object[i] != ',' {
				return
			}
			i++
		}
	}
}

func blank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// stringEnd is the index after the closing quote of the string that opens at i, or -1.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// valueEnd is the index after the value that starts at i, or -1.
func valueEnd(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				if i = stringEnd(b, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	default:
		for i < len(b) {
			switch b[i] {
			case ',', '}', ']', ' ', '\n', '\r', '\t':
				return i
			}
			i++
		}
		return i
	}
}

// keyIs compares a quoted name with the name as Fields yields it, without allocating when it has no escapes.
func keyIs(quoted []byte, name string) bool {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner) == name
	}
	return unquote(quoted) == name
}

// unquote decodes a JSON string. Anything with an escape goes to encoding/json, which knows surrogates.
func unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return string(inner)
	}
	return s
}
