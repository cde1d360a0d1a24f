package delivery

import (
	"encoding/binary"
	"fmt"
)

// noteKind says what is worth knowing of a settled row.
type noteKind uint8

const (
	noteRetried noteKind = iota + 1 // delivered, but not at the first attempt
	noteSkipped
	noteDead
	noteRevived // was dead, was replayed, is delivered
)

// note says it of the positions [from, to). A later note about a row overrides an earlier one.
type note struct {
	from, to uint64
	kind     noteKind
	attempts int
}

// jot adds a note, or lengthens the last one, unless the store is being given that one.
func (p *changes) jot(n note) {
	if len(p.notes) > p.given {
		if last := &p.notes[len(p.notes)-1]; last.to == n.from && last.kind == n.kind && last.attempts == n.attempts {
			last.to = n.to
			return
		}
	}
	p.notes = append(p.notes, n)
}

// packNotes encodes notes for the store: for each the distance from lo, the length, kind and attempts, as varints.
func packNotes(notes []note) (lo, hi uint64, blob []byte) {
	lo = notes[0].from
	for _, n := range notes {
		lo, hi = min(lo, n.from), max(hi, n.to)
	}
	for _, n := range notes {
		blob = binary.AppendUvarint(blob, n.from-lo)
		blob = binary.AppendUvarint(blob, n.to-n.from)
		blob = append(blob, byte(n.kind))
		blob = binary.AppendUvarint(blob, uint64(n.attempts))
	}
	return lo, hi, blob
}

// unpackNotes is the inverse of packNotes.
func unpackNotes(lo uint64, blob []byte) ([]note, error) {
	var notes []note
	next := func() uint64 {
		v, n := binary.Uvarint(blob)
		if n <= 0 {
			blob = nil
			return 0
		}
		blob = blob[n:]
		return v
	}
	for len(blob) > 0 {
		n := note{from: lo + next()}
		n.to = n.from + next()
		if len(blob) == 0 {
			return nil, fmt.Errorf("note ends early")
		}
		n.kind, blob = noteKind(blob[0]), blob[1:]
		if len(blob) == 0 {
			return nil, fmt.Errorf("note ends early")
		}
		n.attempts = int(next())
		notes = append(notes, n)
	}
	return notes, nil
}
