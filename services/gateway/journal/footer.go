package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
)

// The footer of a sealed segment: magic, index entries (16 bytes), rows of each org (16), idempotency entries (64), and a
// trailer of 128 bytes at the very end of the file, which says how many of each there are. Start reads trailers only.
const (
	footerMagic  = "RGFOOTR\xff"
	trailerMagic = "RGTRAIL\xff"
	trailerSize  = 128
	entrySize    = 16
)

var errFooter = errors.New("damaged footer")

type trailer struct {
	salt                       uint32
	first                      uint64
	summary                    summary
	nIndex, nOrgs, nKeys       uint32
	crcIndex, crcOrgs, crcKeys uint32
}

func footerSize(nIndex, nOrgs, nKeys int) int64 {
	return int64(len(footerMagic)) + entrySize*int64(nIndex) + entrySize*int64(nOrgs) + keyEntrySize*int64(nKeys) + trailerSize
}

func (t *trailer) size() int64 { return footerSize(int(t.nIndex), int(t.nOrgs), int(t.nKeys)) }

func (t *trailer) indexAt() int64 { return t.summary.dataEnd + int64(len(footerMagic)) }
func (t *trailer) orgsAt() int64  { return t.indexAt() + entrySize*int64(t.nIndex) }
func (t *trailer) keysAt() int64  { return t.orgsAt() + entrySize*int64(t.nOrgs) }

// encodeFooter returns the bytes that follow the last record.
func encodeFooter(s *segment) (*trailer, []byte) {
	t := &trailer{salt: s.salt, first: s.first, summary: s.summary,
		nIndex: uint32(len(s.index)), nOrgs: uint32(len(s.orgs)), nKeys: uint32(len(s.keys))}
	b := make([]byte, 0, t.size())
	b = append(b, footerMagic...)
	le := binary.LittleEndian
	from := len(b)
	for _, e := range s.index {
		b = le.AppendUint64(b, e.position)
		b = le.AppendUint64(b, uint64(e.offset))
	}
	t.crcIndex = crc32.Checksum(b[from:], castagnoli)
	from = len(b)
	for _, org := range slices.Sorted(maps.Keys(s.orgs)) {
		b = le.AppendUint64(b, org)
		b = le.AppendUint64(b, s.orgs[org])
	}
	t.crcOrgs = crc32.Checksum(b[from:], castagnoli)
	from = len(b)
	for i := range s.keys {
		b = s.keys[i].append(b)
	}
	t.crcKeys = crc32.Checksum(b[from:], castagnoli)

	from = len(b)
	b = append(b, trailerMagic...)
	b = le.AppendUint32(b, segmentVersion)
	b = le.AppendUint32(b, t.salt)
	for _, v := range [...]uint64{t.first, t.summary.end, t.summary.rows, t.summary.records, t.summary.start, uint64(t.summary.firstAt),
		uint64(t.summary.lastAt), uint64(t.summary.dataEnd), uint64(t.summary.lastKeyAt)} {
		b = le.AppendUint64(b, v)
	}
	for _, v := range [...]uint32{t.nIndex, t.nOrgs, t.nKeys, t.crcIndex, t.crcOrgs, t.crcKeys} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, make([]byte, trailerSize-4-(len(b)-from))...)
	b = le.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
	return t, b
}

func parseTrailer(b []byte, fileSize int64) (*trailer, bool) {
	le := binary.LittleEndian
	if len(b) != trailerSize || string(b[:8]) != trailerMagic || le.Uint32(b[8:]) != segmentVersion ||
		le.Uint32(b[trailerSize-4:]) != crc32.Checksum(b[:trailerSize-4], castagnoli) {
		return nil, false
	}
	t := &trailer{
		salt: le.Uint32(b[12:]), first: le.Uint64(b[16:]),
		summary: summary{end: le.Uint64(b[24:]), rows: le.Uint64(b[32:]), records: le.Uint64(b[40:]), start: le.Uint64(b[48:]),
			firstAt: int64(le.Uint64(b[56:])), lastAt: int64(le.Uint64(b[64:])), dataEnd: int64(le.Uint64(b[72:])), lastKeyAt: int64(le.Uint64(b[80:]))},
		nIndex: le.Uint32(b[88:]), nOrgs: le.Uint32(b[92:]), nKeys: le.Uint32(b[96:]),
		crcIndex: le.Uint32(b[100:]), crcOrgs: le.Uint32(b[104:]), crcKeys: le.Uint32(b[108:]),
	}
	ok := t.summary.dataEnd >= segmentHeaderSize && t.summary.dataEnd+t.size() == fileSize &&
		t.summary.end >= t.first && t.summary.end < maxPosition+1<<32 && (t.summary.rows == 0 || t.summary.start >= t.first)
	return t, ok
}

// readSection reads n entries and checks them.
func readSection(f file, at int64, n uint32, entry int, crc uint32) ([]byte, error) {
	b := make([]byte, int(n)*entry)
	if _, err := f.ReadAt(b, at); err != nil && (!errors.Is(err, io.EOF) || len(b) > 0) {
		return nil, fmt.Errorf("read footer: %w", err)
	}
	if crc32.Checksum(b, castagnoli) != crc {
		return nil, errFooter
	}
	return b, nil
}

func (t *trailer) readIndex(f file) ([]indexEntry, error) {
	b, err := readSection(f, t.indexAt(), t.nIndex, entrySize, t.crcIndex)
	if err != nil {
		return nil, err
	}
	index := make([]indexEntry, t.nIndex)
	for i := range index {
		index[i] = indexEntry{binary.LittleEndian.Uint64(b[i*entrySize:]), int64(binary.LittleEndian.Uint64(b[i*entrySize+8:]))}
	}
	return index, nil
}

func (t *trailer) readOrgs(f file) (map[uint64]uint64, error) {
	b, err := readSection(f, t.orgsAt(), t.nOrgs, entrySize, t.crcOrgs)
	if err != nil {
		return nil, err
	}
	orgs := make(map[uint64]uint64, t.nOrgs)
	for ; len(b) > 0; b = b[entrySize:] {
		orgs[binary.LittleEndian.Uint64(b)] = binary.LittleEndian.Uint64(b[8:])
	}
	return orgs, nil
}

func (t *trailer) readKeys(f file) ([]keyEntry, error) {
	b, err := readSection(f, t.keysAt(), t.nKeys, keyEntrySize, t.crcKeys)
	if err != nil {
		return nil, err
	}
	return decodeKeys(b), nil
}
