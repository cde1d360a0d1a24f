package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path"
	"strconv"
	"sync"
	"syscall"
)

// stripes is how many of a kind can be locked at the same moment.
const stripes = 64

// locks makes what must happen to a key, or to an upload, at once happen at once: of all goroutines, and of another process that
// serves the same folders during an upgrade. Keys are locked while names change, never while bytes are copied. Several names share
// a stripe, so keys and uploads have sets of their own: whoever holds an upload may take a key, and nobody takes a second of a set.
type locks struct {
	mine  [stripes]sync.Mutex
	files [stripes]*os.File
}

func openLocks(root *os.Root, folder string) (*locks, error) {
	if err := root.MkdirAll(folder, 0o750); err != nil {
		return nil, err
	}
	l := &locks{}
	for i := range l.files {
		var err error
		if l.files[i], err = root.OpenFile(path.Join(folder, strconv.Itoa(i)), os.O_RDWR|os.O_CREATE, 0o640); err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	return l, nil
}

// take locks a name until the function that it returns is called.
func (l *locks) take(name string) (release func(), err error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	i := h.Sum32() % stripes
	l.mine[i].Lock()
	for {
		err := syscall.Flock(int(l.files[i].Fd()), syscall.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EINTR) {
			l.mine[i].Unlock()
			return nil, fmt.Errorf("lock a name: %w", err)
		}
	}
	return func() {
		_ = syscall.Flock(int(l.files[i].Fd()), syscall.LOCK_UN)
		l.mine[i].Unlock()
	}, nil
}

func (l *locks) close() error {
	if l == nil {
		return nil
	}
	var errs []error
	for _, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
