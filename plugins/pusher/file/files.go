package main

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/plugins/internal/durable"
)

const (
	// rotationDigits in name-000001.jsonl.
	rotationDigits = 6
	// syncs at once: a batch of many uuids may go to many files.
	parallelSyncs = 16
)

// files are the open ones, least recently used last; at most limit of them.
type files struct {
	limit          int
	rotateSize     int64         // 0: never
	rotateInterval time.Duration // 0: never
	now            func() time.Time
	create         func(path string) (durable.File, error)

	open map[string]*list.Element // of *openFile, by path
	used *list.List
	// torn are files whose half-written end could not be cut, with the size to cut them to before they are used again.
	torn map[string]int64
}

type openFile struct {
	path    string
	handle  durable.File
	size    int64
	written time.Time // when it was last written to
}

func newFiles(limit int, rotateSize int64, rotateInterval time.Duration) *files {
	return &files{limit: limit, rotateSize: rotateSize, rotateInterval: rotateInterval, now: time.Now, create: durable.Create,
		open: map[string]*list.Element{}, used: list.New(), torn: map[string]int64{}}
}

// get opens a file, or finds it open and still the one of that name.
func (f *files) get(path string) (*openFile, error) {
	if size, ok := f.torn[path]; ok {
		if err := os.Truncate(path, size); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cut the torn end: %w", err)
		}
		delete(f.torn, path)
	}
	if element, ok := f.open[path]; ok {
		file := element.Value.(*openFile)
		if f.still(file) {
			f.used.MoveToFront(element)
			return file, nil
		}
		f.drop(path) // moved or deleted under us: what we wrote now would go nowhere
	}
	for f.used.Len() >= f.limit {
		f.drop(f.used.Back().Value.(*openFile).path)
	}
	folder := filepath.Dir(path)
	if err := durable.MakeFolder(folder); err != nil {
		return nil, err
	}
	_, err := os.Lstat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	opened, err := f.create(path)
	if err != nil {
		return nil, err
	}
	info, err := opened.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err == nil && isNew {
		err = durable.SyncFolder(folder)
	}
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	file := &openFile{path: path, handle: opened, size: info.Size(), written: info.ModTime()}
	f.open[path] = f.used.PushFront(file)
	return file, nil
}

// still tells whether the open file is the one that its path names, and takes over its size: others may have cut it.
func (f *files) still(file *openFile) bool {
	named, err := os.Stat(file.path)
	if err != nil {
		return false
	}
	info, err := file.handle.Stat()
	if err != nil || !os.SameFile(named, info) {
		return false
	}
	file.size = info.Size()
	return true
}

// drop closes a file. Everything in it is synced, or cut again.
func (f *files) drop(path string) {
	element, ok := f.open[path]
	if !ok {
		return
	}
	_ = element.Value.(*openFile).handle.Close()
	f.used.Remove(element)
	delete(f.open, path)
}

func (f *files) close() {
	for path := range f.open {
		f.drop(path)
	}
}

// full tells whether the file must be rotated before more bytes go in: it would grow too large, or was last written to in
// an earlier interval. Intervals are counted from the Unix epoch, so 1h begins with each hour.
func (f *files) full(file *openFile, more int) bool {
	if file.size == 0 {
		return false
	}
	if f.rotateSize > 0 && file.size+int64(more) > f.rotateSize {
		return true
	}
	return f.rotateInterval > 0 && f.now().UnixNano()/int64(f.rotateInterval) != file.written.UnixNano()/int64(f.rotateInterval)
}

// rotate moves name.jsonl to name-000001.jsonl, or the next number that is free.
func (f *files) rotate(file *openFile) error {
	folder, name := filepath.Split(file.path)
	extension := filepath.Ext(name)
	stem := strings.TrimSuffix(name, extension) + "-"
	entries, err := os.ReadDir(filepath.Clean(folder + "."))
	if err != nil {
		return err
	}
	last := 0
	for _, entry := range entries {
		digits, ok := strings.CutPrefix(entry.Name(), stem)
		if !ok {
			continue
		}
		digits, ok = strings.CutSuffix(digits, extension)
		if n, err := strconv.Atoi(digits); ok && err == nil && len(digits) >= rotationDigits {
			last = max(last, n)
		}
	}
	to := filepath.Join(folder, fmt.Sprintf("%s%0*d%s", stem, rotationDigits, last+1, extension))
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate: %s is there already", to)
	}
	if err := os.Rename(file.path, to); err != nil {
		return err
	}
	f.drop(file.path)
	return durable.SyncFolder(filepath.Dir(to))
}

// appendTo writes at the end. On an error the caller calls cut.
func (f *files) appendTo(file *openFile, text []byte) error {
	if _, err := file.handle.WriteAt(text, file.size); err != nil {
		return err
	}
	return nil
}

// cut takes back what was written beyond the file's size.
func (f *files) cut(file *openFile) {
	err := file.handle.Truncate(file.size)
	if err == nil {
		err = file.handle.Sync()
	}
	if err != nil {
		f.torn[file.path] = file.size
	}
	f.drop(file.path) // after a failed sync a handle is not to be trusted
}

// syncAll makes the files durable and returns the first that could not be.
func syncAll(all []*openFile) (failed *openFile, err error) {
	problems := make([]error, len(all))
	var group errgroup.Group
	group.SetLimit(parallelSyncs)
	for i, file := range all {
		group.Go(func() error {
			problems[i] = file.handle.Sync()
			return nil
		})
	}
	_ = group.Wait() // every error is in problems
	for i, err := range problems {
		if err != nil {
			return all[i], err
		}
	}
	return nil, nil
}
