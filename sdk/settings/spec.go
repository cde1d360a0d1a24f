package settings

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/rivergate/rivergate/sdk/internal/document"
)

// A spec is what the tags of one struct say.
type spec struct {
	typ    reflect.Type
	fields []field
}

type field struct {
	path     []int // for reflect.Value.FieldByIndex
	goName   string
	kind     valueKind
	property string
	text     map[string]string // the other tags, by name
	enum     []string
	pattern  *regexp.Regexp // of the text, or of each in a list
	min, max *big.Rat       // of a number; nanoseconds of a duration; bytes of a size
	required bool
	gone     bool // refused when it is set
}

type valueKind uint8

const (
	kindString valueKind = iota
	kindSecret
	kindBool
	kindInt
	kindFloat
	kindDuration
	kindBytes
	kindList
	kindMap
)

var kindNames = [...]string{"string", "secret", "bool", "integer", "number", "duration", "size", "list", "map"}

func (k valueKind) String() string { return kindNames[k] }

var (
	durationType = reflect.TypeFor[time.Duration]()
	bytesType    = reflect.TypeFor[Bytes]()
	secretType   = reflect.TypeFor[Secret]()
	propertyName = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
)

// specOf reads the tags of v, a struct or a pointer to one. Its error names the field that is declared wrongly.
func specOf(v any) (*spec, error) {
	typ := reflect.TypeOf(v)
	for typ != nil && typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ == nil || typ.Kind() != reflect.Struct {
		return nil, fmt.Errorf("settings: %T is not a struct", v)
	}
	s := &spec{typ: typ}
	if err := s.add(typ, nil); err != nil {
		return nil, fmt.Errorf("settings: %s: %w", typ, err)
	}
	return s, nil
}

func (s *spec) add(typ reflect.Type, path []int) error {
	for i := range typ.NumField() {
		sf := typ.Field(i)
		at := append(slices.Clone(path), i)
		property, tagged := sf.Tag.Lookup("config")
		switch {
		case property == "-":
			continue
		case !tagged && sf.Anonymous && sf.Type.Kind() == reflect.Struct:
			if err := s.add(sf.Type, at); err != nil {
				return err
			}
			continue
		case !tagged:
			continue
		case !sf.IsExported():
			return fmt.Errorf("field %s has a config tag and is not exported", sf.Name)
		}
		f, err := fieldOf(sf, property)
		if err != nil {
			return fmt.Errorf("field %s: %w", sf.Name, err)
		}
		f.path = at
		for _, other := range s.fields {
			if other.property == f.property {
				return fmt.Errorf("fields %s and %s are both named %q", other.goName, f.goName, f.property)
			}
		}
		s.fields = append(s.fields, f)
	}
	return nil
}

func fieldOf(sf reflect.StructField, property string) (field, error) {
	f := field{goName: sf.Name, property: property, text: map[string]string{}}
	if !propertyName.MatchString(property) {
		return f, fmt.Errorf("config:%q is not lower snake case", property)
	}
	var err error
	if f.kind, err = kindOf(sf.Type); err != nil {
		return f, err
	}
	for _, name := range []string{"default", "doc", "min", "max", "format", "pattern", "example"} {
		if text, ok := sf.Tag.Lookup(name); ok && text != "" {
			f.text[name] = text
		}
	}
	switch required := sf.Tag.Get("required"); required {
	case "", "false":
	case "true":
		f.required = true
	default:
		return f, fmt.Errorf("required:%q is neither true nor false", required)
	}
	switch gone := sf.Tag.Get("gone"); gone {
	case "", "false":
	case "true":
		f.gone = true
	default:
		return f, fmt.Errorf("gone:%q is neither true nor false", gone)
	}
	if f.gone && (f.required || f.text["default"] != "" || f.text["doc"] == "") {
		return f, fmt.Errorf("a field that is gone is not required, has no default, and says in doc what to do")
	}
	if f.required && f.text["default"] != "" {
		return f, fmt.Errorf("a required field has no default")
	}
	if enum, ok := sf.Tag.Lookup("enum"); ok {
		f.enum = document.SplitList(enum)
		if len(f.enum) == 0 || (f.kind != kindString && f.kind != kindList) {
			return f, fmt.Errorf("enum:%q does not fit a %s", enum, f.kind)
		}
	}
	for bound, to := range map[string]**big.Rat{"min": &f.min, "max": &f.max} {
		if text, ok := f.text[bound]; ok {
			if *to, err = f.parse(text); err != nil {
				return f, fmt.Errorf("%s: %w", bound, err)
			}
		}
	}
	if pattern, ok := f.text["pattern"]; ok {
		if f.pattern, err = regexp.Compile(pattern); err != nil {
			return f, fmt.Errorf("pattern: %w", err)
		}
	}
	if f.kind == kindSecret && (f.text["default"] != "" || f.text["example"] != "") {
		return f, fmt.Errorf("a secret has neither default nor example")
	}
	return f, nil
}

// shapes are the JSON types of each kind, in the form of a schema.
var shapes = [...]map[string]any{
	kindString:   {"type": "string"},
	kindSecret:   {"type": "string"},
	kindBool:     {"type": "boolean"},
	kindInt:      {"type": "integer"},
	kindFloat:    {"type": "number"},
	kindDuration: {"type": "string", document.KeyUnit: document.UnitDuration},
	kindBytes:    {"type": []any{"string", "integer"}, document.KeyUnit: document.UnitBytes},
	kindList:     {"type": "array", "items": map[string]any{"type": "string"}},
	kindMap:      {"type": "object", "additionalProperties": map[string]any{"type": "string"}},
}

// units are the kinds whose values are texts that measure something.
var units = map[valueKind]struct {
	name    string
	pattern *regexp.Regexp
	none    string // what a text is that is none
}{
	kindDuration: {document.UnitDuration, regexp.MustCompile(document.DurationPattern), document.NoDuration},
	kindBytes:    {document.UnitBytes, regexp.MustCompile(document.BytesPattern), document.NoBytes},
}

// convert makes a JSON value of a tag's text, by the same rules by which a variable's text becomes one.
func (f *field) convert(text string) (any, error) {
	return new(document.Document).Convert(shapes[f.kind], text)
}

// parse reads the text of a bound.
func (f *field) parse(text string) (*big.Rat, error) {
	switch f.kind {
	case kindDuration, kindBytes:
		n, err := document.ParseUnit(units[f.kind].name, text)
		return new(big.Rat).SetInt64(n), err
	case kindInt, kindFloat:
		value, err := f.convert(text)
		if err != nil {
			return nil, err
		}
		number, _ := value.(json.Number)
		if r, ok := new(big.Rat).SetString(number.String()); ok {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%q does not fit a %s", text, f.kind)
}

func kindOf(typ reflect.Type) (valueKind, error) {
	switch {
	case typ == durationType:
		return kindDuration, nil
	case typ == bytesType:
		return kindBytes, nil
	case typ == secretType:
		return kindSecret, nil
	}
	switch typ.Kind() {
	case reflect.String:
		return kindString, nil
	case reflect.Bool:
		return kindBool, nil
	case reflect.Int, reflect.Int64:
		return kindInt, nil
	case reflect.Float64:
		return kindFloat, nil
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.String && typ.Elem() != secretType {
			return kindList, nil
		}
	case reflect.Map:
		if typ.Key().Kind() == reflect.String && typ.Elem() == reflect.TypeFor[string]() {
			return kindMap, nil
		}
	}
	return 0, fmt.Errorf("type %s cannot be configured", typ)
}
