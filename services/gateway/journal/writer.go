package journal

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"time"
)

// writer is the state of the one goroutine that writes.
type writer struct {
	file    file     // of the active segment; nil: there is none yet
	seg     *segment // the active segment
	off     int64    // end of the durable records in it
	room    int64    // the file may be written up to here without asking for room
	next    uint64   // position of the next row
	lastAt  int64    // receive times never fall
	spoiled bool     // a sync of this file failed: nothing more is written to it
	cut     bool     // bytes beyond off may be there and must be cut before the next write
	buf     []byte   // small records are gathered here
	group   []*request
	headers []recordHeader
	retryAt time.Time // while the disk refuses
	refused error
}

const (
	groupBytes  = 16 << 20
	gatherBytes = 1 << 20
	directBytes = 128 << 10 // rows of this size go to the file from the caller's memory

	retryAfter = time.Second // what clients are told
	probeEvery = time.Second // how often a refusing disk is tried when nobody appends
)

func (w *writer) close() {
	if w.file != nil {
		_ = w.file.Close() // everything in it that counts is durable
		w.file = nil
	}
}

// run is the writer goroutine. It sleeps while nothing waits; only while the disk refuses does it wake by itself.
func (f *Files) run() {
	defer close(f.writerDone)
	var line, spare []*request
	for {
		var closed bool
		line, closed = f.queue.take(spare)
		spare = line
		if len(line) == 0 {
			if closed {
				return
			}
			f.sleep()
			continue
		}
		for len(line) > 0 {
			line = line[f.commit(line):]
		}
	}
}

func (f *Files) sleep() {
	if f.writer.refused == nil {
		<-f.queue.wake
		return
	}
	probe := time.NewTimer(probeEvery)
	defer probe.Stop()
	select {
	case <-f.queue.wake:
	case <-probe.C:
		if f.repair() == nil && f.probe() == nil {
			f.accept()
		}
	}
}

// probe asks the disk for the room that the next rows need.
func (f *Files) probe() error {
	f.writer.room = f.writer.off
	return f.ensureRoom(gatherBytes)
}

// ensureRoom preallocates what the next bytes need. A full disk shows here, before anything is written.
func (f *Files) ensureRoom(bytes int64) (err error) {
	w := &f.writer
	if w.off+bytes > w.room {
		w.room, err = f.preallocate(w.file, max(w.room, w.off), w.off+bytes)
	}
	return err
}

// reserve is what the journal leaves of a full disk: the store must be able to note that rows were delivered, or nothing
// could ever be let go.
const reserve = 4 << 20

// preallocate makes room in a file beyond have, for need bytes at least, and returns up to where. On a file system that
// cannot, the file grows as it is written, and there is no reserve.
func (f *Files) preallocate(file file, have, need int64) (int64, error) {
	want := max(f.opts.SegmentBytes, need)
	spare := min(reserve, f.opts.SegmentBytes/4)
	var err error
	for _, size := range []int64{want, min(want, need+gatherBytes)} {
		if err = file.Allocate(size + spare); err == nil {
			return size, file.Truncate(size)
		}
		if !isNoSpace(err) {
			return math.MaxInt64, nil
		}
		if terr := file.Truncate(have); terr != nil { // it may have got a part
			return have, terr
		}
	}
	return have, err
}

// commit writes as many requests as belong in one group and returns how many of the line it answered.
func (f *Files) commit(line []*request) int {
	w := &f.writer
	if w.refused != nil && time.Now().Before(w.retryAt) {
		return f.answerAll(line, f.unavailable(w.refused))
	}
	if err := f.repair(); err != nil {
		return f.answerAll(line, f.refuse(err))
	}
	used := f.reserved()
	w.group, w.headers = w.group[:0], w.headers[:0]
	w.lastAt = max(w.lastAt, f.opts.Now().UnixNano())
	n, bytes, next := 0, int64(0), w.next
	for _, r := range line {
		size := r.size()
		if len(w.group) > 0 && bytes+size > groupBytes {
			break
		}
		if r.state.Load() == givenUp {
			n++
			putRequest(r)
			continue
		}
		if w.off+bytes+size > f.opts.SegmentBytes && w.off+bytes > segmentHeaderSize {
			if len(w.group) > 0 {
				break // these first; the rest goes to a new segment
			}
			if used+f.footprint(r) <= f.opts.MaxBytes {
				if err := f.roll(); err != nil {
					return n + f.answerAll(line[n:], f.refuse(err))
				}
				used, next = f.reserved(), w.next
			}
		}
		if used+bytes+f.footprint(r) > f.opts.MaxBytes && len(w.group) == 0 && f.giveUpActive() {
			used, next = f.reserved(), w.next
		}
		n++
		if !r.state.CompareAndSwap(waiting, taken) {
			putRequest(r)
			continue
		}
		if used+bytes+f.footprint(r) > f.opts.MaxBytes {
			f.metrics.refused("full")
			r.answer(0, 0, &FullError{Bytes: f.Stats().Bytes, MaxBytes: f.opts.MaxBytes})
			continue
		}
		h := recordHeader{salt: w.seg.salt, length: r.length(), rows: r.rows, position: next, receivedAt: w.lastAt, org: r.org, payloadCRC: r.crc}
		h.put(r.head)
		next = h.end()
		bytes += size
		used += f.footprint(r) - size // what the footer will need
		w.group, w.headers = append(w.group, r), append(w.headers, h)
	}
	if len(w.group) > 0 {
		f.commitGroup(bytes)
	}
	return n
}

