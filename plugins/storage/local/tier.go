package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rivergate/rivergate/plugins/internal/durable"
	"github.com/rivergate/rivergate/sdk"
)

// tier is the folder of one tier. Everything below it is reached through root, so no name and no link leads out of it.
type tier struct {
	tier sdk.Tier
	path string
	root *os.Root

	temp string   // this process's own folder below tempFolder
	lock *os.File // held while the process lives; nil: there is no temp folder
}

func openTier(t sdk.Tier, at string) (*tier, error) {
	at, err := filepath.Abs(at)
	if err != nil {
		return nil, err
	}
	if err := durable.MakeFolder(at); err != nil {
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	opened := &tier{tier: t, path: at, root: root}
	if err := opened.makeTemp(); err != nil {
		return nil, errors.Join(err, opened.close())
	}
	return opened, nil
}

const lockSuffix = ".lock"

// makeTemp makes the folder for what this process has not finished. Its lock ends with the process, whatever becomes of it.
func (t *tier) makeTemp() error {
	for _, folder := range []string{tempFolder, uploadFolder} {
		if err := t.root.Mkdir(folder, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := t.syncFolder("."); err != nil {
		return err
	}
	name := path.Join(tempFolder, random())
	lock, err := t.root.OpenFile(name+lockSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("lock: %w", err), lock.Close(), t.root.Remove(name+lockSuffix))
	}
	t.lock, t.temp = lock, name
	return t.root.Mkdir(name, 0o750)
}

// sweep removes the temporary folders of processes that are dead.
func (t *tier) sweep() (files int, err error) {
	entries, err := t.readNames(tempFolder)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, name := range entries {
		bare, isLock := strings.CutSuffix(name, lockSuffix)
		if !isLock || path.Join(tempFolder, bare) == t.temp {
			continue
		}
		n, err := t.sweepOne(path.Join(tempFolder, bare))
		files += n
		errs = append(errs, err)
	}
	return files, errors.Join(errs...)
}

func (t *tier) sweepOne(name string) (files int, err error) {
	lock, err := t.root.OpenFile(name+lockSuffix, os.O_RDWR, 0)
	if err != nil {
		return 0, ignoreMissing(err)
	}
	defer lock.Close() // which gives up the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return 0, nil // its process lives
		}
		return 0, err
	}
	left, err := t.readNames(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	// The lock last: without it, nobody would find the folder.
	if err := t.root.RemoveAll(name); err != nil {
		return 0, err
	}
	return len(left), ignoreMissing(t.root.Remove(name + lockSuffix))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (t *tier) readNames(folder string) ([]string, error) {
	dir, err := t.root.Open(folder)
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	return names, errors.Join(err, dir.Close())
}

func (t *tier) close() error {
	var errs []error
	if t.lock != nil {
		errs = append(errs, t.root.RemoveAll(t.temp), t.root.Remove(t.temp+lockSuffix), t.lock.Close())
	}
	return errors.Join(append(errs, t.root.Close())...)
}

// same tells whether two tiers would lie in the same folder.
func (t *tier) same(other *tier) bool {
	a, err := t.root.Stat(".")
	if err != nil {
		return false
	}
	b, err := other.root.Stat(".")
	return err == nil && os.SameFile(a, b)
}

// syncFolder makes the names in a folder durable.
func (t *tier) syncFolder(name string) error {
	folder, err := t.root.Open(name)
	if err != nil {
		return err
	}
	err = folder.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // some network file systems cannot, and need not
	}
	return errors.Join(err, folder.Close())
}

// makeFolders makes the folders of a path, each name durable.
func (t *tier) makeFolders(folder string) error {
	if folder == "." {
		return nil
	}
	if _, err := t.root.Lstat(folder); err == nil {
		return nil
	}
	if err := t.makeFolders(path.Dir(folder)); err != nil {
		return err
	}
	if err := t.root.Mkdir(folder, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return t.syncFolder(path.Dir(folder))
}

// attempts bounds how often a folder is made again that somebody empties at the same moment.
const attempts = 100

// rename moves a file to the place of an object, making the folders that it lies in. The name is durable then.
func (t *tier) rename(from, to string) error {
	folder := path.Dir(to)
	for range attempts {
		err := t.root.Rename(from, to)
		if err == nil {
			return t.syncFolder(folder)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := t.makeFolders(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("the folder of %s is removed again and again", to)
}

// remove removes the file of an object, and the folders that are empty without it. The name is gone for good then.
func (t *tier) remove(name string) error {
	if err := t.root.Remove(name); err != nil {
		return ignoreMissing(err)
	}
	folder := path.Dir(name)
	for folder != "." && t.root.Remove(folder) == nil { // one that is not empty stays
		folder = path.Dir(folder)
	}
	return ignoreMissing(t.syncFolder(folder))
}

// create makes a temporary file.
func (t *tier) create() (*os.File, string, error) {
	name := path.Join(t.temp, random())
	file, err := t.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	return file, name, err
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
