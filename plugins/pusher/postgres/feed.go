package main

import (
	"errors"
	"io"
	"sync"

	"github.com/rivergate/rivergate/sdk"
)

// encoded is a row and its place in the batch's COPY text (or binary).
type encoded struct {
	row        sdk.Row
	start, end int
}

// feed is a batch as COPY takes it, written while the server reads it, so that the two work at the same time. Rows that cannot be
// written are rejected.
type feed struct {
	format format
	b      *sdk.Batch

	// pgx reads in a goroutine of its own, which may outlive the COPY when the connection broke.
	mu      sync.Mutex
	rows    []sdk.Row // not written yet
	lines   []encoded
	text    []byte
	read    int // bytes of text that were read
	over    bool
	frame   *sdk.Frame
	instant []byte // of frame
}

var errFeedOver = errors.New("the batch is over")

func newFeed(as format, b *sdk.Batch, text []byte) *feed {
	f := &feed{format: as, b: b, text: text, rows: make([]sdk.Row, 0, b.Len()), lines: make([]encoded, 0, b.Len())}
	for row := range b.Rows() {
		f.rows = append(f.rows, row)
	}
	return f
}

// Read implements io.Reader.
func (f *feed) Read(into []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return 0, errFeedOver
	}
	for len(f.rows) > 0 && len(f.text)-f.read < len(into) {
		f.next()
	}
	if f.read == len(f.text) {
		return 0, io.EOF
	}
	n := copy(into, f.text[f.read:])
	f.read += n
	return n, nil
}

// finish writes what was not read, and returns every line. Nothing is read after it.
func (f *feed) finish() []encoded {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	for len(f.rows) > 0 {
		f.next()
	}
	return f.lines
}

// next writes one row.
func (f *feed) next() {
	row := f.rows[0]
	f.rows = f.rows[1:]
	if of, _ := row.Frame(); of != f.frame {
		f.frame, f.instant = of, f.format.appendInstant(f.instant[:0], row)
	}
	start := len(f.text)
	text, err := f.format.appendRow(f.text, row, f.instant)
	if err != nil {
		f.b.Reject(row, "22021", err)
		return
	}
	f.text = text
	f.lines = append(f.lines, encoded{row: row, start: start, end: len(text)})
}
