package trouble

import (
	"io/fs"
	"sync"
	"syscall"

	"github.com/rivergate/rivergate/plugins/internal/durable"
)

// Disk is real files with room for so many bytes more, and a sync that may fail.
type Disk struct {
	mu       sync.Mutex
	room     int
	syncFail error
}

// NewDisk has room for so many bytes.
func NewDisk(room int) *Disk { return &Disk{room: room} }

// Set changes how many more bytes have room, and has the next sync fail, once; nil: it does not.
func (d *Disk) Set(room int, syncFail error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room, d.syncFail = room, syncFail
}

// Create is durable.Create on the disk.
func (d *Disk) Create(path string) (durable.File, error) {
	file, err := durable.Create(path)
	if err != nil {
		return nil, err
	}
	return &diskFile{file: file, disk: d}, nil
}

type diskFile struct {
	file durable.File
	disk *Disk
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	fits := min(len(p), f.disk.room)
	n, err := f.file.WriteAt(p[:fits], off)
	f.disk.room -= n
	if err == nil && fits < len(p) {
		err = syscall.ENOSPC
	}
	return n, err
}

func (f *diskFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.syncFail; err != nil {
		f.disk.syncFail = nil
		return err
	}
	return f.file.Sync()
}

func (f *diskFile) Truncate(size int64) error  { return f.file.Truncate(size) }
func (f *diskFile) Stat() (fs.FileInfo, error) { return f.file.Stat() }
func (f *diskFile) Close() error               { return f.file.Close() }
