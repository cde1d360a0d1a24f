// Package pluginstore decides which plugin binaries are trusted, and exchanges them: the lock file, signatures, installing
// and going back.
//
//	PLUGIN_DIR/rivergate-pusher-acme             what runs
//	           rivergate-pusher-acme.minisig     its signature, where there is one
//	           plugins.lock                      name, version, hash and source of each plugin; RIVERGATE_PLUGIN_LOCK moves it
//	           plugins.lock.pending              an exchange that has begun; only between its commit and its end
//	           .versions/rivergate-pusher-acme/  bytes by their SHA-256: the former version, for going back
//
// An exchange touches three files, and a kill may come between any two of them. So it is written down first, in the
// pending file: that is the commit. Before it nothing has changed; after it both sides of the exchange are trusted, and the
// next command, or the start of a host, finishes it. The pending file lies beside the lock file since it says as much: who
// may write the one may write the other.
package pluginstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rivergate/rivergate/host/pluginhost"
)

const (
	versionsDir   = ".versions"
	pendingSuffix = ".pending"
	stagingPrefix = "staging-"
)

// LockName is the name of the lock file where none is configured.
const LockName = "plugins.lock"

// Store is a plugin folder with its lock file.
type Store struct {
	dir  string
	lock string // path of the lock file

	// reached is called at each step of an exchange, with its name; tests kill the process there. nil: nothing is called.
	reached func(step string)
	// patience bounds the wait for another command that is at work.
	patience time.Duration
}

// Introducer lists the plugins of a folder with their hashes. Those that want picks are started for a moment, as far as
// verify lets them, and asked for their name and version.
type Introducer func(ctx context.Context, dir string, verify Verify, want func(pluginhost.Found) bool) ([]pluginhost.Found, error)

// Verify is the form of pluginhost.Options.Verify.
type Verify = func(ctx context.Context, b pluginhost.Binary) (pluginhost.Trust, error)

// Open makes a store of a plugin folder and the path of its lock file; empty: plugins.lock in the folder. Neither need exist.
func Open(dir, lockPath string) (*Store, error) {
	if dir == "" {
		return nil, errors.New("no plugin folder is named: RIVERGATE_PLUGIN_DIR")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("plugin folder: %w", err)
	}
	if lockPath == "" {
		lockPath = filepath.Join(abs, LockName)
	}
	if lockPath, err = filepath.Abs(lockPath); err != nil {
		return nil, fmt.Errorf("lock file of the plugins: %w", err)
	}
	return &Store{dir: abs, lock: lockPath, patience: 10 * time.Second}, nil
}

// LockPath is where the lock file is, or would be.
func (s *Store) LockPath() string { return s.lock }

func (s *Store) pending() string           { return s.lock + pendingSuffix }
func (s *Store) installed(f string) string { return filepath.Join(s.dir, f) }

// kept is where the bytes with this hash are kept for a plugin file.
func (s *Store) kept(file, sum string) string { return filepath.Join(s.dir, versionsDir, file, sum) }

func (s *Store) step(name string) {
	if s.reached != nil {
		s.reached(name)
	}
}

// ErrBusy: another command holds the store.
var ErrBusy = errors.New("another rivergate plugins command is at work in this folder")

// hold takes the store for one command: both folders are locked, the kernel gives them back however the process ends.
// What a killed command has left is finished first.
func (s *Store) hold(ctx context.Context) (release func(), err error) {
	for _, dir := range []string{s.dir, filepath.Dir(s.lock)} {
		if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- plugins are no secret, and may run as another user
			return nil, fmt.Errorf("make the plugin folder: %w", err)
		}
	}
	release, err = s.flock(ctx, s.patience)
	if err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// flock locks the folders for this process alone, waiting so long at most.
func (s *Store) flock(ctx context.Context, patience time.Duration) (release func(), err error) {
	dirs := []string{s.dir}
	if other := filepath.Dir(s.lock); other != s.dir {
		dirs = append(dirs, other)
	}
	var held []*os.File
	release = func() {
		for _, f := range held {
			_ = f.Close()
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrBusy)
	defer cancel()
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			release()
			return nil, fmt.Errorf("lock the plugin folder: %w", err)
		}
		held = append(held, f)
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
				release()
				return nil, fmt.Errorf("lock the plugin folder %s: %w", dir, err)
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				release()
				return nil, err
			}
		}
	}
	return release, nil
}

// pause lets d pass; it returns the cause of ctx when that ends first, also when it has ended already.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Recover finishes an exchange that a killed command has left, unless a command is at work right now.
func (s *Store) Recover(ctx context.Context) error {
	if _, err := os.Stat(s.pending()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	release, err := s.flock(ctx, time.Millisecond)
	if errors.Is(err, ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	return s.recover()
}

// split reads a name as the commands take it: acme, or pusher/acme.
func split(name string) (kind, plugin string) {
	if kind, plugin, found := strings.Cut(name, "/"); found {
		return kind, plugin
	}
	return "", name
}
