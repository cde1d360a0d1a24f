package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rivergate/rivergate/sdk"
)

// template is KEY, cut at its placeholders; {instance} is filled in.
type template struct {
	parts []part
}

type part struct {
	literal     string
	placeholder string // org or uuid, when literal is empty
}

// parseKey reads KEY. A uuid is what a client sent, so the key must begin with a text of the operator's: no client may
// choose which key of the database it writes to.
func parseKey(text, instance string) (template, error) {
	var t template
	for rest := strings.ReplaceAll(text, "{instance}", instance); rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.parts = append(t.parts, part{literal: rest})
			break
		}
		if open > 0 {
			t.parts = append(t.parts, part{literal: rest[:open]})
		}
		end := strings.IndexByte(rest, '}')
		if rest[open] != '{' || end < open {
			return t, fmt.Errorf("has an unmatched brace at %q", rest[open:])
		}
		word := rest[open+1 : end]
		if word != "org" && word != "uuid" {
			return t, fmt.Errorf("{%s} is not known; there are {org}, {uuid}, {instance}", word)
		}
		t.parts = append(t.parts, part{placeholder: word})
		rest = rest[end+1:]
	}
	if len(t.parts) == 0 || t.parts[0].literal == "" {
		return t, errors.New("must begin with a text that is no placeholder")
	}
	return t, nil
}

// of is the key of a row's stream.
func (t template) of(row sdk.Row) string {
	var b strings.Builder
	for _, p := range t.parts {
		switch p.placeholder {
		case "":
			b.WriteString(p.literal)
		case "org":
			b.WriteString(strconv.FormatUint(row.OrgID(), 10))
		case "uuid":
			b.WriteString(row.UUID())
		}
	}
	return b.String()
}

// positionsKey reads POSITIONS. No stream may have a key that begins with it.
func positionsKey(text, instance string, streams template) (string, error) {
	key := strings.ReplaceAll(text, "{instance}", instance)
	fixed := streams.parts[0].literal
	switch {
	case key == "":
		return "", errors.New("is empty")
	case strings.ContainsAny(key, "{}"):
		return "", errors.New("knows no placeholder but {instance}")
	case strings.HasPrefix(key, fixed), strings.HasPrefix(fixed, key+":"):
		return "", fmt.Errorf("begins like KEY (%q): a stream could have the same key", fixed)
	}
	return key, nil
}
