package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rivergate/rivergate/plugins/internal/durable"
	"github.com/rivergate/rivergate/plugins/internal/positions"
	"github.com/rivergate/rivergate/plugins/internal/template"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// spool keeps rows on disk from their acknowledgement until the bucket has them. Its folder holds:
//
//	lock              held as long as an instance uses the folder
//	id                what this spool is called in keys: made once, at random, so that no two spools ever meet in one key
//	positions         the rows that were in the spool when the last segment left it: with those of the segments, all that are known
//	000000000001.seg  a segment; the last one grows
//	000000000001.cut  what becomes of it; from then on it is sealed, and leaves the spool when its objects are in the bucket
//	…….damaged        a segment, of which acknowledged rows cannot be read, set aside for a person to look at
type spool struct {
	dir  string
	id   string
	lock *os.File
	log  sdk.Logger
	path template.Template
	opts spoolOptions

	gather sync.Mutex // guards gathering
	// gathering is the batches that go to the disk together, when those before them have got there.
	gathering *group

	disk sync.Mutex // held while a segment is written to or sealed; guards what follows
	open *segment   // nil until the next row
	last uint64     // the highest number of a segment
	buf  []byte

	settling sync.Mutex // held while a segment leaves

	mu      sync.Mutex // guards what follows; the last of these locks, never held while the disk is waited for
	written positions.Set
	sealed  []*segment // in order, not in the bucket yet
	bytes   int64      // of all segments
	damaged []string   // files that were set aside
}

type spoolOptions struct {
	instance     string
	pathText     string
	layout       layout
	rollSize     int64
	rollRows     int64
	rollInterval time.Duration
	now          func() time.Time
	create       func(path string) (durable.File, error)
}

type segment struct {
	number uint64
	path   string
	size   int64
	cut    *cut // nil as long as it grows

	// While it grows:
	salt    salt
	tally   tally
	born    time.Time
	damaged bool
	file    durable.File // nil after a failure: what is behind size is cut off before the next row
}

const (
	spoolIDSize    = 6 // bytes: 12 hex digits
	positionsTitle = "rivergate-s3-positions 1\n"
	segmentSuffix  = ".seg"
	cutSuffix      = ".cut"
	damagedSuffix  = ".damaged"
	objectSuffix   = ".object" // being written for the upload; nothing of a crash that is worth keeping
)

func (s *spool) name(number uint64, suffix string) string {
	return filepath.Join(s.dir, fmt.Sprintf("%012d%s", number, suffix))
}

// openSpool takes the lock and reads back what an earlier process left.
func openSpool(dir string, opts spoolOptions, log sdk.Logger) (opened *spool, err error) {
	s := &spool{dir: dir, log: log, opts: opts}
	if s.path, err = parsePath(opts.pathText); err != nil {
		return nil, err
	}
	if err := durable.MakeFolder(dir); err != nil {
		return nil, fmt.Errorf("make the spool's folder: %w", err)
	}
	if s.lock, err = durable.Lock(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.release() // the first error says more
		}
	}()
	if err := s.identify(); err != nil {
		return nil, fmt.Errorf("read the spool's id: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "positions"))
	if err == nil {
		s.written, _, err = positions.Parse(positionsTitle, text)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; rows that come again would be put twice: restore the file, or move the whole folder away", filepath.Join(dir, "positions"), err)
	}
	if err := s.readBack(); err != nil {
		return nil, err
	}
	return s, nil
}

// identify reads the spool's id, or makes one.
func (s *spool) identify() error {
	path := filepath.Join(s.dir, "id")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := make([]byte, spoolIDSize)
		_, _ = rand.Read(id) // never fails
		s.id = hex.EncodeToString(id)
		return durable.Replace(path, []byte(s.id+"\n"))
	}
	if err != nil {
		return err
	}
	s.id = strings.TrimSpace(string(text))
	if raw, err := hex.DecodeString(s.id); err != nil || len(raw) != spoolIDSize {
		return fmt.Errorf("%s holds no id; move the folder away to begin a new spool", path)
	}
	return nil
}