// footprint is what a request may take on disk in all: its record, its part of the footer, and a new segment.
func (f *Files) footprint(r *request) int64 {
	n := r.size() + 2*entrySize
	if r.keyed {
		n += keyEntrySize
	}
	if f.writer.off+r.size() > f.opts.SegmentBytes {
		n += segmentHeaderSize + footerSize(0, 0, 0)
	}
	return n
}

// reserved is what the journal takes on disk, with the footer that the active segment still gets.
func (f *Files) reserved() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.segs {
		n += s.reserve()
	}
	return n
}

func (f *Files) commitGroup(bytes int64) {
	w := &f.writer
	err := f.ensureRoom(bytes)
	if err == nil {
		err = f.writeGroup()
	}
	if err == nil {
		start := time.Now()
		if err = w.file.Sync(); err != nil {
			// After a failed sync the kernel may have dropped pages and forgotten it: this file's tail proves nothing.
			w.spoiled = true
		}
		f.metrics.synced(time.Since(start), len(w.group))
	}
	if err != nil {
		w.cut = true
		err = fmt.Errorf("write segment %s: %w", w.seg.name, err)
		// Cut before answering, so that no refused row can come back after a crash.
		if rerr := f.repair(); rerr != nil {
			f.log.Warn("cannot take back rows that were not written; trying again", "segment", w.seg.name, "error", rerr)
		}
		refusal := f.refuse(err)
		for _, r := range w.group {
			f.metrics.refused("unavailable")
			r.answer(0, 0, refusal)
		}
		return
	}
	f.publish(bytes)
	if w.refused != nil {
		f.accept()
	}
	for i, r := range w.group {
		r.answer(w.headers[i].position, w.headers[i].receivedAt, nil)
		w.group[i] = nil
	}
}

func (r *request) answer(position uint64, at int64, err error) {
	r.position, r.at, r.err = position, at, err
	r.done <- struct{}{}
}

// answerAll refuses a whole line with one error.
func (f *Files) answerAll(line []*request, err error) int {
	for _, r := range line {
		if !r.state.CompareAndSwap(waiting, taken) {
			putRequest(r)
			continue
		}
		f.metrics.refused("unavailable")
		r.answer(0, 0, err)
	}
	return len(line)
}

func (f *Files) writeGroup() error {
	w := &f.writer
	if w.buf == nil {
		w.buf = make([]byte, 0, directBytes) // grows to gatherBytes when there is much to do
	}
	off := w.off
	flush := func(b []byte) error {
		if len(b) == 0 {
			return nil
		}
		err := writeFull(w.file, b, off)
		off += int64(len(b))
		return err
	}
	gather := func(b []byte) error {
		if len(w.buf)+len(b) > gatherBytes {
			err := flush(w.buf)
			w.buf = w.buf[:0]
			if err != nil {
				return err
			}
		}
		if len(b) > directBytes {
			err := flush(w.buf)
			w.buf = w.buf[:0]
			if err != nil {
				return err
			}
			return flush(b)
		}
		w.buf = append(w.buf, b...)
		return nil
	}
	w.buf = w.buf[:0]
	for _, r := range w.group {
		if err := gather(r.head); err != nil {
			return err
		}
		if err := gather(r.data); err != nil {
			return err
		}
	}
	return flush(w.buf)
}

