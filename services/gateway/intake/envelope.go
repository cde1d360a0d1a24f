package intake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// maxListed bounds what an answer lists; the rest is counted.
const (
	maxListed   = 20
	maxWarnings = 5
	maxKeyShown = 64
)

// span is a part of the body.
type span struct{ start, end uint32 }

func (v span) present() bool { return v.end > v.start }

// keySpan is a key of data that is not camelCase.
type keySpan struct {
	row int
	span
}

// scanner is the state of one pass.
type scanner struct {
	b   []byte // body and padding
	end int    // where the body, or the line that is read, ends
	o   Options

	failedAt int
	reason   string
	line     int // Lines: number of the line that is read, from 0

	uuid, other span // values of uuid and of the member that belongs to the other form
	seen        bool // row or rows was there
	wrong       string

	count       int // rows, also those beyond the limit
	spans       []span
	index       []int32
	anyIndex    bool
	badKeys     []keySpan
	badKeyCount int
	faults      []FieldError
	faultCount  int
}

func (s *scanner) reset(b []byte, n int, o Options) {
	*s = scanner{b: b, end: n, o: o, spans: s.spans, index: s.index, badKeys: s.badKeys}
	s.forgetRows()
}

// forgetRows is for a repeated member: the last one counts.
func (s *scanner) forgetRows() {
	s.count, s.anyIndex, s.badKeyCount, s.faultCount, s.wrong = 0, false, 0, 0, ""
	s.spans, s.index, s.badKeys, s.faults = s.spans[:0], s.index[:0], s.badKeys[:0], nil
}

// document reads a body of form Single or Batch.
func (s *scanner) document() bool {
	b := s.b
	i := space(b, 0)
	if b[i] != '{' {
		start := i
		if i = s.value(b, i, 0); i < 0 {
			return false
		}
		s.wrong = "must be an object, not " + kindOf(b[start])
		s.seen = true
		s.fault("", s.wrong)
		return s.atEnd(i)
	}
	i = s.members(i, func(key []byte, i int) int {
		start := i
		switch string(key) {
		case "uuid":
			if i = s.value(b, i, 0); i > 0 {
				s.uuid = span{uint32(start), uint32(i)}
			}
			return i
		case "row":
			if s.o.Form != Single {
				break
			}
			s.seen = true
			s.forgetRows()
			return s.row(i)
		case "rows":
			if s.o.Form != Batch {
				break
			}
			s.seen = true
			s.forgetRows()
			return s.rowList(i)
		default:
			return s.value(b, i, 0)
		}
		if i = s.value(b, i, 0); i > 0 {
			s.other = span{uint32(start), uint32(i)}
		}
		return i
	})
	return i >= 0 && s.atEnd(i)
}

// lines reads a body of form Lines. A line is a whole JSON text: the zero in place of its line feed ends it like a body.
func (s *scanner) lines() bool {
	b, n := s.b, s.end
	s.seen = true
	for start := 0; start < n; s.line++ {
		end := n
		if k := bytes.IndexByte(b[start:n], '\n'); k >= 0 {
			end = start + k
		}
		kept := b[end]
		b[end] = 0
		s.end = end
		i := space(b, start)
		ok := true
		if i < end {
			i = s.row(i)
			ok = i >= 0 && s.atEnd(i)
		}
		b[end] = kept
		if !ok {
			return false
		}
		start = end + 1
	}
	return true
}

func (s *scanner) atEnd(i int) bool {
	if i = space(s.b, i); i != s.end {
		s.fail(i, "nothing is expected behind the JSON value")
		return false
	}
	return true
}

// members walks the members of the object at i. The callback gets each name, unescaped, and passes over the value.
func (s *scanner) members(i int, member func(key []byte, i int) int) int {
	b := s.b
	i = space(b, i+1)
	if b[i] == '}' {
		return i + 1
	}
	for {
		if b[i] != '"' {
			return s.fail(i, "a member name in quotes is expected")
		}
		key := i
		if i = s.str(b, i+1); i < 0 {
			return -1
		}
		name := plain(b[key:i])
		if i = space(b, i); b[i] != ':' {
			return s.fail(i, "a colon is expected")
		}
		if i = member(name, space(b, i+1)); i < 0 {
			return -1
		}
		i = space(b, i)
		switch b[i] {
		case ',':
			i = space(b, i+1)
		case '}':
			return i + 1
		default:
			return s.fail(i, "a comma or } is expected")
		}
	}
}

