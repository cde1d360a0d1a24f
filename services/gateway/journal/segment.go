package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// A segment file starts with 64 bytes, little endian:
//
//	 0 magic        8 bytes
//	 8 version      uint32
//	12 salt         uint32
//	16 first        uint64  the next position when the segment was made; its name says the same
//	24 previous end uint64  where the rows before it ended; less than first when positions were left out on purpose
//	32 base         uint64  the very first position of this journal
//	40 made at      int64   nanoseconds since 1970
//	56 crc          uint32
//
// Then come records without a gap, then zeros (active) or the footer (sealed).
const (
	segmentMagic      = "RGSEGMT\xff"
	segmentVersion    = 1
	segmentHeaderSize = 64
	indexStep         = 64 << 10 // bytes between two entries of the sparse index

	segmentSuffix = ".seg"
	keysSuffix    = ".keys"
	tmpSuffix     = ".tmp"
)

type segmentHeader struct {
	salt           uint32
	first, prevEnd uint64
	base           uint64
	madeAt         int64
}

func (h *segmentHeader) bytes() []byte {
	b := make([]byte, segmentHeaderSize)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], segmentVersion)
	binary.LittleEndian.PutUint32(b[12:], h.salt)
	binary.LittleEndian.PutUint64(b[16:], h.first)
	binary.LittleEndian.PutUint64(b[24:], h.prevEnd)
	binary.LittleEndian.PutUint64(b[32:], h.base)
	binary.LittleEndian.PutUint64(b[40:], uint64(h.madeAt))
	binary.LittleEndian.PutUint32(b[56:], crc32.Checksum(b[:56], castagnoli))
	return b
}

func parseSegmentHeader(b []byte) (h segmentHeader, ok bool) {
	if len(b) < segmentHeaderSize || string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[8:]) != segmentVersion ||
		binary.LittleEndian.Uint32(b[56:]) != crc32.Checksum(b[:56], castagnoli) {
		return h, false
	}
	return segmentHeader{
		salt:    binary.LittleEndian.Uint32(b[12:]),
		first:   binary.LittleEndian.Uint64(b[16:]),
		prevEnd: binary.LittleEndian.Uint64(b[24:]),
		base:    binary.LittleEndian.Uint64(b[32:]),
		madeAt:  int64(binary.LittleEndian.Uint64(b[40:])),
	}, true
}

// indexEntry says that a record with this position starts at this offset.
type indexEntry struct {
	position uint64
	offset   int64
}

// summary is what is known of the durable records of a segment.
type summary struct {
	end             uint64 // position after the last row; first when there is none
	dataEnd         int64  // offset after the last record
	rows, records   uint64
	start           uint64 // position of the first row; valid when rows > 0
	firstAt, lastAt int64
	lastKeyAt       int64 // receive time of the newest record with a key
}

// details are what a footer holds besides; a sealed segment leaves them on disk.
type details struct {
	index []indexEntry
	orgs  map[uint64]uint64 // rows of each
	keys  []keyEntry
}

// segment is one file. Everything but name, path, first and salt is guarded by Files.mu.
type segment struct {
	name, path string
	first      uint64
	salt       uint32

	summary
	details          // of the active one, and of a sealed one whose footer could not be written
	footer  *trailer // nil: the details are in memory
	sealed  bool
	gone    bool            // released
	holes   map[int64]int64 // damaged stretches that are known: from → to
}

// size is what the segment takes on disk, preallocation not counted.
func (s *segment) size() int64 {
	if s.footer != nil {
		return s.dataEnd + s.footer.size()
	}
	return s.dataEnd
}

// reserve is size with the footer that is still to be written.
func (s *segment) reserve() int64 {
	if s.footer != nil {
		return s.size()
	}
	return s.dataEnd + footerSize(len(s.index), len(s.orgs), len(s.keys))
}

// add notes one durable record at offset. The caller holds Files.mu or owns the segment.
func (s *segment) add(h *recordHeader, offset int64, key *keyEntry) {
	if s.rows == 0 {
		s.start, s.firstAt = h.position, h.receivedAt
	}
	last := int64(segmentHeaderSize)
	if n := len(s.index); n > 0 {
		last = s.index[n-1].offset
	}
	if offset-last >= indexStep {
		s.index = append(s.index, indexEntry{h.position, offset})
	}
	if s.orgs == nil {
		s.orgs = make(map[uint64]uint64)
	}
	s.orgs[h.org] += uint64(h.rows)
	if key != nil {
		s.keys = append(s.keys, *key)
		s.lastKeyAt = key.at
	}
	s.rows += uint64(h.rows)
	s.records++
	s.end = h.end()
	s.dataEnd = offset + h.size()
	s.lastAt = h.receivedAt
}

// seek returns the offset of a record at or before position.
func seek(index []indexEntry, position uint64) int64 {
	i, found := slices.BinarySearchFunc(index, position, func(e indexEntry, p uint64) int {
		switch {
		case e.position < p:
			return -1
		case e.position > p:
			return 1
		}
		return 0
	})
	if found {
		return index[i].offset
	}
	if i == 0 {
		return segmentHeaderSize
	}
	return index[i-1].offset
}

func segmentName(first uint64) string { return fmt.Sprintf("%017d%s", first, segmentSuffix) }
func keysName(first uint64) string    { return fmt.Sprintf("%017d%s", first, keysSuffix) }

var ownName = regexp.MustCompile(`^([0-9]{17})(\.seg|\.keys)(\.tmp)?$`)

// parseName takes a file name of ours apart.
func parseName(name string) (first uint64, suffix string, ok bool) {
	m := ownName.FindStringSubmatch(name)
	if m == nil {
		return 0, "", false
	}
	first, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil || first >= maxPosition {
		return 0, "", false
	}
	if m[3] != "" {
		return first, tmpSuffix, true
	}
	return first, m[2], true
}

func newSegment(dir string, h segmentHeader) *segment {
	name := segmentName(h.first)
	s := &segment{name: name, path: filepath.Join(dir, name), first: h.first, salt: h.salt}
	s.end, s.dataEnd = h.first, segmentHeaderSize
	return s
}