// readBack finds the segments, and makes sure that each but the last is sealed.
func (s *spool) readBack() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	var numbers []uint64
	cuts := map[uint64]bool{}
	for _, entry := range entries {
		name := entry.Name()
		number, err := strconv.ParseUint(strings.TrimSuffix(name, filepath.Ext(name)), 10, 64)
		switch ext := filepath.Ext(name); {
		case ext == damagedSuffix:
			s.damaged = append(s.damaged, filepath.Join(s.dir, name))
		case ext == objectSuffix, ext == ".new":
			if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
				return fmt.Errorf("clean the spool up: %w", err)
			}
		case err != nil:
		case ext == segmentSuffix:
			numbers = append(numbers, number)
			s.last = max(s.last, number)
		case ext == cutSuffix:
			cuts[number] = true
			s.last = max(s.last, number)
		}
	}
	slices.Sort(numbers)
	for i, number := range numbers {
		seg, err := s.readSegment(number)
		if err != nil {
			return fmt.Errorf("read back %s: %w", s.name(number, segmentSuffix), err)
		}
		if seg == nil {
			continue
		}
		s.bytes += seg.size
		delete(cuts, number)
		switch {
		case seg.cut != nil:
			s.sealed = append(s.sealed, seg)
		case i == len(numbers)-1 && !seg.damaged:
			s.open = seg
		default:
			s.open = seg
			if err := s.seal(); err != nil {
				return err
			}
		}
	}
	for number := range cuts { // its segment has left
		if err := os.Remove(s.name(number, cutSuffix)); err != nil {
			return fmt.Errorf("clean the spool up: %w", err)
		}
	}
	return nil
}

