package pluginhost

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A socket's path may have 107 bytes. go-plugin adds "/plugin-dir<10 digits>/plugin<10 digits>" to a process's folder,
// and that is "/<number>" in the folder of the run.
const (
	maxSocketPath = 107
	socketSuffix  = len("/plugin-dir0123456789/plugin0123456789")
	numberSuffix  = len("/12345678")
)

// runDir is the private folder of one run of the host: copies of binaries, and one folder per plugin process for its
// sockets and temporary files. The folder is locked as long as the host lives, by whichever way it ends.
//
//	RUN_DIR/run-1234567/lock      flock, held
//	                    bin/      private copies, 0500
//	                    1/  2/    one per process, removed with it
//
// A process that runs as another user has its folder where that user can get to it: in a folder of the same form that can
// be passed through and not read.
//
//	…/run-7654321/3/              0700, the user's
//	              3.bin/          its program: the host's, and for the user's group to pass through and run
type runDir struct {
	base    string
	home    string
	sockets string // home, or a folder in the system's temporary one when home's path is too long for sockets
	next    atomic.Uint64

	mu     sync.Mutex
	guests map[string]string // folders for processes of other users, by what they are in
	locks  []*os.File
}

const (
	runPrefix  = "run-"
	tempPrefix = "rivergate-run-"
	binSuffix  = ".bin"
)

func newRunDir(base string) (*runDir, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	removeLeftovers(base, runPrefix)
	removeLeftovers(os.TempDir(), tempPrefix)
	r := &runDir{base: base, guests: map[string]string{}}
	if r.home, err = r.make(base, runPrefix); err != nil {
		return nil, err
	}
	r.sockets = r.home
	if len(r.home)+numberSuffix+socketSuffix > maxSocketPath {
		if r.sockets, err = r.make(os.TempDir(), tempPrefix); err != nil {
			r.remove()
			return nil, err
		}
		if len(r.sockets)+numberSuffix+socketSuffix > maxSocketPath {
			err := fmt.Errorf("run folder: both %s and the system's temporary folder %s have paths too long for a unix socket: set a shorter RIVERGATE_DATA_DIR or TMPDIR", base, os.TempDir())
			r.remove()
			return nil, err
		}
	}
	if err := os.Mkdir(filepath.Join(r.home, "bin"), 0o700); err != nil {
		r.remove()
		return nil, fmt.Errorf("run folder: %w", err)
	}
	return r, nil
}

// make creates a folder 0700 and locks it.
func (r *runDir) make(base, prefix string) (string, error) {
	dir, err := os.MkdirTemp(base, prefix)
	if err != nil {
		return "", fmt.Errorf("run folder: %w", err)
	}
	// Created under another name and renamed when locked: a lock file that exists and is free means a dead host.
	f, err := os.CreateTemp(dir, "locking")
	if err == nil {
		r.locks = append(r.locks, f)
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			err = os.Rename(f.Name(), filepath.Join(dir, "lock"))
		}
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", fmt.Errorf("lock run folder: %w", err)
	}
	return dir, nil
}

func (r *runDir) bin() string { return filepath.Join(r.home, "bin") }

// process makes the folder of one plugin process. Its user is nil when it is the host's.
func (r *runDir) process(as *account) (string, error) {
	home := r.sockets
	if as != nil {
		var err error
		if home, err = r.guestHome(as); err != nil {
			return "", fmt.Errorf("make folder of plugin process: %w", err)
		}
	}
	dir := filepath.Join(home, strconv.FormatUint(r.next.Add(1), 10))
	err := os.Mkdir(dir, 0o700)
	if err == nil && as != nil {
		if err = as.own(dir); err != nil {
			_ = os.Remove(dir)
		}
	}
	if err != nil {
		return "", fmt.Errorf("make folder of plugin process: %w", err)
	}
	return dir, nil
}

// guestHome is a folder that the user can pass through: in the run folder when the way there is open, else in the
// system's temporary one.
func (r *runDir) guestHome(as *account) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var why []string
	for _, place := range []struct {
		base, prefix string
		ours         bool // it may be opened for others to pass through
	}{{r.base, runPrefix, true}, {os.TempDir(), tempPrefix, false}} {
		if err := as.reaches(place.base, !place.ours); err != nil {
			why = append(why, err.Error())
			continue
		}
		if home := r.guests[place.base]; home != "" {
			return home, nil
		}
		if longest := len(filepath.Join(place.base, place.prefix)) + len("0123456789") + numberSuffix + socketSuffix; longest > maxSocketPath {
			why = append(why, place.base+" is too long for a unix socket")
			continue
		}
		home, err := r.make(place.base, place.prefix)
		if err != nil {
			return "", err
		}
		err = os.Chmod(home, 0o711)
		if err == nil && place.ours {
			err = os.Chmod(place.base, 0o711)
		}
		if err != nil {
			return "", err
		}
		r.guests[place.base] = home
		return home, nil
	}
	return "", fmt.Errorf("no folder that user %s can run a program in: %s; open the way to one of them (chmod o+x), or set TMPDIR", as.name, strings.Join(why, "; "))
}

func (r *runDir) remove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, dir := range append([]string{r.sockets, r.home}, slices.Collect(maps.Values(r.guests))...) {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
	for _, f := range r.locks {
		_ = f.Close()
	}
	r.locks = nil
}

// removeLeftovers removes what hosts left behind that were killed: their folders, and processes that outlived the plugin
// that had started them.
func removeLeftovers(base, prefix string) {
	dirs, _ := filepath.Glob(filepath.Join(base, prefix+"*"))
	for _, dir := range dirs {
		var owner unix.Stat_t
		if unix.Lstat(dir, &owner) != nil || int(owner.Uid) != unix.Geteuid() {
			continue // in the temporary folder, anybody can make one
		}
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue // being made just now, or not ours
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			killStrays(dir)
			_ = os.RemoveAll(dir)
		}
		_ = f.Close()
	}
}

// killStrays kills every process that a plugin of the given folder started and that left the plugin's process group. It
// is known by the TMPDIR that it inherited, so a reused process id does no harm.
func killStrays(dir string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	mark := []byte("TMPDIR=" + dir)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !inherits(env, mark) {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			continue
		}
	}
}

// inherits tells whether the environment has the variable with this folder or one below it as its value.
func inherits(env, mark []byte) bool {
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if rest, ok := bytes.CutPrefix(v, mark); ok && (len(rest) == 0 || rest[0] == '/') {
			return true
		}
	}
	return false
}
