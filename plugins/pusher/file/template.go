package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rivergate/rivergate/sdk"
)

// placeholders are the words that may stand in braces in PATH.
var placeholders = []string{"org", "date", "hour", "uuid", "instance", "format"}

// maxName bounds what one placeholder may become, bytes: with a prefix, a suffix and a rotation number the name stays
// below the 255 that file systems allow.
const maxName = 120

// template is PATH, cut at its placeholders. It names a row's file by what never changes about the row, so that a row
// that comes again goes to the same file.
type template struct {
	base  string // the folder above the first placeholder
	parts []part
}

type part struct {
	literal     string
	placeholder string // when literal is empty
}

func parseTemplate(path string) (template, error) {
	var t template
	if path == "" || strings.HasSuffix(path, "/") || strings.ContainsRune(path, 0) {
		return t, errors.New("must name a file")
	}
	for rest := path; rest != ""; {
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
		if !known(word) {
			return t, fmt.Errorf("{%s} is not known; there are {%s}", word, strings.Join(placeholders, "}, {"))
		}
		t.parts = append(t.parts, part{placeholder: word})
		rest = rest[end+1:]
	}
	fixed := ""
	if t.parts[0].literal != "" {
		fixed = t.parts[0].literal
	}
	if len(t.parts) == 1 && fixed != "" {
		t.base = filepath.Dir(fixed)
	} else if i := strings.LastIndexByte(fixed, '/'); i >= 0 {
		t.base = filepath.Clean(fixed[:i+1])
	} else {
		t.base = "."
	}
	return t, nil
}

func known(word string) bool {
	for _, p := range placeholders {
		if p == word {
			return true
		}
	}
	return false
}

// path is the file of a row. Times are the row's received_at in UTC.
func (t *template) path(row sdk.Row, instance, format string) string {
	var b strings.Builder
	for _, p := range t.parts {
		switch p.placeholder {
		case "":
			b.WriteString(p.literal)
		case "org":
			b.WriteString(strconv.FormatUint(row.OrgID(), 10))
		case "date":
			b.WriteString(row.ReceivedAt().UTC().Format("2006-01-02"))
		case "hour":
			b.WriteString(row.ReceivedAt().UTC().Format("15"))
		case "uuid":
			b.WriteString(safeName(row.UUID()))
		case "instance":
			b.WriteString(safeName(instance))
		case "format":
			b.WriteString(format)
		}
	}
	return filepath.Clean(b.String())
}

// safeName makes a file name of a text that a client chose. Letters, digits, "_", "-" and inner dots stay; every other
// byte becomes %XX, so two texts never share a name. A long one is cut and ends in a hash of the whole. A last "-" before
// six digits or more is escaped as well: such names belong to rotated files.
func safeName(text string) string {
	const hexDigits = "0123456789ABCDEF"
	rotated := -1
	if i := strings.LastIndexByte(text, '-'); i >= 0 && len(text)-i > rotationDigits && strings.Trim(text[i+1:], "0123456789") == "" {
		rotated = i
	}
	out := make([]byte, 0, len(text))
	for i := range len(text) {
		c := text[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' ||
			c == '-' && i != rotated || c == '.' && i > 0
		if plain {
			out = append(out, c)
		} else {
			out = append(out, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	if len(out) > maxName {
		sum := sha256.Sum256([]byte(text))
		out = append(append(out[:maxName-33], '~'), hex.EncodeToString(sum[:16])...)
	}
	if len(out) == 0 {
		return "%"
	}
	return string(out)
}
