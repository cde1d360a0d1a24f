package pluginstore

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// lockSchema is the version of the lock file's form that this host writes.
const lockSchema = 1

// maxLock bounds what is read of a lock file, bytes.
const maxLock = 4 << 20

// Release is one build of a plugin: what it says of itself, and its bytes.
type Release struct {
	Version string `json:"version,omitempty"`
	SHA256  string `json:"sha256"`           // hex, lower case
	Source  string `json:"source,omitempty"` // where it came from: a URL, a path, or "local" when it lay in the plugin folder
}

// Entry is what the lock file says about one plugin.
type Entry struct {
	Kind protocol.Kind `json:"kind"`
	Name string        `json:"name"`
	Release
	Former *Release `json:"former,omitempty"` // kept for going back
}

// File is the name of the plugin's binary.
func (e *Entry) File() string { return pluginhost.BinaryName(e.Kind, e.Name) }

// LockFile is the lock file. Entries are sorted by kind and name, one of each.
type LockFile struct {
	Plugins []Entry
}

func compareEntries(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// find returns the entry of a plugin, or nil.
func (l *LockFile) find(kind protocol.Kind, name string) *Entry {
	for i := range l.Plugins {
		if l.Plugins[i].Kind == kind && l.Plugins[i].Name == name {
			return &l.Plugins[i]
		}
	}
	return nil
}

// set puts an entry in its place. nil removes it.
func (l *LockFile) set(kind protocol.Kind, name string, e *Entry) {
	l.Plugins = slices.DeleteFunc(l.Plugins, func(have Entry) bool { return have.Kind == kind && have.Name == name })
	if e != nil {
		l.Plugins = append(l.Plugins, *e)
	}
	slices.SortFunc(l.Plugins, compareEntries)
}

// encode writes the file's text: one field a line, so that a diff shows what changed and nothing else.
func (l *LockFile) encode() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	plugins := l.Plugins
	if plugins == nil {
		plugins = []Entry{}
	}
	err := encoder.Encode(struct {
		Schema  int     `json:"schema"`
		Plugins []Entry `json:"plugins"`
	}{lockSchema, plugins})
	if err != nil {
		return nil, fmt.Errorf("encode the lock file: %w", err)
	}
	return b.Bytes(), nil
}

// ReadLock reads the lock file of the store. One that is not there is empty, and exists is false.
func (s *Store) ReadLock() (l *LockFile, exists bool, err error) {
	l, _, exists, err = s.readLock()
	return l, exists, err
}

// readLock also returns the text, by which a change is noticed.
func (s *Store) readLock() (l *LockFile, text []byte, exists bool, err error) {
	text, err = readGuarded(s.lock)
	if errors.Is(err, fs.ErrNotExist) {
		return &LockFile{}, nil, false, nil
	}
	if err != nil {
		return nil, nil, false, fmt.Errorf("lock file of the plugins: %w", err)
	}
	l, err = parseLock(text)
	if err != nil {
		return nil, text, true, fmt.Errorf("lock file %s, %w", s.lock, err)
	}
	return l, text, true, nil
}

// readGuarded reads a file that decides what may run: nobody but its owner and group may be able to change it.
func readGuarded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("%s can be written by everybody: chmod o-w it", path)
	}
	if exchangeable(filepath.Dir(path)) {
		return nil, fmt.Errorf("everybody can exchange %s, for its folder can be written by everybody: chmod o-w the folder", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxLock+1))
	if err == nil && len(text) > maxLock {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxLock)
	}
	return text, err
}

// exchangeable tells whether everybody can put another file in the place of one in the folder. A folder that is mounted
// read-only, as Kubernetes mounts a ConfigMap, may have any mode.
func exchangeable(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o002 == 0 || info.Mode()&os.ModeSticky != 0 {
		return false
	}
	var system unix.Statfs_t
	return unix.Statfs(dir, &system) != nil || system.Flags&unix.ST_RDONLY == 0
}

// writeLock replaces the lock file. The store is held.
func (s *Store) writeLock(l *LockFile) error {
	text, err := l.encode()
	if err != nil {
		return err
	}
	if err := writeFile(s.lock, 0o644, bytes.NewReader(text)); err != nil {
		return fmt.Errorf("write the lock file: %w", err)
	}
	return nil
}
