// Package intake reads the bodies of the data routes: one pass that validates the JSON and finds uuid, index and data of
// every row as offsets. Nothing is decoded and nothing is encoded again; what a row's data was, byte for byte, is what the
// journal stores and the plugin receives.
//
//	{"uuid": "…", "row": {"index": 0, "data": {…}}}            Single
//	{"uuid": "…", "rows": [{"index": 0, "data": {…}}, …]}      Batch
//	{"index": 0, "data": {…}}\n…                               Lines, uuid given beside it
//
// What encoding/json calls valid is valid here, less invalid UTF-8 and deep nesting. Of a repeated member the last one counts,
// unknown members are passed over (and must be valid), members come in any order.
package intake

// Form is the shape of a body.
type Form uint8

// The forms.
const (
	Single Form = iota // one object with uuid and row
	Batch              // one object with uuid and rows
	Lines              // one row object a line
)

// Keys says what to do with keys of data that are not camelCase. Only the members of data itself are looked at, not those of
// objects inside it.
type Keys uint8

// The ways to treat such keys.
const (
	KeysWarn   Keys = iota // accept, count, list the first few
	KeysStrict             // refuse the request
	KeysOff                // do not look
)

// MaxDepth bounds nesting: data is level 1, an array in it level 2.
const MaxDepth = 128

// MaxUUID is the longest uuid, in characters.
const MaxUUID = 128

// Pad is how many spare bytes Parse wants behind the body, so that it need not copy it.
const Pad = 8

// Options says how to read a body.
type Options struct {
	Form    Form
	UUID    string // for Lines, where the body has none
	MaxRows int    // 0: no limit
	Keys    Keys
}

// Rows is an accepted body. It is valid until the parser's next Parse, and shares the memory of the body.
type Rows struct {
	UUID  string
	Data  []byte   // the rows' data, one after another
	Ends  []uint32 // row i is Data[Ends[i-1]:Ends[i]]
	Index []int32  // protocol.NoIndex where absent or null; nil: no row has one

	Warnings []string // the first few keys that are not camelCase, one sentence each; nil when none
	BadKeys  int      // how many there are, with those not listed
}

// Parser reads bodies. It keeps its buffers from one body to the next; one goroutine at a time.
type Parser struct {
	s    scanner
	rows Rows
}

// Parse reads one body and takes it over: on success the rows' data have been moved together at its start. With at least
// Pad spare bytes of capacity the body is not copied. Errors: *SyntaxError (not JSON), *ShapeError (JSON of the wrong shape).
func (p *Parser) Parse(body []byte, o Options) (*Rows, error) {
	n := len(body)
	padded := append(body, make([]byte, Pad)...)
	s := &p.s
	s.reset(padded, n, o)
	var ok bool
	if o.Form == Lines {
		ok = s.lines()
	} else {
		ok = s.document()
	}
	if !ok {
		return nil, s.syntaxError()
	}
	uuid := s.checkEnvelope()
	if err := s.shapeError(); err != nil {
		return nil, err
	}
	p.rows = Rows{UUID: uuid, Ends: p.rows.Ends[:0], Index: nil}
	if o.Keys == KeysWarn && s.badKeyCount > 0 {
		p.rows.Warnings, p.rows.BadKeys = s.keyWarnings(), s.badKeyCount
	}
	if s.anyIndex {
		p.rows.Index = s.index
	}
	out := 0
	for _, r := range s.spans {
		out += copy(padded[out:], padded[r.start:r.end])
		p.rows.Ends = append(p.rows.Ends, uint32(out))
	}
	p.rows.Data = padded[:out:out]
	s.b = nil
	return &p.rows, nil
}

// Drop lets go of the last body, whose memory Rows.Data and the parser share. What else Rows holds stays good.
func (p *Parser) Drop() { p.rows.Data, p.s.b = nil, nil }

// Size is how much memory the parser holds on to, bytes, without the last body.
func (p *Parser) Size() int {
	return cap(p.s.spans)*8 + cap(p.s.index)*4 + cap(p.rows.Ends)*4
}
