package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"time"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// A segment is a file of the spool: a header, then records and marks.
//
//	header  "RGspool1", salt 8, when it was begun 8, crc 4
//	record  "RGrows" and two zeros, length 4, crc 4, payload: rows that came in one request
//	mark    "RGmarked", its own offset 8, crc 4: all before it was synced
//
// Numbers are little endian, the checksums CRC-32C over the salt too, so that nothing of another segment is believed. A mark is
// written after the sync of a batch and before its acknowledgement. What is unreadable and stands behind the last mark was never
// acknowledged: a torn end. What is unreadable before a mark is damage.
const (
	segmentMagic = "RGspool1"
	recordMagic  = "RGrows\x00\x00"
	markMagic    = "RGmarked"

	saltSize       = 8
	headerSize     = len(segmentMagic) + saltSize + 8 + 4
	recordHeadSize = len(recordMagic) + 8
	markSize       = len(markMagic) + 8 + 4

	// maxRecord bounds what a length that was read from disk may claim: what one gRPC message of the host can hold, and its header.
	maxRecord = 96 << 20
)

var (
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
	errNoRecord  = errors.New("is no record of rows")
	errNoSegment = errors.New("does not begin like a segment of the spool")
)

type salt [saltSize]byte

func (s salt) sum(parts ...[]byte) uint32 {
	sum := crc32.Checksum(s[:], castagnoli)
	for _, part := range parts {
		sum = crc32.Update(sum, castagnoli, part)
	}
	return sum
}

func appendHeader(to []byte, s salt, born time.Time) []byte {
	at := binary.LittleEndian.AppendUint64(nil, uint64(born.UnixMilli())) //nolint:gosec // two's complement is meant
	to = append(to, segmentMagic...)
	to = append(to, s[:]...)
	to = append(to, at...)
	return binary.LittleEndian.AppendUint32(to, s.sum([]byte(segmentMagic), at))
}

func parseHeader(text []byte) (s salt, born time.Time, err error) {
	if len(text) < headerSize || string(text[:len(segmentMagic)]) != segmentMagic {
		return s, born, errNoSegment
	}
	copy(s[:], text[len(segmentMagic):])
	at := text[len(segmentMagic)+saltSize : headerSize-4]
	if binary.LittleEndian.Uint32(text[headerSize-4:]) != s.sum([]byte(segmentMagic), at) {
		return s, born, errNoSegment
	}
	return s, time.UnixMilli(int64(binary.LittleEndian.Uint64(at))), nil //nolint:gosec // two's complement is meant
}

func appendMark(to []byte, s salt, offset int64) []byte {
	at := binary.LittleEndian.AppendUint64(nil, uint64(offset)) //nolint:gosec // an offset is not below 0
	to = append(to, markMagic...)
	to = append(to, at...)
	return binary.LittleEndian.AppendUint32(to, s.sum([]byte(markMagic), at))
}

// isMark tells whether text begins with the mark of that offset.
func isMark(text []byte, s salt, offset int64) bool {
	return len(text) >= markSize && string(text[:len(markMagic)]) == markMagic && bytes.Equal(text[:markSize], appendMark(nil, s, offset))
}

// appendRecord writes the rows from..to of a frame, without to.
func appendRecord(text []byte, s salt, f *protocol.Frame, from, to int) []byte {
	begin := len(text)
	text = append(text, recordMagic...)
	text = append(text, make([]byte, 8)...)
	rows := f.Slice(from, to)
	text = binary.LittleEndian.AppendUint64(text, rows.Position)
	text = binary.LittleEndian.AppendUint64(text, rows.OrgID)
	text = binary.LittleEndian.AppendUint64(text, uint64(rows.ReceivedAt.UnixNano())) //nolint:gosec // two's complement is meant
	text = binary.AppendUvarint(text, uint64(len(rows.UUID)))
	text = append(text, rows.UUID...)
	text = binary.AppendUvarint(text, uint64(len(rows.RequestID)))
	text = append(text, rows.RequestID...)
	text = binary.AppendUvarint(text, uint64(rows.Len())) //nolint:gosec // a count
	if rows.Index == nil {
		text = append(text, 0)
	} else {
		text = append(text, 1)
		for _, index := range rows.Index {
			text = binary.LittleEndian.AppendUint32(text, uint32(index)) //nolint:gosec // two's complement is meant
		}
	}
	for _, end := range rows.Ends {
		text = binary.LittleEndian.AppendUint32(text, end)
	}
	text = append(text, rows.Data...)
	payload := text[begin+recordHeadSize:]
	length := text[begin+len(recordMagic) : begin+len(recordMagic)+4]
	binary.LittleEndian.PutUint32(length, uint32(len(payload))) //nolint:gosec // bounded by what a batch can hold
	binary.LittleEndian.PutUint32(text[begin+len(recordMagic)+4:], s.sum(length, payload))
	return text
}

// parseRecord reads the payload of a record. The frame's bytes are those of payload.
func parseRecord(payload []byte) (f protocol.Frame, err error) {
	r := reader{rest: payload}
	f.Position, f.OrgID = r.uint64(), r.uint64()
	f.ReceivedAt = time.Unix(0, int64(r.uint64())).UTC() //nolint:gosec // two's complement is meant
	f.UUID, f.RequestID = string(r.text()), string(r.text())
	rows := r.uvarint()
	// Each row takes four bytes and more, so the count is bounded by what is there.
	if rows == 0 || rows > uint64(len(r.rest))/4 || f.Position > math.MaxInt64 {
		return f, errNoRecord
	}
	switch indexed := r.take(1); {
	case r.failed || indexed[0] > 1:
		return f, errNoRecord
	case indexed[0] == 1:
		f.Index = make([]int32, rows)
		for i := range f.Index {
			f.Index[i] = int32(r.uint32()) //nolint:gosec // two's complement is meant
		}
	}
	f.Ends = make([]uint32, rows)
	before := uint32(0)
	for i := range f.Ends {
		f.Ends[i] = r.uint32()
		if f.Ends[i] < before {
			return f, errNoRecord
		}
		before = f.Ends[i]
	}
	if r.failed || int(before) != len(r.rest) {
		return f, errNoRecord
	}
	f.Data = r.rest
	return f, nil
}

