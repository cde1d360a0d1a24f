package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/singleflight"
)

// identity tells whether a file was changed since it was last seen. ctime cannot be set by a program, so that a file
// rewritten in place under its old mtime is noticed as well.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// binary is a plugin's file, opened once: what is hashed is what is copied.
type binary struct {
	*os.File
	path string
	size int64
	id   identity
}

// openBinary opens the file of a plugin, or says why it may not be run.
func openBinary(path string) (*binary, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe of that name would wait for a writer
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &missingError{path: path}
		}
		return nil, fmt.Errorf("open plugin: %w", err)
	}
	b, err := statBinary(f, path)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return b, nil
}

func statBinary(f *os.File, path string) (*binary, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat plugin: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode(); {
	case mode.IsDir():
		return nil, fmt.Errorf("%s is a folder, not a program", path)
	case !mode.IsRegular() || !ok:
		return nil, fmt.Errorf("%s is not a regular file", path)
	case mode.Perm()&0o111 == 0:
		return nil, fmt.Errorf("%s is not executable: chmod +x it", path)
	case mode.Perm()&0o002 != 0:
		return nil, fmt.Errorf("%s can be written by everybody: chmod o-w it", path)
	case info.Size() == 0:
		return nil, fmt.Errorf("%s is empty", path)
	}
	return &binary{File: f, path: path, size: info.Size(), id: identityOf(stat)}, nil
}

func identityOf(s *syscall.Stat_t) identity {
	return identity{dev: s.Dev, ino: s.Ino, size: s.Size, mtime: s.Mtim, ctime: s.Ctim}
}

// missingError: the plugin folder has no such binary. A configuration problem, unlike the other reasons.
type missingError struct{ path string }

func (e *missingError) Error() string { return "there is no " + e.path }

// copies keeps the private copies that are executed, one per content, in a 0700 folder of this run. A program is never
// run from the plugin folder, so that nobody can exchange it between the check and the execution.
type copies struct {
	dir string

	mu      sync.Mutex
	digests map[identity]string   // of files in the plugin folder
	made    map[string]copiedFile // by digest
	flight  singleflight.Group    // many instances of one binary that start at once make one copy
}

// copiedFile is a private copy, and its state right after it was hashed.
type copiedFile struct {
	path string
	id   identity
}

func newCopies(dir string) *copies {
	return &copies{dir: dir, digests: map[identity]string{}, made: map[string]copiedFile{}}
}

// digest is the SHA-256 of the file in hex. It is computed once for each state of a file.
func (c *copies) digest(b *binary) (string, error) {
	c.mu.Lock()
	sum, ok := c.digests[b.id]
	c.mu.Unlock()
	if ok {
		return sum, nil
	}
	sum, err := hashFile(b.File)
	if err != nil {
		return "", fmt.Errorf("hash %s: %w", b.path, err)
	}
	c.remember(b, sum)
	return sum, nil
}

func (c *copies) remember(b *binary, sum string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.digests[b.id] = sum
}

// take returns the path of a private copy of the binary and its SHA-256. pin, when not empty, must be that hash. A copy
// made before is verified again before it is given out.
func (c *copies) take(b *binary, pin string) (path, sum string, err error) {
	copied, err, _ := c.flight.Do(fmt.Sprint(b.id), func() (any, error) {
		c.mu.Lock()
		known, seen := c.digests[b.id]
		made, have := c.made[known]
		c.mu.Unlock()
		if seen && have && made.verified(known) {
			return [2]string{made.path, known}, nil
		}
		path, sum, err := c.copy(b)
		return [2]string{path, sum}, err
	})
	if err != nil {
		return "", "", err //nolint:wrapcheck // copy says what it did
	}
	got, _ := copied.([2]string)
	if err := checkPin(b.path, got[1], pin); err != nil {
		return "", got[1], err
	}
	return got[0], got[1], nil
}

// verified tells whether the copy still is what it was. It lies in a folder of ours alone, read-only, and a change of
// whatever kind leaves another ctime; only then it is hashed again.
func (f copiedFile) verified(sum string) bool {
	if now, err := identify(f.path); err == nil && now == f.id {
		return true
	}
	file, err := os.Open(f.path)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	got, err := hashFile(file)
	return err == nil && got == sum
}

func identify(path string) (identity, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return identity{}, fmt.Errorf("stat private copy: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}, errors.New("stat private copy: the system says nothing of it")
	}
	return identityOf(stat), nil
}

// copy writes the bytes of the binary to a new file and hashes them on the way: the hash is that of the copy.
func (c *copies) copy(b *binary) (path, sum string, err error) {
	if _, err := b.Seek(0, io.SeekStart); err != nil {
		return "", "", fmt.Errorf("read %s: %w", b.path, err)
	}
	// The name keeps the plugin's, for ps and the log; the temporary folder makes it unique.
	folder, err := os.MkdirTemp(c.dir, "")
	if err != nil {
		return "", "", fmt.Errorf("make private copy: %w", err)
	}
	path = filepath.Join(folder, filepath.Base(b.path))
	var id identity
	if sum, err = writeCopy(path, b); err == nil {
		id, err = identify(path)
	}
	if err != nil {
		_ = os.RemoveAll(folder)
		return "", sum, err
	}
	c.remember(b, sum)

	c.mu.Lock()
	defer c.mu.Unlock()
	if old, have := c.made[sum]; have && old.verified(sum) {
		_ = os.RemoveAll(folder) // another file with the same bytes was faster
		return old.path, sum, nil
	}
	c.made[sum] = copiedFile{path: path, id: id}
	return path, sum, nil
}

func writeCopy(path string, from io.Reader) (sum string, err error) {
	// While a descriptor for writing is open no process may be forked: a child holds it until its exec, and running the
	// copy meanwhile fails with "text file busy".
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()

	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o500)
	if err != nil {
		return "", fmt.Errorf("make private copy: %w", err)
	}
	sum, err = copyHashed(out, from)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("make private copy: %w", err)
	}
	return sum, nil
}

// copyHashed copies from to out and returns the SHA-256 of what it wrote, in hex. Hashing takes as long as writing, and a
// plugin's start waits for both: they run side by side.
func copyHashed(out io.Writer, from io.Reader) (string, error) {
	const block = 1 << 20
	digest := sha256.New()
	blocks, free, hashed := make(chan []byte, 2), make(chan []byte, 3), make(chan struct{})
	for range cap(free) {
		free <- make([]byte, block)
	}
	go func() {
		defer close(hashed)
		for b := range blocks {
			_, _ = digest.Write(b) // never fails
			free <- b[:block]
		}
	}()
	err := func() error {
		defer close(blocks)
		for {
			b := <-free
			n, err := io.ReadFull(from, b)
			if n > 0 {
				if _, err := out.Write(b[:n]); err != nil {
					return err
				}
				blocks <- b[:n]
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}()
	<-hashed
	return hex.EncodeToString(digest.Sum(nil)), err
}

func hashFile(f *os.File) (string, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// hashError: the binary is not the one that the operator pinned.
type hashError struct{ path, want, got string }

func (e *hashError) Error() string {
	return fmt.Sprintf("%s has the SHA-256 %s, but %s is pinned", e.path, e.got, e.want)
}

func checkPin(path, sum, pin string) error {
	if pin = strings.ToLower(strings.TrimSpace(pin)); pin != "" && pin != sum {
		return &hashError{path: path, want: pin, got: sum}
	}
	return nil
}
