package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const (
	readBytes  = 256 << 10 // one read of the disk, and the memory of one reader
	pointBytes = indexStep // the same for who wants one record
)

// reader walks through the records of the journal. Its file stays open when the segment is let go.
type reader struct {
	f      *Files
	pos    uint64   // rows before it are passed over
	seg    *segment // nil: to be found
	file   file
	min    uint64 // records of this segment start here or after
	off    int64  // of the next record
	limit  int64  // end of the durable records, as last seen
	sealed bool   // no more will come in this segment
	pooled *[]byte
	buf    []byte // bytes of the file from at on
	at     int64
	rec    Record // the last one; its uuid is used again
	chunk  int64  // bytes of one read
	again  int    // how often damage at off proved to be none
	closed bool
}

// Read implements Journal.
func (f *Files) Read(position uint64) Reader { return f.newReader(position) }

func (f *Files) newReader(position uint64) *reader {
	return &reader{f: f, pos: position, chunk: readBytes}
}

// Next implements Reader. An *UnavailableError says that the disk could not be read: nothing is passed over, try again.
func (r *reader) Next(ctx context.Context) (protocol.Frame, error) {
	for {
		if err := ctx.Err(); err != nil {
			return protocol.Frame{}, err
		}
		fr, ok, err := r.TryNext()
		if ok || err != nil {
			return fr, err
		}
		news := r.wait()
		if news == nil {
			continue
		}
		select {
		case <-news:
		case <-ctx.Done():
			return protocol.Frame{}, ctx.Err()
		}
	}
}

// wait returns a channel that is closed when there is something new; nil when there is already.
func (r *reader) wait() <-chan struct{} {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil
	case r.seg == nil:
		if f.end > r.pos && f.segmentOf(r.pos) != nil {
			return nil
		}
	case r.seg.sealed || r.seg.dataEnd > r.limit:
		return nil
	}
	if f.news == nil {
		f.news = make(chan struct{})
	}
	return f.news
}

// TryNext implements Reader.
func (r *reader) TryNext() (protocol.Frame, bool, error) {
	ok, err := r.next()
	if !ok || err != nil {
		return protocol.Frame{}, false, err
	}
	fr := r.rec.Frame
	r.rec.Frame = protocol.Frame{UUID: fr.UUID}
	if fr.Position < r.pos { // the record started before the position that was asked for
		fr = fr.Slice(int(r.pos-fr.Position), fr.Len())
	}
	r.pos = fr.Position + uint64(fr.Len())
	return fr, true, nil
}

// next reads the record that holds pos, or the first one after it, into r.rec, and moves behind it.
func (r *reader) next() (bool, error) {
	for {
		h, ok, err := r.find()
		if !ok || err != nil {
			return false, err
		}
		b, err := r.bytes(r.off, h.size())
		if err != nil {
			return false, err
		}
		var p payload
		good := int64(len(b)) == h.size() && crc32.Checksum(b[recordHeaderSize:], castagnoli) == h.payloadCRC
		if good {
			p, err = decodePayload(&h, b[recordHeaderSize:])
			good = err == nil
		}
		if !good {
			if err := r.skipDamage(); err != nil {
				return false, err
			}
			continue
		}
		p.fill(&h, &r.rec)
		r.off += h.size()
		r.min = h.end()
		r.shrink()
		return true, nil
	}
}

// find moves to the record that holds pos, or the first one after it, and returns its header; the payload is not checked.
func (r *reader) find() (h recordHeader, ok bool, err error) {
	for {
		if r.closed {
			return h, false, ErrClosed
		}
		if r.seg == nil {
			if ok, err := r.open(); !ok || err != nil {
				return h, false, err
			}
		}
		if r.off >= r.limit {
			more, err := r.refresh()
			if err != nil {
				return h, false, err
			}
			if more {
				continue
			}
			if !r.sealed {
				return h, false, nil
			}
			r.leave()
			continue
		}
		b, err := r.bytes(r.off, recordHeaderSize)
		if err != nil {
			return h, false, err
		}
		h, ok = parseHeader(b)
		if !ok || h.salt != r.seg.salt || h.position < r.min || r.off+h.size() > r.limit {
			if err := r.skipDamage(); err != nil {
				return h, false, err
			}
			continue
		}
		if h.end() > r.pos {
			return h, true, nil
		}
		r.off += h.size()
		r.min = h.end()
	}
}

// open finds the segment of pos. It returns false when there is nothing at pos or after it yet.
func (r *reader) open() (bool, error) {
	for {
		r.f.mu.Lock()
		if r.f.closed {
			r.f.mu.Unlock()
			return false, ErrClosed
		}
		s := r.f.segmentOf(r.pos)
		if s == nil {
			r.f.mu.Unlock()
			return false, nil
		}
		r.limit, r.sealed = s.dataEnd, s.sealed
		r.f.mu.Unlock()

		file, err := r.f.fs.Open(s.path)
		if errors.Is(err, fs.ErrNotExist) && r.f.isGone(s) {
			continue // let go in this very moment
		}
		if err != nil {
			return false, r.f.unreadable(s, err)
		}
		off := int64(segmentHeaderSize)
		if r.pos > s.first {
			index, err := r.f.index(s, file)
			if err != nil {
				_ = file.Close()
				return false, r.f.unreadable(s, err)
			}
			off = seek(index, r.pos)
		}
		r.seg, r.file, r.off, r.min = s, file, off, s.first
		r.buf, r.at = nil, 0
		return true, nil
	}
}

