package journal

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
)

// found is a segment as recovery sees it.
type found struct {
	seg     *segment
	header  segmentHeader
	headed  bool   // the header is whole
	file    file   // open for writing
	claimed uint64 // positions below may have been given to rows that are damaged now
	clean   bool   // written to its end without damage: may go on as the active segment
	footed  bool   // a footer or what is left of one: it was not the newest segment
	cut     bool   // what follows the last record is zeros, or is safe in quarantine: it may be cut off
}

// recover reads the folder and leaves an active segment, unless the disk refuses one.
func (f *Files) recover() error {
	if err := f.fs.MkdirAll(f.opts.Dir); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	firsts, sidecars, err := f.list()
	if err != nil {
		return err
	}
	f.countQuarantined()

	var all []*found
	defer func() {
		for _, s := range all {
			if s.file != nil && s.file != f.writer.file {
				_ = s.file.Close()
			}
		}
	}()
	floor := uint64(0) // the next position is not below
	for i, first := range firsts {
		limit := uint64(math.MaxUint64)
		if i+1 < len(firsts) {
			limit = firsts[i+1]
		}
		s, err := f.recoverSegment(first, limit)
		if err != nil {
			return fmt.Errorf("read segment %s: %w", segmentName(first), err)
		}
		floor = max(floor, first+1)
		if s != nil {
			all = append(all, s)
			floor = max(floor, s.claimed, s.seg.end)
		}
	}
	all = f.dropEmpty(all)
	f.reportGaps(all)
	if err := f.recoverKeys(all, sidecars); err != nil {
		return err
	}
	if n := len(f.sidecars); n > 0 && len(all) == 0 {
		floor = max(floor, f.sidecars[n-1].end)
	}
	f.activate(all, floor)
	return nil
}

// list sorts out the folder.
func (f *Files) list() (firsts, sidecars []uint64, err error) {
	entries, err := f.fs.ReadDir(f.opts.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list the folder: %w", err)
	}
	for _, e := range entries {
		first, suffix, ok := parseName(e.Name())
		switch {
		case e.IsDir() && e.Name() == quarantineDir:
		case !ok || e.IsDir():
			f.log.Warn("not a file of the journal; left alone", "name", e.Name())
		case suffix == tmpSuffix:
			if err := f.fs.Remove(filepath.Join(f.opts.Dir, e.Name())); err != nil {
				f.log.Warn("cannot remove a half-made file", "name", e.Name(), "error", err)
			}
		case suffix == segmentSuffix:
			firsts = append(firsts, first)
		default:
			sidecars = append(sidecars, first)
		}
	}
	slices.Sort(firsts)
	slices.Sort(sidecars)
	return firsts, sidecars, nil
}

// recoverSegment reads one file. limit is the first position of the next segment. It returns nil for a file that is not one
// of ours or holds nothing.
func (f *Files) recoverSegment(first, limit uint64) (*found, error) {
	path := filepath.Join(f.opts.Dir, segmentName(first))
	file, err := f.fs.Edit(path)
	if err != nil {
		return nil, err
	}
	r := &found{file: file, claimed: first, cut: true}
	keep := false
	defer func() {
		if !keep {
			_ = file.Close()
		}
	}()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, segmentHeaderSize)
	n, err := readFull(file, b, 0)
	if err != nil {
		return nil, err
	}
	r.header, r.headed = parseSegmentHeader(b[:n])
	if r.headed && r.header.first != first {
		f.log.Warn("a segment under another's name; left alone", "name", segmentName(first), "first_position", r.header.first)
		return nil, nil
	}
	r.header.first = first
	r.seg = newSegment(f.opts.Dir, r.header)
	if t, err := readTrailer(file, size); err != nil {
		return nil, err
	} else if t != nil && t.first == first && t.summary.end <= limit {
		if !r.headed {
			f.log.Warn("damaged segment header; the footer tells as much", "segment", r.seg.name)
		}
		r.seg.summary, r.seg.footer, r.seg.salt = t.summary, t, t.salt
		r.claimed, r.footed, keep = t.summary.end, true, true
		return r, nil
	}

	res, err := scanSegment(file, size, r.seg, r.headed, limit)
	if err != nil {
		return nil, err
	}
	r.seg.salt, r.claimed = res.salt, max(first, res.claimed)
	for _, hole := range res.holes {
		f.note(file, r.seg, hole, "damaged rows in a segment; set aside and passed over")
	}
	if res.tail.to > res.tail.from {
		what := "bytes after the last whole record; set aside. After a crash they are rows that were never acknowledged"
		r.cut = f.note(file, r.seg, res.tail, what)
	}
	if !r.headed {
		f.log.Error("damaged segment header", "segment", r.seg.name, "rows_found", r.seg.rows)
		if r.seg.records == 0 && !f.setAside(file, r.seg, n) {
			r.cut = false
		}
	}
	r.footed = res.footer
	r.clean = r.headed && len(res.holes) == 0 && res.tail.to == res.tail.from && !res.footer
	keep = true
	return r, nil
}

// setAside keeps the first n bytes of a file that holds no record, unless they are zeros.
func (f *Files) setAside(file file, s *segment, n int) bool {
	end, err := newWindow(file, int64(n)).lastNonZero(0)
	if err != nil || end == 0 {
		return err == nil
	}
	return f.note(file, s, stretch{from: 0, to: end}, "bytes in place of a segment header; set aside")
}

// note sets a stretch aside and reports it. It returns false when there is no copy.
func (f *Files) note(file file, s *segment, st stretch, what string) bool {
	f.report(s, st, what)
	if err := f.quarantine(file, s, st.from, st.to); err != nil {
		f.log.Error("cannot keep damaged bytes in quarantine; they stay where they are", "segment", s.name, "offset", st.from, "error", err)
		return false
	}
	return true
}

