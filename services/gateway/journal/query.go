package journal

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math"
	"time"
)

const loadedIndexes = 16 // of sealed segments, kept in memory; 16 KB each

// Lookup implements Journal.
func (f *Files) Lookup(ctx context.Context, position uint64) (*Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	closed, oldest, end, base := f.closed, f.oldest(), f.end, f.base
	f.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case position >= end || position < base:
		return nil, ErrNotFound
	case position < oldest:
		return nil, ErrGone
	}
	r := f.newReader(position)
	r.chunk = pointBytes
	defer r.Close()
	ok, err := r.next()
	if err != nil {
		return nil, err
	}
	if !ok || r.rec.Position > position {
		f.mu.Lock()
		defer f.mu.Unlock()
		if position < f.oldest() {
			return nil, ErrGone // let go meanwhile
		}
		return nil, ErrNotFound // in a gap
	}
	rec := r.rec
	return &rec, nil
}

// Span implements Journal. It reads at most one index step of the disk; when that fails, the time is that of the segment.
func (f *Files) Span(position uint64) (bytes int64, oldest time.Time) {
	f.mu.Lock()
	if position >= f.end {
		f.mu.Unlock()
		return 0, time.Time{}
	}
	if position <= f.oldest() {
		bytes, oldest = f.after(nil, 0)
		f.mu.Unlock()
		return bytes, oldest
	}
	f.mu.Unlock()

	r := f.newReader(position)
	r.chunk = pointBytes
	defer r.Close()
	h, ok, err := r.find()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || !ok {
		s := f.segmentOf(position)
		if s == nil {
			return 0, time.Time{}
		}
		bytes, _ = f.after(s, segmentHeaderSize)
		return bytes, utc(s.firstAt)
	}
	if r.seg.gone {
		bytes, _ = f.after(nil, 0)
		return bytes, utc(h.receivedAt)
	}
	bytes, _ = f.after(r.seg, r.off)
	return bytes, utc(h.receivedAt)
}

// after adds up the records from offset off of segment s to the end; s nil: all. The caller holds mu.
func (f *Files) after(s *segment, off int64) (bytes int64, oldest time.Time) {
	for _, c := range f.segs {
		switch {
		case c == s:
			bytes += c.dataEnd - off
			s = nil
		case s == nil && c.rows > 0:
			bytes += c.dataEnd - segmentHeaderSize
			if oldest.IsZero() {
				oldest = utc(c.firstAt)
			}
		}
	}
	return bytes, oldest
}

// OrgRows implements Journal.
func (f *Files) OrgRows(ctx context.Context, from, to uint64) (map[uint64]uint64, error) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, ErrClosed
	}
	type part struct {
		*segment
		whole bool // what is kept of it in a sum is what is asked for; the active segment grows meanwhile
	}
	var parts []part
	end := min(f.end, to)
	for _, s := range f.segs {
		if s.rows > 0 && s.end > from && s.start < to {
			parts = append(parts, part{s, s.start >= from && (to == math.MaxUint64 || s.sealed && s.end <= to)})
		}
	}
	f.mu.Unlock()
	sum := make(map[uint64]uint64)
	for _, p := range parts {
		s := p.segment
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		if p.whole {
			err = f.addOrgs(s, sum)
		} else {
			err = f.countOrgs(ctx, s, max(from, s.first), end, sum)
		}
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && f.isGone(s) {
				continue // let go meanwhile
			}
			return nil, err
		}
	}
	return sum, nil
}

// addOrgs adds the rows of a whole segment.
func (f *Files) addOrgs(s *segment, sum map[uint64]uint64) error {
	d, err := f.details(s, nil)
	if err != nil {
		return err
	}
	for org, rows := range d.orgs {
		sum[org] += rows
	}
	return nil
}

// countOrgs adds the rows of one segment in [position, end), reading the headers of its records.
func (f *Files) countOrgs(ctx context.Context, s *segment, position, end uint64, sum map[uint64]uint64) error {
	r := f.newReader(position)
	defer r.Close()
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		h, ok, err := r.find()
		if err != nil {
			return err
		}
		if !ok || r.seg != s || h.position >= end {
			return nil
		}
		sum[h.org] += min(h.end(), end) - max(position, h.position)
		r.off += h.size()
		r.min, r.pos = h.end(), h.end()
	}
}

// index returns the sparse index of a segment. Those of the sealed segments used last stay in memory.
func (f *Files) index(s *segment, file file) ([]indexEntry, error) {
	f.mu.Lock()
	if s.footer == nil || s.index != nil {
		defer f.mu.Unlock()
		return s.index, nil
	}
	t := s.footer
	f.mu.Unlock()
	index, err := t.readIndex(file)
	if errors.Is(err, errFooter) {
		var d details
		d, err = f.rebuild(s, file)
		index = d.index
	}
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.index == nil && len(index) > 0 {
		s.index = index
		if f.loaded = append(f.loaded, s); len(f.loaded) > loadedIndexes {
			f.loaded[0].index = nil
			f.loaded = f.loaded[1:]
		}
	}
	return index, nil
}

// details returns what a footer holds, from memory or from the file; file nil: it is opened.
func (f *Files) details(s *segment, file file) (d details, err error) {
	f.mu.Lock()
	t := s.footer
	if t == nil {
		d = details{index: s.index, orgs: maps.Clone(s.orgs), keys: s.keys}
	}
	f.mu.Unlock()
	if t == nil {
		return d, nil
	}
	if file == nil {
		if file, err = f.fs.Open(s.path); err != nil {
			return d, err
		}
		defer func() { _ = file.Close() }()
	}
	if d.orgs, err = t.readOrgs(file); err == nil {
		d.keys, err = t.readKeys(file)
	}
	if errors.Is(err, errFooter) {
		return f.rebuild(s, file)
	}
	return d, err
}

// rebuild reads a whole sealed segment because a part of its footer is damaged.
func (f *Files) rebuild(s *segment, file file) (details, error) {
	f.log.Warn("damaged footer; reading the whole segment instead", "segment", s.name)
	f.mu.Lock()
	end, size := s.end, s.dataEnd
	f.mu.Unlock()
	again := &segment{name: s.name, path: s.path, first: s.first, salt: s.salt}
	if _, err := scanSegment(file, size, again, true, end); err != nil {
		return details{}, err
	}
	return again.details, nil
}
