package intake

import (
	"fmt"
	"strings"
)

const (
	tooDeep  = "nested deeper than 128 levels"
	maxPlace = 120 // bytes of a place in a message
)

// SyntaxError: the body is not JSON, or not JSON that is taken (UTF-8, depth).
type SyntaxError struct {
	Offset       int // bytes from the start of the body
	Line, Column int // both from 1; a column is a byte
	Place        string
	Reason       string
}

func (e *SyntaxError) Error() string {
	if e.Place == "" {
		return fmt.Sprintf("%s at line %d, column %d", e.Reason, e.Line, e.Column)
	}
	return fmt.Sprintf("%s at line %d, column %d, in %s", e.Reason, e.Line, e.Column, e.Place)
}

// FieldError is one thing wrong with one field, such as rows[3].index.
type FieldError struct {
	Field  string
	Reason string
}

// ShapeError: the body is JSON, but not the rows that the route takes.
type ShapeError struct {
	Fields []FieldError // the first of them, at least one
	Count  int          // all of them
}

func (e *ShapeError) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = strings.TrimSpace(f.Field + " " + f.Reason)
	}
	text := strings.Join(parts, "; ")
	if more := e.Count - len(e.Fields); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

func (s *scanner) shapeError() error {
	if s.faultCount == 0 {
		return nil
	}
	if len(s.faults) > maxListed {
		s.faults = s.faults[:maxListed]
	}
	return &ShapeError{Fields: s.faults, Count: s.faultCount}
}

func (s *scanner) syntaxError() error {
	at := min(s.failedAt, s.end)
	body := s.b[:at]
	e := &SyntaxError{Offset: at, Reason: s.reason, Line: 1}
	start := 0
	for i, c := range body {
		if c == '\n' {
			e.Line++
			start = i + 1
		}
	}
	e.Column = at - start + 1
	if s.failedAt >= s.end && s.reason != tooDeep {
		e.Reason = "the JSON ends too early: " + e.Reason
	}
	if s.o.Form == Lines {
		e.Place = strings.TrimSuffix(fmt.Sprintf("rows[%d].%s", max(s.count-1, 0), place(body[start:])), ".")
	} else {
		e.Place = place(body)
	}
	return e
}

// place says where in the document a valid beginning of JSON ends: rows[3].data.a.
func place(prefix []byte) string {
	type level struct {
		array bool
		n     int
		key   []byte
	}
	var levels []level
	var key []byte
	for i := 0; i < len(prefix); i++ {
		switch prefix[i] {
		case '{':
			levels = append(levels, level{})
		case '[':
			levels = append(levels, level{array: true})
		case '}', ']':
			if len(levels) > 0 {
				levels = levels[:len(levels)-1]
			}
		case ':':
			if len(levels) > 0 {
				levels[len(levels)-1].key = key
			}
		case ',':
			if len(levels) > 0 {
				levels[len(levels)-1].key = nil
				levels[len(levels)-1].n++
			}
		case '"':
			start := i + 1
			for i++; i < len(prefix) && prefix[i] != '"'; i++ {
				if prefix[i] == '\\' {
					i++
				}
			}
			key = prefix[start:min(i, len(prefix))]
		}
	}
	var out strings.Builder
	for k, l := range levels {
		switch {
		case l.array:
			fmt.Fprintf(&out, "[%d]", l.n)
		case l.key != nil:
			if k > 0 {
				out.WriteByte('.')
			}
			out.WriteString(short(l.key))
		}
		if out.Len() > maxPlace {
			out.WriteString("…")
			break
		}
	}
	return out.String()
}
