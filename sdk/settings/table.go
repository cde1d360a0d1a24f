package settings

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fields lists the settings of v in the order of its fields, for tables.
func Fields(prefix string, v any) ([]Field, error) {
	s, err := specOf(v)
	if err != nil {
		return nil, err
	}
	fields := make([]Field, len(s.fields))
	for i := range s.fields {
		f := &s.fields[i]
		fields[i] = Field{
			Property: f.property, Variable: Variable(prefix, f.property), Type: f.kind.String(), Default: f.text["default"],
			Doc: f.text["doc"], Example: f.text["example"], Enum: slices.Clone(f.enum), Required: f.required, Secret: f.kind == kindSecret,
		}
	}
	return fields, nil
}

// Value is one setting as it stands, printable.
type Value struct {
	Variable string `json:"variable"`
	Value    string `json:"value"` // in the form in which a variable would hold it; a secret that is set: ***
}

// Masked lists the settings of v, a struct or a pointer to one, with their values and without its secrets.
func Masked(prefix string, v any) ([]Value, error) {
	s, err := specOf(v)
	if err != nil {
		return nil, err
	}
	value := reflect.ValueOf(v)
	for value.Kind() == reflect.Pointer {
		if value.IsNil() {
			return nil, fmt.Errorf("settings: %T is nil", v)
		}
		value = value.Elem()
	}
	out := make([]Value, len(s.fields))
	for i := range s.fields {
		f := &s.fields[i]
		out[i] = Value{Variable: Variable(prefix, f.property), Value: f.print(value.FieldByIndex(f.path))}
	}
	return out, nil
}

func (f *field) print(v reflect.Value) string {
	switch f.kind {
	case kindSecret:
		return Secret(v.String()).String()
	case kindDuration:
		return time.Duration(v.Int()).String()
	case kindBytes:
		return Bytes(v.Int()).String()
	case kindBool:
		return strconv.FormatBool(v.Bool())
	case kindInt:
		return strconv.FormatInt(v.Int(), 10)
	case kindFloat:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	case kindList:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = v.Index(i).String()
		}
		return strings.Join(items, ",")
	case kindMap:
		var items []string
		for key, value := range v.Seq2() {
			items = append(items, key.String()+"="+value.String())
		}
		slices.Sort(items)
		return strings.Join(items, ",")
	default:
		return v.String()
	}
}

// wholeNumber reads a JSON number that is an integer in any notation.
func wholeNumber(raw json.RawMessage) (int64, error) {
	var number json.Number
	if err := json.Unmarshal(raw, &number); err != nil {
		return 0, err
	}
	if n, err := number.Int64(); err == nil {
		return n, nil
	}
	if len(number) > 64 {
		return 0, fmt.Errorf("number is too long")
	}
	f, err := number.Float64() // bounds the exponent before big.Rat sees it
	if err != nil || f > 1e19 || f < -1e19 {
		return 0, fmt.Errorf("number is out of range")
	}
	r, ok := new(big.Rat).SetString(number.String())
	if !ok || !r.IsInt() || !r.Num().IsInt64() {
		return 0, fmt.Errorf("not a whole number")
	}
	return r.Num().Int64(), nil
}
