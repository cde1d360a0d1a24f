package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// A record on disk, little endian:
//
//	 0 magic       uint32   FF 'R' 'G' FE: never part of UTF-8 text
//	 4 salt        uint32   of the segment, random: nobody can forge a record inside his own data
//	 8 length      uint32   of the payload
//	12 rows        uint32
//	16 position    uint64   of row 0
//	24 received_at int64    nanoseconds since 1970
//	32 org         uint64
//	40 payload crc uint32   Castagnoli; computed by the goroutine that appends
//	44 header crc  uint32   over the 44 bytes before; computed by the writer, who alone knows position and time
//	48 payload
//
// The payload: flags, [key 16, digest 16], user, uuid, request id (lengths and numbers as uvarints), [trace parent], the length
// of each row, [the index of each row, zigzag], and the rows' bytes. What is in brackets is there when its flag is set, so a
// journal without traces reads as it always did.
const (
	recordMagic      = uint32(0xFE4752FF)
	recordHeaderSize = 48
	maxRecordBytes   = 96 << 20
	maxNameBytes     = 64 << 10 // uuid, request id
	maxTraceBytes    = 255

	flagIndex = 1 << 0
	flagKey   = 1 << 1
	flagTrace = 1 << 2
	flagsAll  = flagIndex | flagKey | flagTrace

	keyBytes = 32 // key and digest, right after the flags
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errDamaged  = errors.New("damaged record")
	errUnsteady = errors.New("the disk gives other bytes each time")
)

type recordHeader struct {
	salt, length, rows uint32
	position           uint64
	receivedAt         int64
	org                uint64
	payloadCRC         uint32
}

// size is that of the whole record, bytes.
func (h *recordHeader) size() int64 { return recordHeaderSize + int64(h.length) }

// end is the position after the last row.
func (h *recordHeader) end() uint64 { return h.position + uint64(h.rows) }

func (h *recordHeader) put(b []byte) {
	_ = b[recordHeaderSize-1]
	binary.LittleEndian.PutUint32(b[0:], recordMagic)
	binary.LittleEndian.PutUint32(b[4:], h.salt)
	binary.LittleEndian.PutUint32(b[8:], h.length)
	binary.LittleEndian.PutUint32(b[12:], h.rows)
	binary.LittleEndian.PutUint64(b[16:], h.position)
	binary.LittleEndian.PutUint64(b[24:], uint64(h.receivedAt))
	binary.LittleEndian.PutUint64(b[32:], h.org)
	binary.LittleEndian.PutUint32(b[40:], h.payloadCRC)
	binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
}

// parseHeader returns false for anything that the journal did not write.
func parseHeader(b []byte) (h recordHeader, ok bool) {
	if len(b) < recordHeaderSize || binary.LittleEndian.Uint32(b) != recordMagic ||
		binary.LittleEndian.Uint32(b[44:]) != crc32.Checksum(b[:44], castagnoli) {
		return h, false
	}
	h = recordHeader{
		salt:       binary.LittleEndian.Uint32(b[4:]),
		length:     binary.LittleEndian.Uint32(b[8:]),
		rows:       binary.LittleEndian.Uint32(b[12:]),
		position:   binary.LittleEndian.Uint64(b[16:]),
		receivedAt: int64(binary.LittleEndian.Uint64(b[24:])),
		org:        binary.LittleEndian.Uint64(b[32:]),
		payloadCRC: binary.LittleEndian.Uint32(b[40:]),
	}
	// A row takes at least one byte, so rows beyond length would be a lie that costs memory.
	return h, h.length <= maxRecordBytes && h.rows > 0 && h.rows <= h.length && h.position < maxPosition
}

// maxPosition keeps positions exact in a float64, with room for the rows of one record.
const maxPosition = uint64(1)<<53 - 1<<32

// validate refuses what could not be read back as it was.
func (r *Record) validate() error {
	rows := len(r.Ends)
	switch {
	case rows == 0:
		return errors.New("record without rows")
	case len(r.Index) != 0 && len(r.Index) != rows:
		return fmt.Errorf("record with %d rows and %d indexes", rows, len(r.Index))
	case len(r.UUID) > maxNameBytes || len(r.RequestID) > maxNameBytes:
		return fmt.Errorf("uuid or request id over %d bytes", maxNameBytes)
	case len(r.TraceParent) > maxTraceBytes:
		return fmt.Errorf("trace parent over %d bytes", maxTraceBytes)
	case uint64(r.Ends[rows-1]) != uint64(len(r.Data)):
		return fmt.Errorf("rows end at %d of %d bytes", r.Ends[rows-1], len(r.Data))
	}
	return nil
}

