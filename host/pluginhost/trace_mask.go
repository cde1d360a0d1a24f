package pluginhost

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

const (
	secretMask = "***"
	maskDepth  = 32 // of a schema and its references; what lies deeper counts as secret
)

// maskConfig is a configuration as it may be shown, and what takes its secrets out of other texts. Only a property that the
// schema declares, and marks nowhere as secret (writeOnly, format password), is shown: when in doubt it is masked.
func maskConfig(schema, config json.RawMessage) (shown string, secrets *strings.Replacer) {
	var root, values map[string]any
	_ = json.Unmarshal(schema, &root) // a schema that is none declares nothing
	decoder := json.NewDecoder(bytes.NewReader(config))
	decoder.UseNumber()
	if err := decoder.Decode(&values); err != nil {
		return secretMask, nil
	}
	m := masker{root: root, open: map[string]bool{}, following: map[string]bool{}}
	m.declare(root, 0)
	var hidden []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if open, declared := m.open[name]; !declared || !open {
			hidden = append(hidden, leaves(values[name])...)
			values[name] = secretMask
		}
	}
	if len(hidden) > 0 {
		// The longest first: one secret may be a part of another.
		slices.SortFunc(hidden, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
		pairs := make([]string, 0, 2*len(hidden))
		for _, secret := range hidden {
			pairs = append(pairs, secret, secretMask)
			if quoted, err := json.Marshal(secret); err == nil && string(quoted[1:len(quoted)-1]) != secret {
				pairs = append(pairs, string(quoted[1:len(quoted)-1]), secretMask)
			}
		}
		secrets = strings.NewReplacer(pairs...)
	}
	text, err := json.Marshal(values)
	if err != nil {
		return secretMask, secrets
	}
	return string(text), secrets
}

// masker knows which properties of a schema may be shown.
type masker struct {
	root map[string]any
	open map[string]bool // by declared property: nothing in any of its schemas is secret

	following map[string]bool // references that declare is within
}

// declare takes the properties of a schema and of what it is composed of.
func (m *masker) declare(schema any, depth int) {
	s, ok := schema.(map[string]any)
	if !ok || depth > maskDepth {
		return
	}
	properties, _ := s["properties"].(map[string]any)
	for name, property := range properties {
		open := !m.secret(property, depth)
		if before, known := m.open[name]; known {
			open = open && before
		}
		m.open[name] = open
	}
	if ref, ok := s["$ref"].(string); ok && !m.following[ref] {
		m.following[ref] = true
		m.declare(m.resolve(ref), depth+1)
		delete(m.following, ref)
	}
	for _, keyword := range []string{"allOf", "anyOf", "oneOf", "if", "then", "else"} {
		switch part := s[keyword].(type) {
		case []any:
			for _, branch := range part {
				m.declare(branch, depth+1)
			}
		case map[string]any:
			m.declare(part, depth+1)
		}
	}
}

// secret tells whether anything in a schema is marked as secret, or cannot be looked at.
func (m *masker) secret(schema any, depth int) bool {
	if depth > maskDepth {
		return true
	}
	switch s := schema.(type) {
	case map[string]any:
		if s["writeOnly"] == true || s["format"] == "password" {
			return true
		}
		if ref, ok := s["$ref"].(string); ok {
			target := m.resolve(ref)
			if target == nil || m.secret(target, depth+1) {
				return true
			}
		}
		for _, part := range s {
			if m.secret(part, depth+1) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(s, func(part any) bool { return m.secret(part, depth+1) })
	}
	return false
}

// resolve follows a reference within the schema; anything else is nil.
func (m *masker) resolve(ref string) any {
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil
	}
	var at any = m.root
	for token := range strings.SplitSeq(pointer, "/") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")]
	}
	return at
}

// leaves are the texts and numbers inside a value.
func leaves(value any) []string {
	switch v := value.(type) {
	case string:
		if v != "" {
			return []string{v}
		}
	case json.Number:
		return []string{v.String()}
	case []any:
		var all []string
		for _, item := range v {
			all = append(all, leaves(item)...)
		}
		return all
	case map[string]any:
		var all []string
		for _, item := range v {
			all = append(all, leaves(item)...)
		}
		return all
	}
	return nil
}
