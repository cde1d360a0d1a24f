package seal

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Master is a master key: it wraps the keys of the orgs. It prints as its fingerprint.
type Master struct {
	fingerprint string // empty: there is none
	secret      secret
	wrapper     func() cipher.AEAD
}

func newMaster(key []byte) (Master, error) {
	if len(key) != keySize {
		return Master{}, fmt.Errorf("the master key has %d bytes, %d are needed (openssl rand -base64 32 makes one)", len(key), keySize)
	}
	wrap, err := hkdf.Expand(sha256.New, key, "rivergate master: wrap", keySize)
	if err != nil {
		return Master{}, err
	}
	mark, err := hkdf.Expand(sha256.New, key, "rivergate master: fingerprint", 8)
	if err != nil {
		return Master{}, err
	}
	gcm, err := newGCM(wrap)
	return Master{hex.EncodeToString(mark), hide(key), func() cipher.AEAD { return gcm }}, err
}

// Fingerprint tells master keys apart, and gives nothing of the key away. Empty: there is none.
func (m Master) Fingerprint() string { return m.fingerprint }

// Format prints the fingerprint, whatever the verb.
func (m Master) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "master key "+m.Fingerprint()) }

// NewMaster makes a master key.
func NewMaster() (Master, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	return newMaster(key)
}

// ParseMaster reads a master key: 32 bytes as 64 hex digits or as base64, URL-safe or not, with or without padding.
func ParseMaster(text string) (Master, error) {
	text = strings.TrimSpace(text)
	if key, err := hex.DecodeString(text); err == nil && len(key) == keySize {
		return newMaster(key)
	}
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	key, err := base64.RawStdEncoding.DecodeString(plain)
	if err != nil {
		return Master{}, errors.New("the master key is neither 64 hex digits nor base64 of 32 bytes (openssl rand -base64 32 makes one)")
	}
	return newMaster(key)
}

const (
	maxMasterFile = 4096 // bytes; a larger file is something else
	everybody     = 0o007
)

// ReadMaster reads a master key from a file, which not everybody on the machine may read.
func ReadMaster(path string) (Master, error) {
	m, err := readMaster(path)
	if err != nil {
		return Master{}, fmt.Errorf("master key from %s: %w", path, err)
	}
	return m, nil
}

func readMaster(path string) (Master, error) {
	file, err := os.Open(path)
	if err != nil {
		return Master{}, withoutPath(err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return Master{}, withoutPath(err)
	case !info.Mode().IsRegular():
		return Master{}, errors.New("it is no file")
	case info.Mode().Perm()&everybody != 0:
		return Master{}, fmt.Errorf("everybody on this machine may use it (mode %04o): chmod 600 %s", info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxMasterFile+1))
	switch {
	case err != nil:
		return Master{}, withoutPath(err)
	case len(text) > maxMasterFile:
		return Master{}, fmt.Errorf("it has more than %d bytes: it is no key", maxMasterFile)
	}
	return ParseMaster(string(text))
}

func withoutPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// Source gives the master keys that a host has. The first is the one to wrap with once keys were rotated; the others are those
// that may have wrapped the keys of the database until now. It is asked again when the database names a key that was not among
// them: keys are rotated while hosts run.
type Source func() ([]Master, error)

// Given is a Source of keys that do not change while the host runs.
func Given(masters ...Master) Source {
	return func() ([]Master, error) { return masters, nil }
}

// File is a Source that reads a file.
func File(path string, previous ...Master) Source {
	return func() ([]Master, error) {
		m, err := ReadMaster(path)
		return append([]Master{m}, previous...), err
	}
}

// The files of a development host in its data folder. The second one is there while keys are rotated.
const (
	masterFile     = "master.key"
	nextMasterFile = "master.key.next"
)

// Development is the Source of a host that was given no master key: that of master.key in its data folder, which is made (0600)
// when it is not there.
func Development(dir string) Source {
	return func() ([]Master, error) {
		path := filepath.Join(dir, masterFile)
		m, err := ReadMaster(path)
		if errors.Is(err, fs.ErrNotExist) {
			m, err = makeMaster(path)
		}
		if err != nil {
			return nil, err
		}
		next, err := ReadMaster(filepath.Join(dir, nextMasterFile))
		if errors.Is(err, fs.ErrNotExist) {
			return []Master{m}, nil
		}
		return []Master{m, next}, err
	}
}

// RotateDevelopment gives a host whose Source is Development a new master key. Whenever it is cut short, the host still finds the
// key that the database is wrapped with, and calling it again brings it to its end.
func (k *Keys) RotateDevelopment(ctx context.Context, dir string) (rewrapped int, err error) {
	path, nextPath := filepath.Join(dir, masterFile), filepath.Join(dir, nextMasterFile)
	next, err := ReadMaster(nextPath)
	if errors.Is(err, fs.ErrNotExist) {
		next, err = makeMaster(nextPath)
	}
	if err != nil {
		return 0, err
	}
	if rewrapped, err = k.Rotate(ctx, next); err != nil {
		return 0, err
	}
	if err := os.Rename(nextPath, path); err != nil {
		return 0, fmt.Errorf("put the new master key in its place: %w", err)
	}
	return rewrapped, syncDir(dir)
}

// makeMaster makes a key in the file path, and takes the one that another process made meanwhile.
func makeMaster(path string) (Master, error) {
	m, err := NewMaster()
	if err != nil {
		return Master{}, err
	}
	if err := writeMaster(path, m); !errors.Is(err, fs.ErrExist) {
		return m, err
	}
	return ReadMaster(path)
}

// writeMaster makes the file path, which must not be there: whole and on the disk, or not at all.
func writeMaster(path string, m Master) (err error) {
	fail := func(err error) error { return fmt.Errorf("write master key to %s: %w", path, err) }
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return fail(withoutPath(err))
	}
	defer func() {
		if remove := os.Remove(file.Name()); err == nil && remove != nil {
			err = fail(withoutPath(remove))
		}
	}()
	_, err = io.WriteString(file, hex.EncodeToString(m.secret())+"\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fail(err)
	}
	if err := os.Link(file.Name(), path); err != nil { // unlike a rename, it never replaces a key
		var at *os.LinkError
		if errors.As(err, &at) {
			err = at.Err
		}
		return fail(err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, withoutPath(err))
	}
	return errors.Join(d.Sync(), d.Close())
}
