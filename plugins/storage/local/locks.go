package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"
	"syscall"
)

// stripes is how many keys can be published at the same moment.
const stripes = 64

// locks makes what must happen to a key at once happen at once: of all goroutines, and of another process that serves the same
// folders during an upgrade. They are held while names change, never while bytes are copied.
type locks struct {
	mine  [stripes]sync.Mutex
	files [stripes]*os.File
}

func openLocks(root *os.Root) (*locks, error) {
	if err := root.Mkdir(lockFolder, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	l := &locks{}
	for i := range l.files {
		var err error
		if l.files[i], err = root.OpenFile(path.Join(lockFolder, strconv.Itoa(i)), os.O_RDWR|os.O_CREATE, 0o640); err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	return l, nil
}

// take locks a key until the function that it returns is called.
func (l *locks) take(key string) (release func(), err error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	i := h.Sum32() % stripes
	l.mine[i].Lock()
	for {
		err := syscall.Flock(int(l.files[i].Fd()), syscall.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EINTR) {
			l.mine[i].Unlock()
			return nil, fmt.Errorf("lock a key: %w", err)
		}
	}
	return func() {
		_ = syscall.Flock(int(l.files[i].Fd()), syscall.LOCK_UN)
		l.mine[i].Unlock()
	}, nil
}

func (l *locks) close() error {
	var errs []error
	for _, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
