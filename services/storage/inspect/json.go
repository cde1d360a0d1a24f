package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// jsonHeader reads the names of the first object: of an array of them, of lines of them (NDJSON), or the only one.
type jsonHeader struct {
	head    []byte
	found   []string
	partly  bool
	waiting int // bytes that are to come before it is worth looking again
}

func (h *jsonHeader) feed(p []byte, ended bool) (settled bool, err error) {
	room := maxHeader - len(h.head)
	h.head = append(h.head, p[:min(len(p), room)]...)
	full := len(p) >= room
	if !ended && !full && len(h.head) < h.waiting {
		return false, nil
	}
	h.waiting = 2 * len(h.head) // so that the work stays proportional
	h.found, err = firstObject(bytes.TrimPrefix(h.head, byteOrderMark))
	switch {
	case err == nil:
	case !errors.Is(err, io.ErrUnexpectedEOF):
		return false, err
	case ended:
		return false, errors.New("the JSON file ends before its first object does")
	case full:
		h.partly = true
	default:
		return false, nil
	}
	h.head = nil
	return true, nil
}

// firstObject returns the names of the first object's members, also with io.ErrUnexpectedEOF when b ends before it does.
func firstObject(b []byte) ([]string, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	token, err := next(d)
	if err == nil && token == json.Delim('[') {
		if token, err = next(d); err == nil && token == json.Delim(']') {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if token != json.Delim('{') {
		return nil, errors.New("the JSON file holds no objects: an array of objects, lines of objects or one object is needed")
	}
	var names []string
	for {
		token, err := next(d)
		if err != nil {
			return names, err
		}
		name, ok := token.(string)
		if !ok {
			return names, nil // }
		}
		if names = append(names, name); len(names) > maxColumns {
			return nil, fmt.Errorf("the first object of the JSON file has more than %d members", maxColumns)
		}
		for depth := 0; ; {
			token, err := next(d)
			if err != nil {
				return names, err
			}
			switch token {
			case json.Delim('{'), json.Delim('['):
				depth++
			case json.Delim('}'), json.Delim(']'):
				depth--
			}
			if depth == 0 {
				break
			}
		}
	}
}

// next is one token. What ends in the middle is io.ErrUnexpectedEOF.
func next(d *json.Decoder) (json.Token, error) {
	token, err := d.Token()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("the JSON file, byte %d: %w", d.InputOffset(), err)
	}
	return token, err
}

func (h *jsonHeader) names() (names, warnings []string) {
	if h.partly {
		warnings = append(warnings, fmt.Sprintf("the first object has more than %d bytes; columns are those in its beginning", maxHeader))
	}
	return h.found, append(warnings, unnamed(h.found)...)
}
