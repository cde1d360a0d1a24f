package journal

import (
	"io/fs"
	"os"
)

// filesystem is what the journal asks of the disk. The operating system's form is osFS; tests use forms that lose what was
// not synced, tear writes and refuse.
type filesystem interface {
	MkdirAll(dir string) error
	ReadDir(dir string) ([]fs.DirEntry, error)
	Open(name string) (file, error)   // for reading
	Edit(name string) (file, error)   // for reading and writing; it must exist
	Create(name string) (file, error) // for reading and writing; emptied if it exists
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes creations, renames and removals in dir durable.
	SyncDir(dir string) error
}

// file is one open file.
type file interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	// Allocate reserves room up to size; what it adds reads as zeros. A file system that cannot do it returns an error,
	// and the journal does without.
	Allocate(size int64) error
	// Sync makes the bytes durable, and the size as far as they need it: fdatasync.
	Sync() error
	Size() (int64, error)
	Close() error
}

// osFS is the operating system's. Its files are synced by sync, which may be nil.
type osFS struct{ sync *aio }

func newOSFS() osFS { return osFS{newAIO()} }

func (s osFS) Close() error { return s.sync.close() }

func (osFS) MkdirAll(dir string) error                 { return os.MkdirAll(dir, 0o700) }
func (osFS) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }
func (osFS) Rename(from, to string) error              { return os.Rename(from, to) }
func (osFS) Remove(name string) error                  { return os.Remove(name) }

func (s osFS) Open(name string) (file, error) { return s.open(name, os.O_RDONLY) }
func (s osFS) Edit(name string) (file, error) { return s.open(name, os.O_RDWR) }
func (s osFS) Create(name string) (file, error) {
	return s.open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (s osFS) open(name string, flag int) (file, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f, s.sync}, nil
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

type osFile struct {
	*os.File
	sync *aio
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