// segmentOf returns the segment of the first row at position or after it; nil when there is none. The caller holds mu.
func (f *Files) segmentOf(position uint64) *segment {
	for _, s := range f.segs {
		if s.rows > 0 && s.end > position {
			return s
		}
	}
	return nil
}

func (f *Files) isGone(s *segment) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return s.gone
}

func (f *Files) unreadable(s *segment, err error) error {
	return &UnavailableError{RetryAfter: retryAfter, Err: fmt.Errorf("read segment %s: %w", s.name, err)}
}

// refresh looks how far the segment is durable now.
func (r *reader) refresh() (more bool, err error) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if r.f.closed {
		return false, ErrClosed
	}
	more = r.seg.dataEnd > r.limit
	r.limit, r.sealed = r.seg.dataEnd, r.seg.sealed
	return more, nil
}

// leave closes the segment; the next one is found by position.
func (r *reader) leave() {
	r.f.mu.Lock()
	r.pos = max(r.pos, r.seg.end)
	r.f.mu.Unlock()
	_ = r.file.Close()
	r.seg, r.file, r.buf = nil, nil, nil
}

// bytes returns n bytes at off, from the buffer when they are in it; fewer only when the segment is damaged. They are valid
// until the next call.
func (r *reader) bytes(off, n int64) ([]byte, error) {
	n = min(n, r.limit-off)
	if off >= r.at && off+n <= r.at+int64(len(r.buf)) {
		b := r.buf[off-r.at:]
		return b[:n], nil
	}
	if r.pooled == nil {
		r.pooled = r.f.buffers.Get().(*[]byte)
	}
	room := *r.pooled
	if n > int64(len(room)) {
		room = make([]byte, n)
	}
	room = room[:min(max(n, r.chunk), r.limit-off, int64(len(room)))]
	got, err := readFull(r.file, room, off)
	if err != nil {
		r.buf = nil
		return nil, r.f.unreadable(r.seg, err)
	}
	r.buf, r.at = room[:got], off
	return r.buf[:min(n, int64(got))], nil
}

// shrink lets a large record's memory go.
func (r *reader) shrink() {
	if cap(r.buf) > 2*readBytes {
		r.buf = nil
	}
}

// skipDamage moves behind the damaged stretch that starts at off.
func (r *reader) skipDamage() error {
	next, err := r.f.damaged(r.seg, r.file, r.off, r.limit, r.min)
	if err != nil {
		return r.f.unreadable(r.seg, err)
	}
	r.buf = nil
	if next > r.off {
		r.off, r.again = next, 0
		return nil
	}
	if r.again++; r.again > 3 {
		r.again = 0
		return r.f.unreadable(r.seg, errUnsteady)
	}
	return nil
}

// damaged finds the next valid record after off, and sets what is between aside when that was not done before. The disk is
// read anew: should the record prove good now, its own offset is returned and nothing is lost.
func (f *Files) damaged(s *segment, file file, off, limit int64, low uint64) (int64, error) {
	f.damageMu.Lock()
	defer f.damageMu.Unlock()
	f.mu.Lock()
	next, known := s.holes[off]
	end := s.end
	f.mu.Unlock()
	if known {
		return next, nil
	}
	w := newWindow(file, limit)
	b := &bounds{salt: s.salt, min: low, limit: end}
	st := stretch{from: off, to: limit, at: low, lost: end - min(low, end)}
	for from := off; ; {
		next, found, err := w.resync(from, b)
		if err != nil {
			return 0, err
		}
		if !found {
			break
		}
		h, ok, err := w.decodable(next)
		if err != nil {
			return 0, err
		}
		if !ok {
			from = next + 1
			continue
		}
		if next == off {
			return off, nil
		}
		st.to, st.lost = next, h.position-low
		break
	}
	f.note(file, s, st, "damaged rows in a segment; set aside and passed over")
	f.mu.Lock()
	if s.holes == nil {
		s.holes = make(map[int64]int64)
	}
	s.holes[off] = st.to
	f.mu.Unlock()
	return st.to, nil
}

// decodable tells whether the payload of a record with good checksums has a meaning.
func (w *window) decodable(off int64) (recordHeader, bool, error) {
	b, err := w.peek(off, recordHeaderSize)
	if err != nil {
		return recordHeader{}, false, err
	}
	h, ok := parseHeader(b)
	if !ok {
		return h, false, nil
	}
	p := make([]byte, h.length)
	n, err := readFull(w.f, p, off+recordHeaderSize)
	if err != nil {
		return h, false, err
	}
	_, err = decodePayload(&h, p[:n])
	return h, err == nil, nil
}

// Close implements Reader.
func (r *reader) Close() {
	if r.closed {
		return
	}
	r.closed = true
	if r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
	if r.pooled != nil {
		r.f.buffers.Put(r.pooled)
		r.pooled, r.buf = nil, nil
	}
}
