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

	"golang.org/x/sys/unix"

	"github.com/rivergate/rivergate/plugins/internal/durable"
	"github.com/rivergate/rivergate/sdk"
)

// tier is the folder of one tier. Everything below it is reached through root, so no name and no link leads out of it.
type tier struct {
	tier sdk.Tier
	path string
	root *os.Root

	temp    string   // this process's own folder below tempFolder
	tempDir *os.File // that folder; nil: there is none
	lock    *os.File // held while the process lives; nil: there is no temp folder
	spares  *spares  // in the temp folder; nil: there is none
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
	if err := t.root.Mkdir(name, 0o750); err != nil {
		return err
	}
	if t.tempDir, err = t.root.Open(name); err != nil {
		return err
	}
	t.spares = keepSpares(t.newTemp)
	return nil
}

// sweep removes the temporary folders of processes that are dead. Their spare files do not count.
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
	for _, entry := range left {
		if info, err := t.root.Lstat(path.Join(name, entry)); err == nil && info.Size() > 0 {
			files++
		}
	}
	// The lock last: without it, nobody would find the folder.
	if err := t.root.RemoveAll(name); err != nil {
		return 0, err
	}
	return files, ignoreMissing(t.root.Remove(name + lockSuffix))
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
	if t.spares != nil {
		t.spares.close()
	}
	if t.tempDir != nil {
		errs = append(errs, t.tempDir.Close())
	}
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
	return errors.Join(syncNames(folder), folder.Close())
}

func syncNames(folder *os.File) error {
	err := folder.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // some network file systems cannot, and need not
	}
	return err
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

// rename moves a temporary file to the place of an object, making the folders that it lies in; with onlyNew, unless there is an object
// (fs.ErrExist). The name is durable then.
func (t *tier) rename(temp, to string, onlyNew bool) error {
	folder := path.Dir(to)
	for range attempts {
		err := t.renameInto(folder, temp, path.Base(to), onlyNew)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := t.makeFolders(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("the folder of %s is removed again and again", to)
}

// renameInto finds the folder once, for all that is to be done there.
func (t *tier) renameInto(folder, temp, name string, onlyNew bool) error {
	into, err := t.root.Open(folder)
	if err != nil {
		return err
	}
	defer into.Close() // it was only read and synced
	if onlyNew {
		var there unix.Stat_t
		err := unix.Fstatat(int(into.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && there.Mode&unix.S_IFMT == unix.S_IFREG {
			return &fs.PathError{Op: "put", Path: path.Join(folder, name), Err: fs.ErrExist}
		}
		if err != nil && !missing(err) {
			return &fs.PathError{Op: "stat", Path: path.Join(folder, name), Err: err}
		}
	}
	if err := unix.Renameat(int(t.tempDir.Fd()), path.Base(temp), int(into.Fd()), name); err != nil {
		return &os.LinkError{Op: "rename", Old: temp, New: path.Join(folder, name), Err: err}
	}
	return syncNames(into)
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

// create gives an empty temporary file, whose times may be older.
func (t *tier) create() (*os.File, error) {
	if file := t.spares.take(); file != nil {
		return file, nil
	}
	return t.newTemp()
}

// newTemp makes a temporary file. It has the path that it can be reached at through root as its name.
func (t *tier) newTemp() (*os.File, error) {
	name := random()
	temp := path.Join(t.temp, name)
	fd, err := unix.Openat(int(t.tempDir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o640)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: temp, Err: err}
	}
	return os.NewFile(uintptr(fd), temp), nil
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