// reader takes bytes from the front. After it failed it gives zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.rest) {
		r.failed = true
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.failed = true
		return 0
	}
	r.take(size)
	return n
}

func (r *reader) text() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.failed = true
		return nil
	}
	return r.take(int(n)) //nolint:gosec // no more than is there
}

// scan is what a segment holds.
type scan struct {
	salt    salt
	born    time.Time
	end     int64 // behind the last record or mark that can be read
	damaged bool  // something that was acknowledged cannot be read
}

// extent is where the payload of a record is.
type extent struct {
	at   int64
	size int
}

// scanSegment reads size bytes of a segment and calls each with every record, in order. Behind what cannot be read it goes on at the
// next mark. each must not keep the frame's bytes.
func scanSegment(file io.ReaderAt, size int64, each func(extent, *protocol.Frame) error) (found scan, err error) {
	head := make([]byte, headerSize)
	if n, err := file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return found, err
	} else if found.salt, found.born, err = parseHeader(head[:n]); err != nil {
		return found, err
	}
	in := window{file: file, size: size}
	at := int64(headerSize)
	found.end = at
	for at < size {
		ahead, err := in.at(at, recordHeadSize+4) // the larger of the two beginnings
		if err != nil {
			return found, err
		}
		if isMark(ahead, found.salt, at) {
			at += int64(markSize)
			found.end = at
			continue
		}
		frame, length, ok, err := in.record(at, found.salt)
		if err != nil {
			return found, err
		}
		if ok {
			where := extent{at + int64(recordHeadSize), length}
			if err := each(where, &frame); err != nil {
				return found, err
			}
			at = where.at + int64(length)
			found.end = at
			continue
		}
		next, err := in.nextMark(at, found.salt)
		if err != nil {
			return found, err
		}
		if next < 0 {
			return found, nil // a torn end
		}
		found.damaged = true
		at = next
	}
	return found, nil
}

// window reads a file in large steps.
type window struct {
	file  io.ReaderAt
	size  int64
	begin int64
	held  []byte
}

const windowSize = 1 << 20

// at gives up to n bytes at an offset, fewer only at the end.
func (w *window) at(offset int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-offset))
	if offset < w.begin || offset+int64(n) > w.begin+int64(len(w.held)) {
		want := int(min(int64(max(n, windowSize)), w.size-offset))
		if cap(w.held) < want {
			w.held = make([]byte, want)
		}
		read, err := w.file.ReadAt(w.held[:want], offset)
		if err != nil && !errors.Is(err, io.EOF) {
			w.held = w.held[:0]
			return nil, err
		}
		w.begin, w.held = offset, w.held[:read]
		n = min(n, read) // the file is shorter than it was
	}
	from := int(offset - w.begin)
	return w.held[from : from+n : from+n], nil
}

// record reads the record at an offset; ok is false when there is none.
func (w *window) record(offset int64, s salt) (f protocol.Frame, length int, ok bool, err error) {
	head, err := w.at(offset, recordHeadSize)
	if err != nil || len(head) < recordHeadSize || string(head[:len(recordMagic)]) != recordMagic {
		return f, 0, false, err
	}
	length = int(binary.LittleEndian.Uint32(head[len(recordMagic):]))
	if length > maxRecord || offset+int64(recordHeadSize+length) > w.size {
		return f, 0, false, nil
	}
	whole, err := w.at(offset, recordHeadSize+length)
	if err != nil || len(whole) < recordHeadSize+length {
		return f, 0, false, err
	}
	payload := whole[recordHeadSize:]
	want := binary.LittleEndian.Uint32(whole[len(recordMagic)+4:])
	if s.sum(whole[len(recordMagic):len(recordMagic)+4], payload) != want {
		return f, 0, false, nil
	}
	f, err = parseRecord(payload)
	return f, length, err == nil, nil
}

// nextMark is the offset of the first mark behind an offset, -1 when there is none.
func (w *window) nextMark(offset int64, s salt) (int64, error) {
	for at := offset + 1; ; {
		text, err := w.at(at, windowSize)
		if err != nil || len(text) < markSize {
			return -1, err
		}
		for i := 0; ; i++ {
			j := bytes.Index(text[i:], []byte(markMagic))
			if j < 0 {
				break
			}
			if i += j; isMark(text[i:], s, at+int64(i)) {
				return at + int64(i), nil
			}
		}
		at += int64(len(text) - markSize + 1) // one that the window cuts is in the next
	}
}

// rowsOf gives the rows of a frame that was read back.
func rowsOf(f *protocol.Frame) *sdk.Batch {
	return &sdk.Batch{Batch: protocol.Batch{Frames: []protocol.Frame{*f}}}
}

// readFrame reads one record again.
func readFrame(file *os.File, where extent, buf []byte) (f protocol.Frame, grown []byte, err error) {
	if cap(buf) < where.size {
		buf = make([]byte, where.size)
	}
	buf = buf[:where.size]
	if _, err := file.ReadAt(buf, where.at); err != nil {
		return f, buf, fmt.Errorf("read the spool: %w", err)
	}
	f, err = parseRecord(buf)
	return f, buf, err
}
