package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// reference reads a body with encoding/json, slowly and by the rules as they are written down.
type reference struct {
	uuid  string
	rows  []json.RawMessage
	index []int32
}

var (
	errSyntax = errors.New("syntax")
	errShape  = errors.New("shape")
)

func refer(body []byte, o Options) (*reference, error) {
	if o.Form == Lines {
		return referLines(body, o)
	}
	if !json.Valid(body) || !utf8.Valid(body) {
		return nil, errSyntax
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || members == nil {
		return nil, errShape
	}
	r := &reference{}
	if err := json.Unmarshal(members["uuid"], &r.uuid); err != nil {
		return nil, errShape
	}
	own, other := "row", "rows"
	if o.Form == Batch {
		own, other = other, own
	}
	if m, ok := members[other]; ok && string(m) != "null" {
		return nil, errShape
	}
	var list []json.RawMessage
	if o.Form == Single {
		list = []json.RawMessage{members[own]}
	} else if json.Unmarshal(members[own], &list) != nil {
		return nil, errShape
	}
	return r, r.fill(list, o)
}

func referLines(body []byte, o Options) (*reference, error) {
	var list []json.RawMessage
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		if len(bytes.Trim(line, " \t\r")) == 0 {
			continue
		}
		if !json.Valid(line) || !utf8.Valid(line) {
			return nil, errSyntax
		}
		list = append(list, json.RawMessage(line))
	}
	r := &reference{uuid: o.UUID}
	return r, r.fill(list, o)
}

func (r *reference) fill(list []json.RawMessage, o Options) error {
	if r.uuid == "" || utf8.RuneCountInString(r.uuid) > MaxUUID {
		return errShape
	}
	if len(list) == 0 || o.MaxRows > 0 && len(list) > o.MaxRows {
		return errShape
	}
	for _, item := range list {
		var row map[string]json.RawMessage
		if json.Unmarshal(item, &row) != nil || row == nil {
			return errShape
		}
		data := row["data"]
		if len(data) == 0 || data[0] != '{' {
			return errShape
		}
		if o.Keys == KeysStrict {
			for key := range topKeys(data) {
				if !camel(key) {
					return errShape
				}
			}
		}
		index := protocol.NoIndex
		if text := string(row["index"]); text != "" && text != "null" {
			n, err := strconv.ParseInt(strings.TrimPrefix(text, "-"), 10, 64)
			if err != nil || n > math.MaxInt32 || text[0] == '-' && n != 0 {
				return errShape
			}
			index = int32(n)
		}
		r.rows = append(r.rows, data)
		r.index = append(r.index, index)
	}
	return nil
}

// topKeys yields the member names of an object, as they were sent.
func topKeys(object []byte) map[string]bool {
	keys := map[string]bool{}
	d := json.NewDecoder(bytes.NewReader(object))
	depth, name := 0, false
	for {
		before := d.InputOffset()
		token, err := d.Token()
		if err != nil {
			return keys
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
			name = depth == 1
			continue
		}
		if depth != 1 {
			continue
		}
		if name {
			raw := object[before:d.InputOffset()]
			raw = raw[bytes.IndexByte(raw, '"'):]
			keys[string(raw[1:len(raw)-1])] = true
		}
		name = !name
	}
}

func camel(key string) bool {
	if key == "" || key[0] < 'a' || key[0] > 'z' {
		return false
	}
	for _, c := range []byte(key) {
		if !alnum[c] {
			return false
		}
	}
	return true
}

// depthOf is the deepest nesting in valid JSON.
func depthOf(text []byte) int {
	depth, deepest, inString := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
