package main

import (
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// behave does what the SDK does for a plugin and this one would otherwise not: it ends at SIGTERM with code 0 and, with
// WATCH set, with its parent. Some tests want a plugin without the latter.
func (l *liar) behave() {
	parent := os.Getppid()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	var tick <-chan time.Time
	if os.Getenv("WATCH") != "" {
		tick = time.Tick(100 * time.Millisecond)
	}
	go func() {
		for {
			select {
			case <-stop:
				if l.lie != "ignores-term" {
					leave()
				}
			case <-tick:
				if os.Getppid() != parent {
					leave()
				}
			}
		}
	}()
}

// leave ends the process, and takes its socket and its lock along.
func leave() {
	_ = filepath.WalkDir(os.Getenv("TMPDIR"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type() == fs.ModeSocket {
			_ = os.Remove(path)
		}
		return nil
	})
	if os.Getenv("LIE") == "stale-lock" {
		_ = os.Remove(os.Getenv("LOCK"))
	}
	os.Exit(0)
}

// instances are those that were configured.
type instances struct {
	mu    sync.Mutex
	names map[string]bool
	lock  *os.File
}

func (i *instances) add(name string, alone bool) (first bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	first = len(i.names) == 0
	if i.names == nil || alone {
		i.names = map[string]bool{}
	}
	i.names[name] = true
	return first
}

func (i *instances) remove(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.names, name)
}

func (i *instances) has(name string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.names[name]
}

// take takes the file LOCK, by its existence or as a lock that ends with the process. It returns why it could not.
func (i *instances) take(byExistence bool) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.lock != nil {
		return ""
	}
	path, flags := os.Getenv("LOCK"), os.O_CREATE|os.O_RDWR
	if byExistence {
		flags |= os.O_EXCL
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		_ = os.Remove(path) // so that only the first start after a kill fails
		return "somebody else is at work: " + err.Error()
	}
	if !byExistence {
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			_ = file.Close()
			return "somebody else is at work: " + err.Error()
		}
	}
	i.lock = file
	return ""
}
