package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
)

// The keys of a segment outlive it in a sidecar file under the same number: magic, count and checksum, entries of 64 bytes.
const (
	sidecarMagic  = "RGKEYS1\xff"
	sidecarHeader = 16
	mergeBytes    = 256 << 10 // a sidecar smaller than this takes in the next one
)

type sidecar struct {
	first  uint64
	lastAt int64
	end    uint64 // after the rows of its newest request
	bytes  int64
}

// Release implements Journal.
func (f *Files) Release(position uint64) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return ErrClosed
	}
	f.released = max(f.released, min(position, f.end))
	f.mu.Unlock()
	return f.release()
}

func (f *Files) release() error {
	f.releaseMu.Lock()
	defer f.releaseMu.Unlock()
	removed := false
	for {
		f.mu.Lock()
		var s *segment
		if len(f.segs) > 0 && f.segs[0].sealed && f.segs[0].end <= f.released {
			s = f.segs[0]
		}
		f.mu.Unlock()
		if s == nil {
			break
		}
		keys, err := f.youngKeys(s)
		if errors.Is(err, fs.ErrNotExist) { // somebody removed it: no reason to keep the others for ever
			f.log.Warn("a segment is gone from the folder; every pusher had passed it, its idempotency keys are kept until the next start only", "segment", s.name)
			err = nil
		}
		if err == nil {
			err = f.keepKeys(s.first, keys)
		}
		late := isNoSpace(err) // the segment's own room is needed to write them
		if err != nil && !late {
			return fmt.Errorf("release segment %s: %w", s.name, err)
		}
		f.mu.Lock()
		s.gone = true
		f.segs = f.segs[1:]
		f.mu.Unlock()
		if err := f.fs.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.mu.Lock()
			s.gone = false
			f.segs = append([]*segment{s}, f.segs...)
			f.mu.Unlock()
			return fmt.Errorf("release segment %s: %w", s.name, err)
		}
		removed = true
		if late {
			if err := f.keepKeys(s.first, keys); err != nil {
				f.log.Error("idempotency keys are kept until the next start only: the disk is full", "keys", len(keys), "error", err)
			}
		}
	}
	if f.forgetSidecars() || removed {
		if err := f.fs.SyncDir(f.opts.Dir); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	return nil
}

// youngKeys returns the keys of a segment when any of them is still to be kept.
func (f *Files) youngKeys(s *segment) ([]keyEntry, error) {
	f.mu.Lock()
	newest := s.lastKeyAt
	f.mu.Unlock()
	if newest <= f.keys.oldest(f.opts.Now()) {
		return nil, nil
	}
	d, err := f.details(s, nil)
	return d.keys, err
}

// keepKeys writes the keys of the segment that starts at first to a sidecar.
func (f *Files) keepKeys(first uint64, keys []keyEntry) error {
	if len(keys) == 0 {
		return nil
	}
	var last *sidecar
	if n := len(f.sidecars); n > 0 && (f.sidecars[n-1].bytes < mergeBytes || f.sidecars[n-1].first >= first) {
		last = &f.sidecars[n-1]
		_, before, err := f.readSidecar(last.first)
		if err != nil && !errors.Is(err, errFooter) {
			return err
		}
		// It has this segment's keys already when a release was cut short.
		before = slices.DeleteFunc(before, func(e keyEntry) bool { return e.position >= first })
		keys = append(before, keys...)
	}
	sc, err := f.writeSidecar(first, keys, f.keys.oldest(f.opts.Now()))
	if err != nil {
		return err
	}
	if last == nil {
		f.sidecars = append(f.sidecars, sc)
		return nil
	}
	if last.first != sc.first {
		if err := f.fs.Remove(filepath.Join(f.opts.Dir, keysName(last.first))); err != nil {
			f.log.Warn("cannot remove a file of idempotency keys", "name", keysName(last.first), "error", err)
		}
	}
	*last = sc
	return nil
}

func (f *Files) writeSidecar(first uint64, keys []keyEntry, oldest int64) (sidecar, error) {
	sc := sidecar{first: first}
	b := make([]byte, sidecarHeader, sidecarHeader+keyEntrySize*len(keys))
	n := uint32(0)
	for i := range keys {
		if keys[i].at <= oldest {
			continue
		}
		b = keys[i].append(b)
		n++
		sc.lastAt = keys[i].at
		sc.end = keys[i].position + uint64(keys[i].rows)
	}
	copy(b, sidecarMagic)
	binary.LittleEndian.PutUint32(b[8:], n)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[sidecarHeader:], castagnoli))
	sc.bytes = int64(len(b))

	path := filepath.Join(f.opts.Dir, keysName(first))
	file, err := f.fs.Create(path + tmpSuffix)
	if err != nil {
		return sc, fmt.Errorf("create %s: %w", path, err)
	}
	err = writeFull(file, b, 0)
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = f.fs.Rename(path+tmpSuffix, path)
	}
	if err == nil {
		err = f.fs.SyncDir(f.opts.Dir)
	}
	if err != nil {
		_ = f.fs.Remove(path + tmpSuffix)
		return sc, fmt.Errorf("write %s: %w", path, err)
	}
	return sc, nil
}

// readSidecar returns errFooter for a damaged one.
func (f *Files) readSidecar(first uint64) (sidecar, []keyEntry, error) {
	sc := sidecar{first: first}
	path := filepath.Join(f.opts.Dir, keysName(first))
	file, err := f.fs.Open(path)
	if err != nil {
		return sc, nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = file.Close() }()
	size, err := file.Size()
	if err != nil {
		return sc, nil, fmt.Errorf("read %s: %w", path, err)
	}
	if size < sidecarHeader || size > maxSegmentBytes || (size-sidecarHeader)%keyEntrySize != 0 {
		return sc, nil, errFooter
	}
	b := make([]byte, size)
	if _, err := readFull(file, b, 0); err != nil {
		return sc, nil, fmt.Errorf("read %s: %w", path, err)
	}
	if string(b[:8]) != sidecarMagic || int64(binary.LittleEndian.Uint32(b[8:]))*keyEntrySize != size-sidecarHeader ||
		binary.LittleEndian.Uint32(b[12:]) != crc32.Checksum(b[sidecarHeader:], castagnoli) {
		return sc, nil, errFooter
	}
	keys := decodeKeys(b[sidecarHeader:])
	sc.bytes = size
	if n := len(keys); n > 0 {
		sc.lastAt, sc.end = keys[n-1].at, keys[n-1].position+uint64(keys[n-1].rows)
	}
	return sc, keys, nil
}

// forgetSidecars removes those whose keys are all too old.
func (f *Files) forgetSidecars() (removed bool) {
	oldest := f.keys.oldest(f.opts.Now())
	for len(f.sidecars) > 0 && f.sidecars[0].lastAt <= oldest {
		name := keysName(f.sidecars[0].first)
		if err := f.fs.Remove(filepath.Join(f.opts.Dir, name)); err != nil {
			f.log.Warn("cannot remove a file of idempotency keys", "name", name, "error", err)
			return removed
		}
		f.sidecars = f.sidecars[1:]
		removed = true
	}
	return removed
}
