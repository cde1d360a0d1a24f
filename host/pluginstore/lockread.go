package pluginstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
)

var hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// reader reads the JSON of a lock file token by token: a file that decides what may run is not guessed at, and whoever has
// to mend it, perhaps after a merge, is told the line.
type reader struct {
	text []byte
	json *json.Decoder
}

// fields says how the value of each member of an object is read.
type fields map[string]func() error

func parseLock(text []byte) (*LockFile, error) {
	r := newReader(text)
	l := &LockFile{}
	schema := 0
	err := r.object("the lock file", fields{
		"schema": func() error {
			if err := r.value(&schema); err != nil {
				return err
			}
			if schema != lockSchema {
				return r.wrong("schema is %d; this Rivergate reads %d", schema, lockSchema)
			}
			return nil
		},
		"plugins": func() error {
			return r.array("plugins", func() error {
				e, err := r.entry()
				if err != nil {
					return err
				}
				if l.find(e.Kind, e.Name) != nil {
					return r.wrong("there are two entries of %s %s", e.Kind, e.Name)
				}
				l.Plugins = append(l.Plugins, *e)
				return nil
			})
		},
	}, "schema", "plugins")
	if err != nil {
		return nil, err
	}
	if _, err := r.json.Token(); !errors.Is(err, io.EOF) {
		return nil, r.wrong("something follows after its end")
	}
	slices.SortFunc(l.Plugins, compareEntries)
	return l, nil
}

func newReader(text []byte) *reader {
	return &reader{text: text, json: json.NewDecoder(bytes.NewReader(text))}
}

func (r *reader) entry() (*Entry, error) {
	e := &Entry{}
	members := r.release(&e.Release)
	members["kind"] = func() error {
		if err := r.value(&e.Kind); err != nil {
			return err
		}
		if !slices.Contains([]protocol.Kind{protocol.KindPusher, protocol.KindConnector, protocol.KindStorage, protocol.KindEngine}, e.Kind) {
			return r.wrong("%q is no kind of plugin", e.Kind)
		}
		return nil
	}
	members["name"] = func() error {
		if err := r.value(&e.Name); err != nil {
			return err
		}
		if err := pluginhost.CheckName(e.Name); err != nil {
			return r.wrong("%v", err)
		}
		return nil
	}
	members["former"] = func() error {
		e.Former = &Release{}
		return r.object("former", r.release(e.Former), "sha256")
	}
	return e, r.object("an entry", members, "kind", "name", "sha256")
}

func (r *reader) release(into *Release) fields {
	return fields{
		"version": func() error { return r.value(&into.Version) },
		"source":  func() error { return r.value(&into.Source) },
		"sha256": func() error {
			if err := r.value(&into.SHA256); err != nil {
				return err
			}
			if !hashForm.MatchString(into.SHA256) {
				return r.wrong("sha256 is %q, which is not a SHA-256 of 64 lower-case hexadecimal digits", shorten(into.SHA256))
			}
			return nil
		},
	}
}

// object reads an object with exactly these members, of which some must be there.
func (r *reader) object(what string, members fields, needed ...string) error {
	if err := r.delim('{', what+" is not a JSON object"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for r.json.More() {
		token, err := r.json.Token()
		if err != nil {
			return r.broken(err)
		}
		name, _ := token.(string)
		read, known := members[name]
		switch {
		case !known:
			return r.wrong("%s has the unknown member %q; it can have %s", what, shorten(name), strings.Join(slices.Sorted(maps.Keys(members)), ", "))
		case seen[name]:
			return r.wrong("%s has %q twice", what, name)
		}
		seen[name] = true
		if err := read(); err != nil {
			return err
		}
	}
	if _, err := r.json.Token(); err != nil {
		return r.broken(err)
	}
	for _, name := range needed {
		if !seen[name] {
			return r.wrong("%s has no %q", what, name)
		}
	}
	return nil
}

func (r *reader) array(what string, element func() error) error {
	if err := r.delim('[', what+" is not a JSON array"); err != nil {
		return err
	}
	for r.json.More() {
		if err := element(); err != nil {
			return err
		}
	}
	if _, err := r.json.Token(); err != nil {
		return r.broken(err)
	}
	return nil
}

func (r *reader) delim(want json.Delim, otherwise string) error {
	token, err := r.json.Token()
	if err != nil {
		return r.broken(err)
	}
	if token != want {
		return r.wrong("%s", otherwise)
	}
	return nil
}

func (r *reader) value(into any) error {
	if err := r.json.Decode(into); err != nil {
		return r.broken(err)
	}
	return nil
}

// lineError names the line of a file.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

func (r *reader) wrong(format string, args ...any) error {
	return r.at(r.json.InputOffset(), fmt.Errorf(format, args...))
}

func (r *reader) broken(err error) error {
	offset := r.json.InputOffset()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.at(int64(len(r.text)), errors.New("it ends in the middle"))
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		// The offset is behind the last token that was read, and the mistake is what follows.
		rest := r.text[min(offset, int64(len(r.text))):]
		offset += int64(len(rest) - len(bytes.TrimLeft(rest, " \t\r\n,:")))
	}
	return r.at(offset, err)
}

func (r *reader) at(offset int64, err error) error {
	offset = min(max(offset, 0), int64(len(r.text)))
	return &lineError{line: 1 + bytes.Count(r.text[:offset], []byte("\n")), err: err}
}

// shorten keeps what somebody else wrote from filling the screen.
func shorten(s string) string {
	if runes := []rune(s); len(runes) > 80 {
		return string(runes[:80]) + "…"
	}
	return s
}