// appendMeta appends the payload without the rows' bytes.
func appendMeta(b []byte, r *Record) ([]byte, error) {
	var flags byte
	if len(r.Index) != 0 {
		flags |= flagIndex
	}
	keyed := r.IdempotencyKey != [16]byte{}
	if keyed {
		flags |= flagKey
	}
	if r.TraceParent != "" {
		flags |= flagTrace
	}
	b = append(b, flags)
	if keyed {
		b = append(b, r.IdempotencyKey[:]...)
		b = append(b, r.BodyDigest[:]...)
	}
	b = binary.AppendUvarint(b, r.UserID)
	b = binary.AppendUvarint(b, uint64(len(r.UUID)))
	b = append(b, r.UUID...)
	b = binary.AppendUvarint(b, uint64(len(r.RequestID)))
	b = append(b, r.RequestID...)
	if r.TraceParent != "" {
		b = binary.AppendUvarint(b, uint64(len(r.TraceParent)))
		b = append(b, r.TraceParent...)
	}
	start := uint32(0)
	for _, end := range r.Ends {
		if end < start {
			return nil, fmt.Errorf("row ends at %d, before it starts at %d", end, start)
		}
		b = binary.AppendUvarint(b, uint64(end-start))
		start = end
	}
	for _, i := range r.Index {
		b = binary.AppendUvarint(b, uint64(uint32(i)<<1^uint32(i>>31)))
	}
	return b, nil
}

// payload is a decoded payload; everything in it shares the memory of what was decoded.
type payload struct {
	key, digest     [16]byte
	user            uint64
	uuid, requestID []byte
	trace           []byte
	lengths, index  []byte // uvarints, checked
	hasIndex        bool
	data            []byte
}

type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.bad = true
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// decodePayload checks everything, so that frame cannot fail.
func decodePayload(h *recordHeader, b []byte) (p payload, err error) {
	c := cursor{b: b}
	flags := c.take(1)
	if c.bad || flags[0]&^flagsAll != 0 {
		return p, errDamaged
	}
	if flags[0]&flagKey != 0 {
		kd := c.take(keyBytes)
		if c.bad {
			return p, errDamaged
		}
		copy(p.key[:], kd)
		copy(p.digest[:], kd[16:])
		if p.key == [16]byte{} {
			return p, errDamaged // no key has no flag
		}
	}
	p.user = c.uvarint()
	p.uuid = c.take(c.uvarint())
	p.requestID = c.take(c.uvarint())
	if flags[0]&flagTrace != 0 {
		p.trace = c.take(c.uvarint())
		if len(p.trace) == 0 || len(p.trace) > maxTraceBytes {
			return p, errDamaged // no trace has no flag
		}
	}
	if c.bad {
		return p, errDamaged
	}
	p.lengths = c.b
	total := uint64(0)
	for range h.rows {
		n := c.uvarint()
		total += n
		if c.bad || n > maxRecordBytes || total > maxRecordBytes {
			return p, errDamaged
		}
	}
	p.index = c.b
	if p.hasIndex = flags[0]&flagIndex != 0; p.hasIndex {
		for range h.rows {
			if v := c.uvarint(); c.bad || v > math.MaxUint32 {
				return p, errDamaged
			}
		}
	}
	if uint64(len(c.b)) != total {
		return p, errDamaged
	}
	p.data = c.b
	return p, nil
}

// fill writes the payload into a record whose memory is its own.
func (p *payload) fill(h *recordHeader, r *Record) {
	r.OrgID, r.UserID, r.Position = h.org, p.user, h.position
	r.ReceivedAt = time.Unix(0, h.receivedAt).UTC()
	if r.UUID != string(p.uuid) { // one reader often sees the same uuid again: keep that string
		r.UUID = string(p.uuid)
	}
	r.RequestID = string(p.requestID)
	r.TraceParent = string(p.trace)
	r.IdempotencyKey, r.BodyDigest = p.key, p.digest
	r.Data = bytes.Clone(p.data)
	if r.Data == nil {
		r.Data = []byte{}
	}
	r.Ends = make([]uint32, h.rows)
	end, c := uint32(0), cursor{b: p.lengths}
	for i := range r.Ends {
		end += uint32(c.uvarint())
		r.Ends[i] = end
	}
	r.Index = nil
	if p.hasIndex {
		r.Index = make([]int32, h.rows)
		c = cursor{b: p.index}
		for i := range r.Index {
			v := uint32(c.uvarint())
			r.Index[i] = int32(v>>1) ^ -int32(v&1)
		}
	}
}
