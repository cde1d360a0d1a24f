// Package template is text with words in braces, such as rivergate/{org}/{uuid}: the address of a row at a broker.
package template

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rivergate/rivergate/sdk"
)

// words may stand in braces.
var words = []string{"org", "uuid", "instance"}

// Template is a text, cut at its words.
type Template struct {
	parts []part
}

type part struct {
	literal string
	word    string // when literal is empty
}

// Parse refuses braces that do not match and words that it does not know.
func Parse(text string) (Template, error) {
	var t Template
	for rest := text; rest != ""; {
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
			return Template{}, fmt.Errorf("has an unmatched brace at %q", rest[open:])
		}
		word := rest[open+1 : end]
		if !slices.Contains(words, word) {
			return Template{}, fmt.Errorf("{%s} is not known; there are {%s}", word, strings.Join(words, "}, {"))
		}
		t.parts = append(t.parts, part{word: word})
		rest = rest[end+1:]
	}
	if len(t.parts) == 0 {
		return Template{}, errors.New("is empty")
	}
	return t, nil
}

// Literals are the parts that the operator wrote, for checks of what may stand in them.
func (t Template) Literals() string {
	var b strings.Builder
	for _, p := range t.parts {
		b.WriteString(p.literal)
	}
	return b.String()
}

// Varies tells whether different rows get different texts.
func (t Template) Varies() bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.word == "org" || p.word == "uuid" })
}

// Fill is the text of a row. What a client or an operator named is escaped, byte by byte, as %XX but for letters, digits and
// the bytes in plain; two uuids never share a text.
func (t Template) Fill(row sdk.Row, instance, plain string) string {
	var b []byte
	for _, p := range t.parts {
		switch p.word {
		case "":
			b = append(b, p.literal...)
		case "org":
			b = strconv.AppendUint(b, row.OrgID(), 10)
		case "uuid":
			b = escape(b, row.UUID(), plain)
		case "instance":
			b = escape(b, instance, plain)
		}
	}
	return string(b)
}

// Escape is the escaping of Fill.
func Escape(text, plain string) string { return string(escape(nil, text, plain)) }

func escape(b []byte, text, plain string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(plain, c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}

// Fixed is a template without words.
func Fixed(text string) Template { return Template{parts: []part{{literal: text}}} }
