package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// window reads a file through one buffer.
type window struct {
	f    file
	size int64 // nothing is read beyond
	buf  []byte
	off  int64 // of buf[0]
}

const (
	windowBytes = 1 << 20
	searchBytes = 32 << 10
)

func newWindow(f file, size int64) *window {
	return &window{f: f, size: size, buf: make([]byte, 0, min(windowBytes, max(size, 0)))}
}

// peek returns n bytes at off, fewer only at the end of the file. They are valid until the next call. n ≤ windowBytes.
func (w *window) peek(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-off))
	if n <= 0 {
		return nil, nil
	}
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		b := w.buf[:min(int64(cap(w.buf)), w.size-off)]
		got, err := readFull(w.f, b, off)
		w.buf, w.off = b[:got], off
		if err != nil {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	b := w.buf[off-w.off:]
	return b[:min(n, len(b))], nil
}

// readFull reads len(b) bytes, fewer only at the end of the file.
func readFull(f file, b []byte, off int64) (int, error) {
	n, err := f.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// bounds limits which records belong to a stretch of a segment: salt when it is known, and positions from min to before limit.
type bounds struct {
	salt       uint32
	anySalt    bool
	min, limit uint64
}

func (b *bounds) admit(h *recordHeader) bool {
	return (b.anySalt || h.salt == b.salt) && h.position >= b.min && h.end() <= b.limit
}

// record checks the whole record at off: header, position, checksum. The key is nil when it has none.
func (w *window) record(off int64, b *bounds) (h recordHeader, key *keyEntry, ok bool, err error) {
	hb, err := w.peek(off, recordHeaderSize)
	if err != nil {
		return h, nil, false, err
	}
	if h, ok = parseHeader(hb); !ok || !b.admit(&h) || off+h.size() > w.size {
		return h, nil, false, nil
	}
	crc := uint32(0)
	for at, end := off+recordHeaderSize, off+h.size(); at < end; {
		chunk, err := w.peek(at, int(min(windowBytes, end-at)))
		if err != nil {
			return h, nil, false, err
		}
		if len(chunk) == 0 {
			return h, nil, false, nil // the file became shorter
		}
		if at == off+recordHeaderSize && chunk[0]&flagKey != 0 && len(chunk) > keyBytes {
			key = &keyEntry{position: h.position, at: h.receivedAt, rows: h.rows}
			copy(key.key[:], chunk[1:])
			copy(key.digest[:], chunk[17:])
		}
		crc = crc32.Update(crc, castagnoli, chunk)
		at += int64(len(chunk))
	}
	return h, key, crc == h.payloadCRC, nil
}

var magicBytes = binary.LittleEndian.AppendUint32(nil, recordMagic)

// resync finds the first whole record from off on.
func (w *window) resync(off int64, b *bounds) (int64, bool, error) {
	for off+recordHeaderSize <= w.size {
		chunk, err := w.peek(off, searchBytes)
		if err != nil {
			return 0, false, err
		}
		i := bytes.Index(chunk, magicBytes)
		if i < 0 {
			off += int64(max(1, len(chunk)-len(magicBytes)+1))
			continue
		}
		off += int64(i)
		_, _, ok, err := w.record(off, b)
		if ok || err != nil {
			return off, ok, err
		}
		off++
	}
	return 0, false, nil
}

// lastNonZero returns the offset after the last byte from off on that is not zero; off when there is none.
func (w *window) lastNonZero(off int64) (int64, error) {
	last := off
	for off < w.size {
		chunk, err := w.peek(off, windowBytes)
		if err != nil {
			return 0, err
		}
		if len(chunk) == 0 {
			break
		}
		if rest := bytes.TrimRight(chunk, "\x00"); len(rest) > 0 {
			last = off + int64(len(rest))
		}
		off += int64(len(chunk))
	}
	return last, nil
}

// stretch is a part of a segment that holds no valid record.
type stretch struct {
	from, to int64
	lost     uint64 // positions that it covers: [at, at+lost); 0 when unknown
	at       uint64
}

// scanned is what reading a segment from its start gave.
type scanned struct {
	holes   []stretch // damage with valid records after it
	tail    stretch   // what follows the last valid record and is neither zeros nor a footer; from == to: nothing
	footer  bool      // a footer follows the last record, whose trailer is damaged
	claimed uint64    // no row of the tail had a position from here on
	salt    uint32
}

// scanSegment reads every record of a segment and fills s. limit is the first position of the next segment.
func scanSegment(f file, size int64, s *segment, saltKnown bool, limit uint64) (*scanned, error) {
	w := newWindow(f, size)
	b := &bounds{salt: s.salt, anySalt: !saltKnown, min: s.first, limit: limit}
	r := &scanned{}
	off := int64(segmentHeaderSize)
	for {
		h, key, ok, err := w.record(off, b)
		if err != nil {
			return nil, err
		}
		if ok {
			if b.anySalt {
				b.salt, b.anySalt = h.salt, false
			}
			if n := len(r.holes); n > 0 && r.holes[n-1].to == off {
				r.holes[n-1].lost = h.position - r.holes[n-1].at
			}
			s.add(&h, off, key)
			b.min = h.end()
			off += h.size()
			continue
		}
		end, err := w.lastNonZero(off)
		if err != nil {
			return nil, err
		}
		next, found := int64(0), false
		if end > off {
			if next, found, err = w.resync(off+1, b); err != nil {
				return nil, err
			}
		}
		if found {
			r.holes = append(r.holes, stretch{from: off, to: next, at: b.min})
			off = next
			continue
		}
		r.salt = b.salt
		r.tail = stretch{from: off, to: end, at: b.min}
		r.claimed = b.min
		head, err := w.peek(off, len(footerMagic))
		if err != nil {
			return nil, err
		}
		if string(head) == footerMagic {
			r.tail.to, r.footer = off, true // it is made again
			return r, nil
		}
		if end > off {
			r.claimed, err = w.claimed(off, end, b)
		}
		return r, err
	}
}

// claimed bounds the positions that the damaged records in [off, end) may have had: those of headers that still read, and
// one row for each other byte. A position that was durable once must never be given to another row.
func (w *window) claimed(off, end int64, b *bounds) (uint64, error) {
	next := b.min
	for off < end {
		hb, err := w.peek(off, recordHeaderSize)
		if err != nil {
			return 0, err
		}
		h, ok := parseHeader(hb)
		if !ok || h.position < next || h.position > next+uint64(end-off) {
			return next + uint64(end-off), nil
		}
		next = h.end()
		off += h.size()
	}
	return next, nil
}
