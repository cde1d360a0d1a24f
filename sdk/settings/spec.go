package settings

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
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
		f.enum = splitList(enum)
		if len(f.enum) == 0 || (f.kind != kindString && f.kind != kindList) {
			return f, fmt.Errorf("enum:%q does not fit a %s", enum, f.kind)
		}
	}
	for _, bound := range []string{"min", "max"} {
		if text, ok := f.text[bound]; ok {
			switch f.kind {
			case kindInt, kindFloat, kindDuration, kindBytes:
			default:
				return f, fmt.Errorf("%s:%q does not fit a %s", bound, text, f.kind)
			}
		}
	}
	if f.kind == kindSecret && (f.text["default"] != "" || f.text["example"] != "") {
		return f, fmt.Errorf("a secret has neither default nor example")
	}
	return f, nil
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

// Variable is the name of a property's environment variable: flush_interval and flushInterval are PREFIX_FLUSH_INTERVAL.
func Variable(prefix, property string) string {
	var b strings.Builder
	b.WriteString(prefix)
	lower := false
	for _, r := range property {
		switch {
		case r >= 'A' && r <= 'Z':
			if lower {
				b.WriteByte('_')
			}
			b.WriteRune(r)
			lower = false
		case r >= 'a' && r <= 'z':
			b.WriteRune(r - 'a' + 'A')
			lower = true
		case r >= '0' && r <= '9':
			b.WriteRune(r)
			lower = true
		default:
			b.WriteByte('_')
			lower = false
		}
	}
	return b.String()
}

// splitList cuts at commas and drops blanks around and empty items.
func splitList(text string) []string {
	var out []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}
