package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/rivergate/rivergate/plugins/internal/durable"
	"github.com/rivergate/rivergate/plugins/internal/positions"
)

// ledger knows which rows are in the files, over restarts and crashes. It is a small file beside them:
//
//	rivergate-positions 1
//	1000-1999                   ranges of positions that are in files, synced
//	2100-2100
//	end 5f3a0c11                checksum of the lines above; so far the file is replaced as a whole (a checkpoint)
//	touch 4096 "1/x.jsonl"      appended and synced before anything is written to that file at or beyond that offset
//
// After a crash, whatever was written since the checkpoint stands in the touched files behind their offsets, and is read
// back from there. So the steady state costs no sync beyond that of the data, and a batch that was written but not
// acknowledged is known.
type ledger struct {
	path    string
	lock    *os.File
	claim   *os.File // locked: no other instance writes these files
	file    *os.File // for touches; positioned at size
	size    int64
	written positions.Set
	touched map[string]int64 // by path relative to the ledger's folder
}

const (
	ledgerTitle = "rivergate-positions 1\n"
	lockSuffix  = ".lock" // of a file that is held locked as long as the instance runs
)

// errLocked: another process serves this instance, perhaps an older one that is still finishing.
var errLocked = errors.New("another process still writes these files")

// errTaken: an instance of another name has the path.
var errTaken = errors.New("writes the files of PATH already")

// openLedger takes the lock and reads the last checkpoint and the touches after it.
func openLedger(path string) (l *ledger, err error) {
	lock, err := durable.Lock(path + lockSuffix)
	if errors.Is(err, durable.ErrLocked) {
		return nil, errLocked
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close() // nothing was written to it
		}
	}()
	l = &ledger{path: path, lock: lock, touched: map[string]int64{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	if err := l.parse(text); err != nil {
		return nil, fmt.Errorf("ledger %s: %w; move it away to start a new one", path, err)
	}
	return l, nil
}

func (l *ledger) parse(text []byte) error {
	var rest []byte
	var err error
	if l.written, rest, err = positions.Parse(ledgerTitle, text); err != nil {
		return err
	}
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found {
			return nil // a torn touch: nothing was written on its account
		}
		var offset int64
		var path string
		if _, err := fmt.Sscanf(string(line), "touch %d %q", &offset, &path); err != nil {
			return fmt.Errorf("has a line that is none of ours: %w", err)
		}
		if at, ok := l.touched[path]; !ok || offset < at {
			l.touched[path] = offset
		}
		rest = after
	}
}

// recover reads back what the touched files hold beyond the checkpoint, cuts torn ends, and makes a new checkpoint.
func (l *ledger) recover(warn func(string, ...any)) error {
	for _, path := range slices.Sorted(maps.Keys(l.touched)) {
		if err := l.readBack(filepath.Join(filepath.Dir(l.path), path), l.touched[path], warn); err != nil {
			return fmt.Errorf("read back %s: %w", path, err)
		}
	}
	return l.checkpoint()
}

func (l *ledger) readBack(path string, offset int64, warn func(string, ...any)) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // touched, then never made; or taken away, and then nobody can tell
	}
	if err != nil {
		return err
	}
	defer file.Close() // synced below
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	reader := bufio.NewReaderSize(file, 1<<20)
	var buf []byte
	at := offset // the end of the last whole record
	for eof := false; !eof; {
		chunk := make([]byte, 1<<20)
		n, err := io.ReadFull(reader, chunk)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		eof = err != nil
		buf = append(buf, chunk[:n]...)
		for {
			end := recordEnd(buf)
			if end == 0 {
				break
			}
			record := buf[:end]
			position, err := readPosition(record)
			switch {
			case holed(record, err == nil):
				// Blocks that a power failure left unwritten. Nothing from here on was synced, so nothing was acknowledged.
				eof, end = true, 0
			case err == nil:
				l.written.Add(position, position)
			case string(record) != csvHeader:
				warn("a line is not ours and stays", "file", path, "offset", at)
			}
			if end == 0 {
				buf = record
				break
			}
			at += int64(end)
			buf = buf[end:]
		}
	}
	if len(buf) > 0 {
		warn("cutting a torn end", "file", path, "offset", at)
		if err := file.Truncate(at); err != nil {
			return err
		}
	}
	// What is known as written must be durable: the write may have come through and the sync not.
	return file.Sync()
}

// checkpoint replaces the ledger: all that is in files is listed, and no file is touched.
func (l *ledger) checkpoint() error {
	text := l.written.Text(ledgerTitle)
	next, err := os.OpenFile(l.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	_, err = next.Write(text)
	if err == nil {
		err = next.Sync()
	}
	if err == nil {
		err = os.Rename(next.Name(), l.path)
	}
	if err != nil {
		_ = next.Close()           // the old ledger holds
		_ = os.Remove(next.Name()) // or was never made
		return fmt.Errorf("write ledger: %w", err)
	}
	// From here on the new ledger is the one of that name, also when the folder cannot be synced: touches belong into it.
	if l.file != nil {
		_ = l.file.Close() // replaced
	}
	l.file, l.size = next, int64(len(text))
	clear(l.touched)
	if err := durable.SyncFolder(filepath.Dir(l.path)); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

// touch notes that files are about to grow from the given sizes; durable on return. Files that were touched since the
// checkpoint, and have not shrunk below, cost nothing.
func (l *ledger) touch(sizes map[string]int64) error {
	var lines bytes.Buffer
	for path, size := range sizes {
		if at, ok := l.touched[path]; ok && at <= size {
			delete(sizes, path)
			continue
		}
		fmt.Fprintf(&lines, "touch %d %q\n", size, path)
	}
	if lines.Len() == 0 {
		return nil
	}
	_, err := l.file.WriteAt(lines.Bytes(), l.size)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		_ = l.file.Truncate(l.size) // half a line at the end is understood, too
		return fmt.Errorf("write ledger: %w", err)
	}
	l.size += int64(lines.Len())
	maps.Copy(l.touched, sizes)
	return nil
}

// close makes a last checkpoint, so that the next start reads nothing back, and gives the lock up.
func (l *ledger) close() error { return errors.Join(l.checkpoint(), l.release()) }

// release closes the files. The locks go last.
func (l *ledger) release() error {
	var err error
	if l.file != nil {
		err = l.file.Close()
	}
	if l.claim != nil {
		err = errors.Join(err, l.claim.Close())
	}
	return errors.Join(err, l.lock.Close())
}

// takeClaim locks the path for this instance, whose ledger is locked already. Two instances that append to one file would
// write over each other's rows, and take them for their own.
func takeClaim(path, instance string) (claim *os.File, err error) {
	claim, err = durable.Lock(path)
	if errors.Is(err, durable.ErrLocked) {
		holder, _ := os.ReadFile(path) // only a help
		return nil, fmt.Errorf("the instance %s %w; give one of the two another PATH, or one with {instance}", bytes.TrimSpace(holder), errTaken)
	}
	if err != nil {
		return nil, err
	}
	// Who holds it is told to the other one; a full disk may keep that from being written.
	if claim.Truncate(0) == nil {
		_, _ = claim.WriteAt([]byte(instance+"\n"), 0)
	}
	return claim, nil
}
