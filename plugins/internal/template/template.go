// Package template is text with words in braces, such as rivergate/{org}/{uuid}: the address of a row at a broker.
package template

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// words may stand in braces, of every template.
var words = []string{"org", "uuid", "instance"}

// The words of when a row was received, in UTC, for templates that ask for them.
const (
	Date = "date" // 2026-01-02
	Hour = "hour" // 00 to 23
)

// Template is a text, cut at its words.
type Template struct {
	parts []part
}

type part struct {
	literal string
	word    string // when literal is empty
}

// Parse refuses braces that do not match and words that it does not know. more are words beside org, uuid and instance.
func Parse(text string, more ...string) (Template, error) {
	var t Template
	words := append(slices.Clone(words), more...)
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

// Prefix is the text before the first word.
func (t Template) Prefix() string {
	if len(t.parts) == 0 {
		return ""
	}
	return t.parts[0].literal
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
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.word != "" && p.word != "instance" })
}

// Fill is the text of a row. What a client or an operator named is escaped, byte by byte, as %XX but for letters, digits and
// the bytes in plain; two uuids never share a text.
func (t Template) Fill(row sdk.Row, instance, plain string) string {
	return t.FillWith(row, instance, func(text string) string { return Escape(text, plain) })
}

// FillWith is Fill with an escaping of the caller's own.
func (t Template) FillWith(row sdk.Row, instance string, escape func(string) string) string {
	var b []byte
	for _, p := range t.parts {
		switch p.word {
		case "":
			b = append(b, p.literal...)
		case "org":
			b = strconv.AppendUint(b, row.OrgID(), 10)
		case "uuid":
			b = append(b, escape(row.UUID())...)
		case Date:
			b = row.ReceivedAt().UTC().AppendFormat(b, time.DateOnly)
		case Hour:
			b = row.ReceivedAt().UTC().AppendFormat(b, "15")
		case "instance":
			b = append(b, escape(instance)...)
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

// maxName bounds what one word may become in a path, bytes: with what stands beside it a name stays below the 255 that file systems,
// and stores that keep objects in one, allow.
const maxName = 120

// Name makes one part of a path of a text that a client chose. Letters, digits, "_", "-" and inner dots stay; every other byte
// becomes %XX, so two texts never share a name. A long one is cut and ends in a hash of the whole.
func Name(text string) string {
	out := Escape(text, "_-.")
	if strings.HasPrefix(out, ".") {
		out = "%2E" + out[1:]
	}
	if len(out) > maxName {
		sum := sha256.Sum256([]byte(text))
		out = out[:maxName-33] + "~" + hex.EncodeToString(sum[:16])
	}
	if out == "" {
		return "%"
	}
	return out
}
