package transform

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Rows are valid JSON: intake has checked them. In other bytes these functions find an error, and never read beyond the end.

var errMalformed = errors.New("the row is no valid JSON")

// members calls fn with the places of each name and value of the object that starts at i, and returns where it ends.
func members(b []byte, i int, fn func(key, keyEnd, value, valueEnd int) error) (end int, err error) {
	if i = blank(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return i, errMalformed
		}
		key, keyEnd := i, stringEnd(b, i)
		if keyEnd < 0 {
			return i, errMalformed
		}
		if i = blank(b, keyEnd); i >= len(b) || b[i] != ':' {
			return i, errMalformed
		}
		value := blank(b, i+1)
		valueEnd := valueEnd(b, value)
		if valueEnd <= value {
			return i, errMalformed
		}
		if err := fn(key, keyEnd, value, valueEnd); err != nil {
			return i, err
		}
		if i = blank(b, valueEnd); i >= len(b) {
			return i, errMalformed
		}
		switch b[i] {
		case '}':
			return i + 1, nil
		case ',':
			i = blank(b, i+1)
		default:
			return i, errMalformed
		}
	}
}

func blank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// stringEnd is the index after the closing quote of the string that opens at i, or -1.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// valueEnd is the index after the value that starts at i, or -1.
func valueEnd(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				if i = stringEnd(b, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] != ' ' && b[i] != '\n' && b[i] != '\r' && b[i] != '\t' {
		i++
	}
	return i
}

// unquote is the text of a JSON string; without escapes, its own bytes.
func unquote(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return inner
	}
	return []byte(s)
}