// plain returns the text of a quoted string that was found valid.
func plain(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var text string
	if json.Unmarshal(quoted, &text) != nil {
		return inner
	}
	return []byte(text)
}

func (s *scanner) rowList(i int) int {
	b := s.b
	if b[i] != '[' {
		start := i
		if i = s.value(b, i, 0); i > 0 {
			s.wrong = "must be an array, not " + kindOf(b[start])
			s.fault("rows", s.wrong)
		}
		return i
	}
	i = space(b, i+1)
	if b[i] == ']' {
		return i + 1
	}
	for {
		if i = s.row(i); i < 0 {
			return -1
		}
		i = space(b, i)
		switch b[i] {
		case ',':
			i = space(b, i+1)
		case ']':
			return i + 1
		default:
			return s.fail(i, "a comma or ] is expected")
		}
	}
}

// row reads one row. Faults are noted at its end only, when it is known which of several members of one name counts.
func (s *scanner) row(i int) int {
	b := s.b
	row := s.count
	s.count++
	if b[i] != '{' {
		start := i
		if i = s.value(b, i, 0); i > 0 {
			s.rowFault(row, "", "must be an object, not "+kindOf(b[start]))
		}
		return i
	}
	var data, index span
	keysBefore, listedBefore := s.badKeyCount, len(s.badKeys)
	i = space(b, i+1)
	if b[i] == '}' {
		i++
	} else {
	members:
		for {
			if b[i] != '"' {
				return s.fail(i, "a member name in quotes is expected")
			}
			key := i
			if i = s.str(b, i+1); i < 0 {
				return -1
			}
			name := plain(b[key:i])
			if i = space(b, i); b[i] != ':' {
				return s.fail(i, "a colon is expected")
			}
			i = space(b, i+1)
			start := i
			switch string(name) {
			case "data":
				s.badKeyCount, s.badKeys = keysBefore, s.badKeys[:listedBefore]
				if b[i] == '{' {
					i = s.object(b, i, 1, s.o.Keys != KeysOff)
				} else {
					i = s.value(b, i, 0)
				}
				data = span{uint32(start), uint32(i)}
			case "index":
				i = s.value(b, i, 0)
				index = span{uint32(start), uint32(i)}
			default:
				i = s.value(b, i, 0)
			}
			if i < 0 {
				return -1
			}
			i = space(b, i)
			switch b[i] {
			case ',':
				i = space(b, i+1)
			case '}':
				i++
				break members
			default:
				return s.fail(i, "a comma or } is expected")
			}
		}
	}
	switch {
	case !data.present():
		s.rowFault(row, "data", "is missing")
	case b[data.start] != '{':
		s.rowFault(row, "data", "must be an object, not "+kindOf(b[data.start]))
	}
	number := protocol.NoIndex
	if index.present() && b[index.start] != 'n' {
		var reason string
		if number, reason = parseIndex(b[index.start:index.end]); reason != "" {
			s.rowFault(row, "index", reason)
		}
	}
	if s.o.MaxRows > 0 && row >= s.o.MaxRows {
		return i
	}
	s.spans = append(s.spans, data)
	if number != protocol.NoIndex && !s.anyIndex {
		s.anyIndex = true
		for range row {
			s.index = append(s.index, protocol.NoIndex)
		}
	}
	if s.anyIndex {
		s.index = append(s.index, number)
	}
	return i
}

// parseIndex reads a valid JSON value as an index.
func parseIndex(text []byte) (int32, string) {
	if c := text[0]; c != '-' && c-'0' >= 10 {
		return 0, "must be an integer or null, not " + kindOf(c)
	}
	if bytes.ContainsAny(text, ".eE") {
		return 0, "must be an integer, written without fraction or exponent"
	}
	if text[0] == '-' {
		if len(text) == 2 && text[1] == '0' {
			return 0, ""
		}
		return 0, "must be 0 or greater"
	}
	var n int64
	for _, c := range text {
		if n = n*10 + int64(c-'0'); n > math.MaxInt32 {
			return 0, "must be at most 2147483647"
		}
	}
	return int32(n), ""
}