func readTrailer(file file, size int64) (*trailer, error) {
	if size < segmentHeaderSize+footerSize(0, 0, 0) {
		return nil, nil
	}
	b := make([]byte, trailerSize)
	n, err := readFull(file, b, size-trailerSize)
	if err != nil {
		return nil, err
	}
	t, ok := parseTrailer(b[:n], size)
	if !ok {
		return nil, nil
	}
	return t, nil
}

// dropEmpty removes files that hold no row. The last one stays: it says where the rows before it ended.
func (f *Files) dropEmpty(all []*found) []*found {
	kept := all[:0]
	for i, s := range all {
		if s.seg.records > 0 || !s.cut || i == len(all)-1 {
			kept = append(kept, s)
			continue
		}
		f.removeEmpty(s)
	}
	return kept
}

func (f *Files) removeEmpty(s *found) {
	_ = s.file.Close()
	if err := f.fs.Remove(s.seg.path); err != nil {
		f.log.Warn("cannot remove an empty segment", "segment", s.seg.name, "error", err)
	}
}

// reportGaps tells of rows whose segment is missing.
func (f *Files) reportGaps(all []*found) {
	for i := 1; i < len(all); i++ {
		end, s := all[i-1].seg.end, all[i]
		from := s.seg.first
		if s.headed {
			from = s.header.prevEnd
		}
		if from > end {
			f.log.Error("rows are missing: a segment is gone or damaged", "first_lost_position", end, "lost_rows", from-end, "before_segment", s.seg.name)
		}
	}
}

// activate fills f.segs and chooses or makes the active segment.
func (f *Files) activate(all []*found, floor uint64) {
	w := &f.writer
	w.next = floor
	for _, s := range all {
		s.seg.sealed = true
		f.segs = append(f.segs, s.seg)
		w.lastAt = max(w.lastAt, s.seg.lastAt)
		if s.headed && (f.base == 0 || s.header.base < f.base) {
			f.base = s.header.base
		}
		if s.headed && s.header.prevEnd <= s.header.first {
			f.end = max(f.end, s.header.prevEnd)
		}
		if s.seg.records > 0 {
			f.end = max(f.end, s.seg.end)
		}
	}
	fresh := uint64(f.opts.Now().Unix()) << 20
	var last *found
	if len(all) > 0 {
		last = all[len(all)-1]
	}
	known := w.next
	if last != nil && last.clean {
		known = last.seg.end
	}
	behind := known < f.opts.NotBelow
	if behind {
		f.log.Error("the journal ends before a position that was delivered: rows are missing", "end", known, "delivered", f.opts.NotBelow)
	}
	w.next = max(w.next, f.opts.NotBelow)
	switch {
	case last == nil:
		// A new journal, or one whose files are gone: above all that the old one can have given out.
		w.next = max(w.next, fresh)
		f.end = w.next
	case last.clean && !behind && last.file.Sync() == nil:
		// What is read now may have been in memory only; it is durable from here on.
		last.seg.sealed = false
		w.file, w.seg, w.off = last.file, last.seg, last.seg.dataEnd
		w.next = last.seg.end
		w.room = w.off // made at the first write
	case last.footed || !last.headed && last.seg.records == 0:
		// The active segment is gone, and with it the knowledge of how far it went: no further than it had bytes.
		w.next = max(w.next+maxSegmentBytes, fresh)
		f.log.Error("the newest segment is missing or damaged; positions go on far above", "last_segment", last.seg.name, "next_position", w.next)
	}
	if f.base == 0 {
		f.base = w.next
	}
	if f.end == 0 {
		f.end = w.next
	}
	f.end = max(f.end, f.opts.NotBelow)
	if w.file == nil {
		if err := f.roll(); err != nil {
			_ = f.refuse(err)
			return // unsealed segments are read whole again at the next start
		}
	}
	for _, s := range all {
		switch {
		case s.seg.footer != nil || !s.seg.sealed || !s.cut:
		case s.seg.records == 0:
			f.segs = slices.DeleteFunc(f.segs, func(c *segment) bool { return c == s.seg })
			f.removeEmpty(s)
		default:
			f.seal(s.seg, s.file)
		}
	}
}

// recoverKeys reads the idempotency keys that are young enough, the newest first as far as there is room for them.
func (f *Files) recoverKeys(all []*found, sidecars []uint64) error {
	oldest := f.keys.oldest(f.opts.Now())
	var lists [][]keyEntry
	room := f.opts.MaxKeys
	for _, s := range slices.Backward(all) {
		if s.seg.lastKeyAt <= oldest || room <= 0 {
			continue
		}
		d, err := f.details(s.seg, s.file)
		if err != nil {
			return fmt.Errorf("read keys of %s: %w", s.seg.name, err)
		}
		lists = append(lists, d.keys)
		room -= len(d.keys)
	}
	for _, first := range slices.Backward(sidecars) {
		sc, keys, err := f.readSidecar(first)
		if errors.Is(err, errFooter) {
			f.log.Error("damaged file of idempotency keys; left alone", "name", keysName(first))
			continue
		}
		if err != nil {
			return err
		}
		f.sidecars = append(f.sidecars, sc)
		if sc.lastAt > oldest && room > 0 {
			lists = append(lists, keys)
			room -= len(keys)
		}
	}
	slices.Reverse(f.sidecars)
	next := uint64(0) // a key may be in two files when a release was cut short
	for _, keys := range slices.Backward(lists) {
		for i := range keys {
			if keys[i].at > oldest && keys[i].position >= next {
				f.keys.add(&keys[i])
				next = keys[i].position + 1
			}
		}
	}
	return nil
}
