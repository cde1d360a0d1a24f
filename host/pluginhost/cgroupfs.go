package pluginhost

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// cgroupFS is what is needed of /proc and of the cgroup tree. Paths are absolute. Errors are those of package os.
type cgroupFS interface {
	Read(path string) (string, error)
	Write(path, text string) error
	Mkdir(path string) error
	Rmdir(path string) error
	Folders(path string) ([]string, error) // names of the folders in a folder
	Open(path string) (*os.File, error)    // of a folder
	// Lock holds a folder until unlock, or until the process ends. It fails when another holds it.
	Lock(path string) (unlock func(), err error)
}

// kernelFS is the real one.
type kernelFS struct{}

var _ cgroupFS = kernelFS{}

func (kernelFS) Read(path string) (string, error) {
	text, err := os.ReadFile(path)
	return string(text), err
}

func (kernelFS) Write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (kernelFS) Mkdir(path string) error { return os.Mkdir(path, 0o755) }

func (kernelFS) Rmdir(path string) error {
	if err := syscall.Rmdir(path); err != nil { // os.Remove would try to unlink first, and say why that failed
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

func (kernelFS) Folders(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (kernelFS) Open(path string) (*os.File, error) { return os.Open(filepath.Clean(path)) }

func (kernelFS) Lock(path string) (func(), error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}
