package journal

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// faultFS is a disk in memory that tells apart what is written and what is durable. It can be cut off at any operation,
// tear what was not synced, refuse, and be full.
type faultFS struct {
	mu      sync.Mutex
	names   map[string]*inode // as the running system sees them
	durable map[string]*inode // as they are after a power cut
	dirs    map[string]bool
	ops     int
	cutAt   int // the operation at which the power fails; 0: never
	room    int // bytes that files may take; 0: no limit
	noAlloc bool
	// refuse is asked before each operation that changes something: create, rename, remove, syncdir, write, truncate,
	// allocate, sync; and before read. An error is what the operation returns. A write keeps the first half of its bytes.
	refuse func(op, name string) error
}

type inode struct {
	data    []byte
	durable []byte
}

var errPower = errors.New("power cut")

func newFaultFS() *faultFS {
	return &faultFS{names: map[string]*inode{}, durable: map[string]*inode{}, dirs: map[string]bool{}}
}

// step counts an operation and says whether it happens.
func (m *faultFS) step(op, name string) error {
	m.ops++
	if m.cutAt > 0 && m.ops >= m.cutAt {
		return errPower
	}
	if m.refuse != nil {
		return m.refuse(op, name)
	}
	return nil
}

// powerCut returns the disk as the next start finds it. torn nil: exactly what was synced; otherwise any part of the rest,
// in sectors of 512 bytes, may be there as well.
func (m *faultFS) powerCut(torn *rand.Rand) *faultFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := newFaultFS()
	n.noAlloc = m.noAlloc
	maps.Copy(n.dirs, m.dirs)
	all := slices.Sorted(maps.Keys(m.durable))
	for name := range m.names {
		if _, ok := m.durable[name]; !ok {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	copies := map[*inode]*inode{}
	for _, name := range all {
		i := m.durable[name]
		if torn != nil && m.names[name] != i && torn.IntN(2) == 0 {
			i = m.names[name]
		}
		if i == nil {
			continue
		}
		if copies[i] == nil {
			b := i.survive(torn)
			copies[i] = &inode{data: b, durable: slices.Clone(b)}
		}
		n.names[name], n.durable[name] = copies[i], copies[i]
	}
	return n
}

func (i *inode) survive(torn *rand.Rand) []byte {
	if torn == nil {
		return slices.Clone(i.durable)
	}
	size := len(i.durable)
	if len(i.data) != size && torn.IntN(2) == 0 {
		size = len(i.data)
	}
	b := make([]byte, size)
	copy(b, i.durable)
	for from := 0; from < min(size, len(i.data)); from += 512 {
		if torn.IntN(2) == 0 {
			copy(b[from:min(from+512, size)], i.data[from:])
		}
	}
	return b
}

// kill returns the disk after kill -9: the kernel lives and has all that was written.
func (m *faultFS) kill() *faultFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := newFaultFS()
	maps.Copy(n.dirs, m.dirs)
	for name, i := range m.names {
		n.names[name] = &inode{data: slices.Clone(i.data), durable: slices.Clone(i.durable)}
	}
	for name, i := range m.durable {
		if c, ok := n.names[name]; ok && m.names[name] == i {
			n.durable[name] = c
		}
	}
	return n
}

func (m *faultFS) used() (n int) {
	for _, i := range m.names {
		n += len(i.data)
	}
	return n
}

func (m *faultFS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirs[dir] = true
	return nil
}

func (m *faultFS) ReadDir(dir string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[dir] {
		return nil, fs.ErrNotExist
	}
	var entries []fs.DirEntry
	for name, i := range m.names {
		if filepath.Dir(name) == dir {
			entries = append(entries, dirEntry{name: filepath.Base(name), size: int64(len(i.data))})
		}
	}
	for name := range m.dirs {
		if filepath.Dir(name) == dir && name != dir {
			entries = append(entries, dirEntry{name: filepath.Base(name), dir: true})
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (m *faultFS) open(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.names[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &faultFile{m, i, name}, nil
}

func (m *faultFS) Open(name string) (file, error) { return m.open(name) }
func (m *faultFS) Edit(name string) (file, error) { return m.open(name) }

func (m *faultFS) Create(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("create", name); err != nil {
		return nil, err
	}
	m.names[name] = &inode{}
	return &faultFile{m, m.names[name], name}, nil
}

func (m *faultFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("rename", to); err != nil {
		return err
	}
	i, ok := m.names[from]
	if !ok {
		return fs.ErrNotExist
	}
	delete(m.names, from)
	m.names[to] = i
	return nil
}

func (m *faultFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("remove", name); err != nil {
		return err
	}
	if _, ok := m.names[name]; !ok {
		return fs.ErrNotExist
	}
	delete(m.names, name)
	return nil
}

func (m *faultFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.step("syncdir", dir); err != nil {
		return err
	}
	maps.DeleteFunc(m.durable, func(name string, _ *inode) bool { return filepath.Dir(name) == dir })
	for name, i := range m.names {
		if filepath.Dir(name) == dir {
			m.durable[name] = i
		}
	}
	return nil
}

type faultFile struct {
	m    *faultFS
	i    *inode
	name string
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.m.refuse != nil {
		if err := f.m.refuse("read", f.name); err != nil {
			return 0, err
		}
	}
	if off >= int64(len(f.i.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.i.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	err := f.m.step("write", f.name)
	if err != nil {
		p = p[:len(p)/2]
	}
	if need := int(off) + len(p) - len(f.i.data); need > 0 {
		if f.m.room > 0 {
			if left := f.m.room - f.m.used(); need > left {
				p, err = p[:max(0, len(p)-need+left)], syscall.ENOSPC
			}
		}
		f.i.data = append(f.i.data, make([]byte, max(0, int(off)+len(p)-len(f.i.data)))...)
	}
	if errors.Is(err, errPower) && off >= int64(len(f.i.data)) {
		return 0, err
	}
	n := copy(f.i.data[min(int(off), len(f.i.data)):], p)
	return n, err
}

func (f *faultFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.step("truncate", f.name); err != nil {
		return err
	}
	return f.resize(size)
}

func (f *faultFile) resize(size int64) error {
	if need := int(size) - len(f.i.data); need > 0 {
		if f.m.room > 0 && f.m.used()+need > f.m.room {
			return syscall.ENOSPC
		}
		f.i.data = append(f.i.data, make([]byte, need)...)
	}
	f.i.data = slices.Clone(f.i.data[:size])
	return nil
}

func (f *faultFile) Allocate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.step("allocate", f.name); err != nil {
		return err
	}
	if f.m.noAlloc {
		return errors.ErrUnsupported
	}
	if size <= int64(len(f.i.data)) {
		return nil
	}
	return f.resize(size)
}

func (f *faultFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.step("sync", f.name); err != nil {
		return err
	}
	f.i.durable = slices.Clone(f.i.data)
	return nil
}

func (f *faultFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.i.data)), nil
}

func (f *faultFile) Close() error { return nil }

type dirEntry struct {
	name string
	size int64
	dir  bool
}

func (e dirEntry) Name() string               { return e.name }
func (e dirEntry) IsDir() bool                { return e.dir }
func (e dirEntry) Type() fs.FileMode          { return e.Mode().Type() }
func (e dirEntry) Info() (fs.FileInfo, error) { return e, nil }
func (e dirEntry) Size() int64                { return e.size }
func (e dirEntry) ModTime() time.Time         { return time.Time{} }
func (e dirEntry) Sys() any                   { return nil }
func (e dirEntry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir
	}
	return 0
}