func writeFull(f file, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// publish lets readers see the group.
func (f *Files) publish(bytes int64) {
	w := &f.writer
	rows := 0
	for i, r := range w.group {
		rows += int(r.rows)
		if r.keyed {
			r.key.position, r.key.at = w.headers[i].position, w.headers[i].receivedAt
			f.keys.add(&r.key)
		}
	}
	f.mu.Lock()
	for i, r := range w.group {
		var key *keyEntry
		if r.keyed {
			key = &r.key
		}
		w.seg.add(&w.headers[i], w.off, key)
		w.off += r.size()
	}
	w.next = w.seg.end
	f.end = w.next
	f.announce()
	f.mu.Unlock()
	f.metrics.appended(rows, bytes)
}

// refuse notes that the disk does not take rows and returns the error for those who asked.
func (f *Files) refuse(err error) error {
	w := &f.writer
	if w.refused == nil {
		f.log.Error("the disk refuses; rows are answered with 503 until it takes them again", "error", err)
	}
	w.refused = err
	w.retryAt = time.Now().Add(f.opts.retryEvery)
	f.mu.Lock()
	f.refusal = err
	f.mu.Unlock()
	return f.unavailable(err)
}

func (f *Files) unavailable(err error) error {
	return &UnavailableError{RetryAfter: retryAfter, Err: err}
}

func (f *Files) accept() {
	f.writer.refused = nil
	f.mu.Lock()
	f.refusal = nil
	f.mu.Unlock()
	f.log.Info("the disk takes rows again")
}

// repair brings the active segment back to its last durable record, or replaces it. It does nothing when all is well.
func (f *Files) repair() error {
	w := &f.writer
	if w.file != nil && !w.spoiled && !w.cut {
		return nil
	}
	if w.file == nil {
		return f.roll()
	}
	if w.cut {
		err := w.file.Truncate(w.off)
		if err == nil {
			err = w.file.Sync()
		}
		if err != nil {
			w.spoiled = true
		}
		w.cut, w.room = false, w.off
	}
	if w.spoiled {
		return f.roll()
	}
	return nil
}

// roll makes a new active segment and seals the old one. Until the new one is durable nothing changes.
func (f *Files) roll() error {
	w := &f.writer
	old := w.seg
	if old != nil && old.records == 0 && w.next == old.first {
		w.next++ // two files cannot have one name; a position is left out instead
	}
	f.mu.Lock()
	h := segmentHeader{salt: newSalt(), first: w.next, prevEnd: f.end, base: f.base, madeAt: f.opts.Now().UnixNano()}
	f.mu.Unlock()
	file, room, err := f.createSegment(h)
	if err != nil {
		return err
	}
	seg := newSegment(f.opts.Dir, h)
	oldFile, spoiled := w.file, w.spoiled
	w.file, w.seg, w.off, w.room, w.spoiled, w.cut = file, seg, segmentHeaderSize, room, false, false
	f.mu.Lock()
	if old != nil {
		old.sealed = true
		if old.records == 0 {
			f.segs = f.segs[:len(f.segs)-1]
			old.gone = true
		}
	}
	f.segs = append(f.segs, seg)
	f.announce()
	f.mu.Unlock()
	if old == nil {
		return nil
	}
	switch {
	case old.records == 0:
		if err := f.fs.Remove(old.path); err != nil {
			f.log.Warn("cannot remove an empty segment", "segment", old.name, "error", err)
		}
	case spoiled:
		f.log.Warn("segment was left after a failed sync; its durable rows stay", "segment", old.name, "bytes", old.dataEnd)
	default:
		f.seal(old, oldFile)
	}
	_ = oldFile.Close()
	return nil
}

// seal writes the footer. Without one the segment is as good; only the next start reads it whole.
func (f *Files) seal(s *segment, file file) {
	t, b := encodeFooter(s)
	err := file.Truncate(s.dataEnd)
	if err == nil {
		err = writeFull(file, b, s.dataEnd)
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		f.log.Warn("cannot write the footer of a segment; the next start makes it again", "segment", s.name, "error", err)
		return
	}
	f.mu.Lock()
	s.footer = t
	s.details = details{}
	f.mu.Unlock()
}

// createSegment makes a file that holds a header, durable under its name, with room up to the offset that it returns.
func (f *Files) createSegment(h segmentHeader) (_ file, room int64, err error) {
	path := filepath.Join(f.opts.Dir, segmentName(h.first))
	tmp := path + tmpSuffix
	file, err := f.fs.Create(tmp)
	if err != nil {
		return nil, 0, fmt.Errorf("create segment: %w", err)
	}
	err = writeFull(file, h.bytes(), 0)
	if err == nil {
		room, err = f.preallocate(file, segmentHeaderSize, segmentHeaderSize)
	}
	if err == nil {
		err = file.Sync()
	}
	renamed := false
	if err == nil {
		if err = f.fs.Rename(tmp, path); err == nil {
			renamed = true
			err = f.fs.SyncDir(f.opts.Dir)
		}
	}
	if err != nil {
		_ = file.Close()
		if renamed {
			tmp = path
		}
		_ = f.fs.Remove(tmp) // an empty segment that stays does no harm
		return nil, 0, fmt.Errorf("create segment %s: %w", path, err)
	}
	return file, room, nil
}

func newSalt() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint32(b[:])
}

func utc(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// giveUpActive makes room under a small cap: when every row was let go, the active segment need not stay either.
func (f *Files) giveUpActive() bool {
	w := &f.writer
	f.mu.Lock()
	free := w.seg.records > 0 && f.released >= f.end
	f.mu.Unlock()
	if !free {
		return false
	}
	if err := f.roll(); err != nil {
		f.log.Warn("cannot start a new segment to make room", "error", err)
		return false
	}
	if err := f.release(); err != nil {
		f.log.Warn("cannot let a segment go to make room", "error", err)
	}
	return true
}
