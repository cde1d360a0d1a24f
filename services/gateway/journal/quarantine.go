package journal

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

const (
	quarantineDir    = "quarantine"
	quarantineSuffix = ".bin"
)

// quarantine copies a damaged stretch of a segment to a file of its own, once: the name tells where it was.
func (f *Files) quarantine(src file, s *segment, from, to int64) error {
	name := fmt.Sprintf("%s-%d%s", strings.TrimSuffix(s.name, segmentSuffix), from, quarantineSuffix)
	dir := filepath.Join(f.opts.Dir, quarantineDir)
	path := filepath.Join(dir, name)
	if old, err := f.fs.Open(path); err == nil {
		size, err := old.Size()
		_ = old.Close()
		if err == nil && size == to-from {
			return nil // seen before
		}
	}
	if err := f.fs.MkdirAll(dir); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	dst, err := f.fs.Create(path)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	err = copyRange(dst, src, from, to)
	if err == nil {
		err = dst.Sync()
	}
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = f.fs.SyncDir(dir)
	}
	if err == nil {
		err = f.fs.SyncDir(f.opts.Dir)
	}
	if err != nil {
		_ = f.fs.Remove(path)
		return fmt.Errorf("write %s: %w", path, err)
	}
	f.quarantined.Add(to - from)
	return nil
}

func copyRange(dst, src file, from, to int64) error {
	w := newWindow(src, to)
	for off := from; off < to; {
		b, err := w.peek(off, windowBytes)
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return nil
		}
		if err := writeFull(dst, b, off-from); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// countQuarantined adds up what earlier runs set aside.
func (f *Files) countQuarantined() {
	entries, err := f.fs.ReadDir(filepath.Join(f.opts.Dir, quarantineDir))
	if err != nil {
		return // no folder, nothing set aside
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode()&fs.ModeType != 0 {
			continue
		}
		f.quarantined.Add(info.Size())
	}
}

// report says what was lost. Positions are rows: the gap that readers will see.
func (f *Files) report(s *segment, st stretch, what string) {
	args := []any{"segment", s.name, "offset", st.from, "bytes", st.to - st.from}
	if st.lost > 0 {
		args = append(args, "first_lost_position", st.at, "lost_rows", st.lost)
	}
	f.log.Error(what, args...)
}
