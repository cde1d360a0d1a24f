package settings

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// DecodeJSON fills into from a JSON object, as Configure carries it. It checks what the host has checked once more, since
// not every host does. Problem.Variable is the property.
func DecodeJSON(data []byte, into any) []Problem {
	s, target, err := target(into)
	if err != nil {
		return []Problem{{Reason: err.Error()}}
	}
	if len(data) == 0 {
		data = []byte("{}")
	}
	if problems := s.check(data); len(problems) > 0 {
		return problems
	}
	return s.fill(target, data)
}

func target(into any) (*spec, reflect.Value, error) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, reflect.Value{}, fmt.Errorf("settings: %T is not a pointer to a struct", into)
	}
	s, err := specOf(into)
	return s, v.Elem(), err
}

// fill sets every field: to the value in config, else to its default, else to its zero value. config is valid by now.
func (s *spec) fill(target reflect.Value, config []byte) []Problem {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(config, &values); err != nil {
		return []Problem{{Reason: "the configuration is not a JSON object"}}
	}
	var problems []Problem
	for i := range s.fields {
		f := &s.fields[i]
		raw, ok := values[f.property]
		if !ok {
			if _, ok := f.text["default"]; !ok {
				target.FieldByIndex(f.path).SetZero()
				continue
			}
			var err error
			if raw, err = f.value("default"); err != nil {
				problems = append(problems, Problem{Variable: f.property, Reason: err.Error()})
				continue
			}
		}
		if err := f.set(target.FieldByIndex(f.path), raw); err != nil {
			// The error of the decoder may hold the value.
			problems = append(problems, Problem{Variable: f.property, Reason: "is not a valid " + f.kind.String()})
		}
	}
	return problems
}

func (f *field) set(v reflect.Value, raw json.RawMessage) error {
	switch f.kind {
	case kindDuration, kindBytes:
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return setWhole(v, raw) // a size as a plain number
		}
		if f.kind == kindBytes {
			n, err := ParseBytes(text)
			v.SetInt(int64(n))
			return err
		}
		d, err := time.ParseDuration(text)
		v.SetInt(int64(d))
		return err
	case kindInt:
		return setWhole(v, raw)
	default:
		v.SetZero()
		return json.Unmarshal(raw, v.Addr().Interface())
	}
}

// setWhole takes 3.0 and 1e3 for integers, as a schema does; encoding/json does not.
func setWhole(v reflect.Value, raw json.RawMessage) error {
	n, err := wholeNumber(raw)
	if err != nil || v.OverflowInt(n) {
		return fmt.Errorf("out of range")
	}
	v.SetInt(n)
	return nil
}