// readSegment reads back one segment. nil: there was nothing in it.
func (s *spool) readSegment(number uint64) (*segment, error) {
	seg := &segment{number: number, path: s.name(number, segmentSuffix)}
	text, err := os.ReadFile(s.name(number, cutSuffix))
	if err == nil {
		if seg.cut, err = parseCut(text); err != nil {
			return nil, fmt.Errorf("its cut %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.OpenFile(seg.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() // synced below
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if seg.cut != nil {
		size = min(size, seg.cut.Size)
	}
	found, err := scanSegment(file, size, func(_ extent, f *protocol.Frame) error {
		s.written.Add(f.Position, f.Position+uint64(f.Len())-1) //nolint:gosec // a frame has a row
		if seg.cut == nil {
			seg.tally.add(s.pathOf(f), f.Position, f.Len())
		}
		return nil
	})
	if errors.Is(err, errNoSegment) && seg.cut == nil && size <= int64(headerSize) {
		s.log.Warn("a segment was begun and never written to; it is removed", "file", seg.path)
		return nil, os.Remove(seg.path)
	}
	if errors.Is(err, errNoSegment) {
		s.log.Error("a segment of the spool cannot be read at all", "file", seg.path)
		return nil, s.setAside(number)
	}
	if err != nil {
		return nil, err
	}
	seg.salt, seg.size, seg.born = found.salt, size, found.born
	if seg.cut != nil {
		return seg, nil
	}
	seg.damaged = found.damaged
	if found.end < size && !found.damaged {
		s.log.Warn("cutting a torn end off the spool; its rows were never acknowledged", "file", seg.path, "from", found.end, "bytes", size-found.end)
		if err := file.Truncate(found.end); err != nil {
			return nil, err
		}
		seg.size = found.end
	}
	// What is known as written must be durable: the write may have come through and the sync not.
	if err := file.Sync(); err != nil {
		return nil, err
	}
	if seg.tally.rows == 0 && !seg.damaged {
		return nil, os.Remove(seg.path)
	}
	return seg, nil
}

func (s *spool) pathOf(f *protocol.Frame) string {
	for row := range rowsOf(f).Rows() {
		return s.path.FillWith(row, s.opts.instance, template.Name) // one for all rows of a request
	}
	return ""
}

// run is rows of one request, one behind the other.
type run struct {
	frame    *protocol.Frame
	path     string
	from, to int
}

// has tells whether the row is in the spool or in an object.
func (s *spool) has(position uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.Has(position)
}

// group is batches that are written and synced together.
type group struct {
	runs    []run
	size    int64
	written bool // guarded by disk, like what follows
	sealed  bool
	err     error
}

// append writes the rows and syncs them, with those of other calls that wait for the disk: all of them or, after an error, none.
// sealed tells that there is something to upload.
func (s *spool) append(runs []run, size int64) (sealed bool, err error) {
	s.gather.Lock()
	if s.gathering == nil {
		s.gathering = new(group)
	}
	g := s.gathering
	g.runs, g.size = append(g.runs, runs...), g.size+size
	s.gather.Unlock()

	s.disk.Lock()
	defer s.disk.Unlock()
	if !g.written {
		s.gather.Lock()
		s.gathering = nil // nobody joins any more
		s.gather.Unlock()
		g.sealed, g.err = s.write(g)
		g.written, g.runs = true, nil
	}
	return g.sealed, g.err
}

// write is append of a whole group. The caller holds disk.
func (s *spool) write(g *group) (sealed bool, err error) {
	if s.open != nil && s.open.tally.rows > 0 && s.open.size+g.size > s.opts.rollSize {
		if err := s.seal(); err != nil {
			return false, err
		}
		sealed = true
	}
	seg, err := s.growing()
	if err != nil {
		return sealed, err
	}
	s.buf = s.buf[:0]
	for _, r := range g.runs {
		s.buf = appendRecord(s.buf, seg.salt, r.frame, r.from, r.to)
	}
	_, err = seg.file.WriteAt(s.buf, seg.size)
	if err == nil {
		err = seg.file.Sync()
	}
	if err != nil {
		s.takeBack(seg)
		return sealed, err
	}
	size := seg.size + int64(len(s.buf))
	// Not synced: it is for the case that the end of the file is hurt although it was acknowledged.
	if mark := appendMark(nil, seg.salt, size); writeAll(seg.file, mark, size) {
		size += int64(len(mark))
	}
	s.mu.Lock()
	s.bytes += size - seg.size
	for _, r := range g.runs {
		first := r.frame.Position + uint64(r.from)        //nolint:gosec // not below 0
		s.written.Add(first, first+uint64(r.to-r.from)-1) //nolint:gosec // the same
	}
	s.mu.Unlock()
	seg.size = size
	for _, r := range g.runs {
		seg.tally.add(r.path, r.frame.Position+uint64(r.from), r.to-r.from) //nolint:gosec // the same
	}
	if cap(s.buf) > 32<<20 {
		s.buf = nil
	}
	if seg.size >= s.opts.rollSize || seg.tally.rows >= s.opts.rollRows {
		if err := s.seal(); err != nil {
			s.log.Warn("a segment of the spool cannot be sealed yet", "error", err)
			return sealed, nil // the rows are safe
		}
		sealed = true
	}
	return sealed, nil
}

// writeAll writes the text, or takes it back.
func writeAll(file durable.File, text []byte, at int64) bool {
	if _, err := file.WriteAt(text, at); err != nil {
		_ = file.Truncate(at) // half a mark is none
		return false
	}
	return true
}

// growing is the segment that takes rows. The caller holds disk.
func (s *spool) growing() (*segment, error) {
	if s.open != nil && s.open.file != nil {
		return s.open, nil
	}
	if s.open != nil { // after a failure, or a restart
		file, err := s.opts.create(s.open.path)
		if err != nil {
			return nil, err
		}
		if err := file.Truncate(s.open.size); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		s.open.file = file
		return s.open, nil
	}
	seg := &segment{number: s.last + 1, path: s.name(s.last+1, segmentSuffix), born: s.opts.now(), size: int64(headerSize)}
	_, _ = rand.Read(seg.salt[:]) // never fails
	file, err := s.opts.create(seg.path)
	if err != nil {
		return nil, err
	}
	if err = file.Truncate(0); err == nil { // left by a failure here
		_, err = file.WriteAt(appendHeader(nil, seg.salt, seg.born), 0)
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = durable.SyncFolder(s.dir)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	seg.file = file
	s.open, s.last = seg, seg.number
	s.mu.Lock()
	s.bytes += seg.size
	s.mu.Unlock()
	return seg, nil
}

// takeBack cuts off what a failed write left. After a failed sync a handle is not to be trusted. The caller holds disk.
func (s *spool) takeBack(seg *segment) {
	if err := seg.file.Truncate(seg.size); err == nil {
		_ = seg.file.Sync() // cut again before the next row
	}
	_ = seg.file.Close()
	seg.file = nil
}

// seal fixes what becomes of the growing segment; durable on return. The caller holds disk.
func (s *spool) seal() error {
	seg := s.open
	c := &cut{Size: seg.size, Path: s.opts.pathText, Objects: seg.tally.objects, Damaged: seg.damaged, layout: s.opts.layout}
	text, err := c.text()
	if err != nil {
		return fmt.Errorf("seal a segment: %w", err)
	}
	if seg.file != nil { // the last mark, too
		if err := seg.file.Sync(); err != nil {
			s.takeBack(seg)
			return fmt.Errorf("seal a segment: %w", err)
		}
	}
	if err := durable.Replace(s.name(seg.number, cutSuffix), text); err != nil {
		return fmt.Errorf("seal a segment: %w", err)
	}
	if seg.file != nil {
		_ = seg.file.Close() // synced
		seg.file = nil
	}
	seg.cut, seg.tally = c, tally{}
	s.mu.Lock()
	s.sealed = append(s.sealed, seg)
	s.mu.Unlock()
	s.open = nil
	return nil
}

// sealAged seals the growing segment when it is old enough, and says when to ask again.
func (s *spool) sealAged(always bool) (again time.Duration, err error) {
	s.disk.Lock()
	defer s.disk.Unlock()
	if s.open == nil || s.open.tally.rows == 0 && !s.open.damaged {
		return s.opts.rollInterval, nil
	}
	if left := s.open.born.Add(s.opts.rollInterval).Sub(s.opts.now()); left > 0 && !always {
		return left, nil
	}
	if err := s.seal(); err != nil {
		return time.Second, err
	}
	return s.opts.rollInterval, nil
}

// waiting are the sealed segments.
func (s *spool) waiting() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sealed)
}

// held is the size of all segments, bytes.
func (s *spool) held() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// settle lets a segment go whose objects are in the bucket. That its rows are known is durable before. lost tells that rows of it could
// not be read; then it is set aside.
func (s *spool) settle(seg *segment, lost bool) error {
	s.settling.Lock() // one after another; rows are taken meanwhile
	defer s.settling.Unlock()
	s.mu.Lock()
	known := s.written.Text(positionsTitle)
	s.mu.Unlock()
	if err := durable.Replace(filepath.Join(s.dir, "positions"), known); err != nil {
		return fmt.Errorf("write the positions of the spool: %w", err)
	}
	if lost || seg.cut.Damaged {
		if err := s.setAside(seg.number); err != nil {
			return err
		}
	} else {
		// The segment goes before its cut: without it, it would be sealed once more, perhaps in another way.
		if err := os.Remove(seg.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a segment: %w", err)
		}
		if err := durable.SyncFolder(s.dir); err != nil {
			return fmt.Errorf("remove a segment: %w", err)
		}
	}
	if err := os.Remove(s.name(seg.number, cutSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the cut of a segment: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = slices.DeleteFunc(s.sealed, func(other *segment) bool { return other == seg })
	s.bytes -= seg.size
	return nil
}

// setAside keeps a damaged segment where nothing reads it.
func (s *spool) setAside(number uint64) error {
	to := s.name(number, damagedSuffix)
	if err := os.Rename(s.name(number, segmentSuffix), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set a damaged segment aside: %w", err)
	}
	if err := durable.SyncFolder(s.dir); err != nil {
		return fmt.Errorf("set a damaged segment aside: %w", err)
	}
	s.mu.Lock()
	s.damaged = append(s.damaged, to)
	s.mu.Unlock()
	s.log.Error("a segment of the spool is damaged: rows that were acknowledged cannot be read. It is set aside", "file", to)
	return nil
}

// damage says which segments were set aside, as long as they are there.
func (s *spool) damage() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged = slices.DeleteFunc(s.damaged, func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	})
	if len(s.damaged) == 0 {
		return nil
	}
	return fmt.Errorf("%d damaged segments of the spool were set aside, rows that were acknowledged are missing from the bucket: "+
		"look at %s, then move it away", len(s.damaged), s.damaged[0])
}

// release closes what is open. What is in the spool stays there.
func (s *spool) release() error {
	if s.open != nil && s.open.file != nil {
		_ = s.open.file.Close() // synced
	}
	return s.lock.Close()
}