// checkEnvelope notes what is wrong around the rows and returns the uuid.
func (s *scanner) checkEnvelope() (uuid string) {
	var faults []FieldError
	add := func(field, reason string) { faults = append(faults, FieldError{field, reason}) }
	switch {
	case s.o.Form == Lines:
		uuid = s.o.UUID
		if uuid == "" {
			add("uuid", "is missing: give it as a query parameter")
		}
	case s.wrong != "" && len(s.faults) > 0 && s.faults[0].Field == "":
		return "" // no object at all
	case !s.uuid.present():
		add("uuid", "is missing")
	default:
		quoted := s.b[s.uuid.start:s.uuid.end]
		if quoted[0] != '"' {
			add("uuid", "must be a string, not "+kindOf(quoted[0]))
			break
		}
		if uuid = string(plain(quoted)); uuid == "" {
			add("uuid", "must not be empty")
		}
	}
	if len(uuid) > MaxUUID {
		if n := utf8.RuneCountInString(uuid); n > MaxUUID {
			add("uuid", fmt.Sprintf("has %d characters, at most %d are allowed", n, MaxUUID))
		}
	}
	if s.o.Form == Lines && !utf8.ValidString(uuid) {
		add("uuid", "is not valid UTF-8")
	}
	own, other := "row", "rows"
	if s.o.Form == Batch {
		own, other = other, own
	}
	switch {
	case !s.seen && s.other.present():
		add(own, "is missing; "+other+" belongs to "+routeOf(other))
	case !s.seen:
		add(own, "is missing")
	case s.other.present() && s.b[s.other.start] != 'n':
		add(other, "belongs to "+routeOf(other)+", and would be lost here")
	}
	if s.o.Form != Single && s.seen && s.wrong == "" {
		if s.count == 0 {
			add("rows", "must hold at least one row")
		}
		if s.o.MaxRows > 0 && s.count > s.o.MaxRows {
			add("rows", fmt.Sprintf("holds %d rows, at most %d are allowed", s.count, s.o.MaxRows))
		}
	}
	if s.o.Keys == KeysStrict && s.badKeyCount > 0 {
		for _, k := range s.badKeys {
			s.fault(s.keyField(k), notCamel)
		}
		s.faultCount += s.badKeyCount - len(s.badKeys)
	}
	if len(faults) > 0 {
		s.faultCount += len(faults)
		s.faults = slices.Concat(faults, s.faults)
	}
	return uuid
}

func routeOf(member string) string {
	if member == "rows" {
		return "POST /data/batch"
	}
	return "POST /data"
}

func (s *scanner) fault(field, reason string) {
	s.faultCount++
	if len(s.faults) < maxListed {
		s.faults = append(s.faults, FieldError{field, reason})
	}
}

func (s *scanner) rowFault(row int, member, reason string) {
	s.fault(s.rowField(row, member), reason)
}

func (s *scanner) rowField(row int, member string) string {
	field := "row"
	if s.o.Form != Single {
		field = fmt.Sprintf("rows[%d]", row)
	}
	if member != "" {
		field += "." + member
	}
	return field
}

func (s *scanner) badKey(start, end int) {
	s.badKeyCount++
	if len(s.badKeys) < maxListed {
		s.badKeys = append(s.badKeys, keySpan{s.count - 1, span{uint32(start), uint32(end)}})
	}
}

const notCamel = "key is not camelCase"

func (s *scanner) keyField(k keySpan) string {
	return s.rowField(k.row, "data") + "." + short(s.b[k.start:k.end])
}

// keyWarnings names each bad key once, in the order in which they came.
func (s *scanner) keyWarnings() []string {
	var out []string
	var named []string
	for _, k := range s.badKeys {
		key := string(s.b[k.start:k.end])
		if slices.Contains(named, key) {
			continue
		}
		if len(named) == maxWarnings {
			break
		}
		named = append(named, key)
		out = append(out, s.keyField(k)+": "+notCamel)
	}
	return out
}

// short cuts a key for a message, between characters.
func short(key []byte) string {
	text := string(key)
	if len(text) <= maxKeyShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxKeyShown], "") + "…"
}

// kindOf names the kind of the JSON value that starts with c.
func kindOf(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
