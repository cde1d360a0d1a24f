package pluginhost

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

const (
	memoryLook = 250 * time.Millisecond // between two looks at the memory of watched processes
	memoryNear = 25 * time.Millisecond  // when one of them is over half its limit
	memberLook = time.Second            // between two searches for what they have started
)

// memoryWatch kills processes that use more memory than they may, where the kernel cannot. One goroutine looks at all of
// them, and runs only while there is one: what costs is the search of /proc for group members, and that is one search.
//
// Counted is what a process cannot give back: anonymous memory, and shared memory once. Its program and its files in the
// page cache are not.
type memoryWatch struct {
	proc string // /proc

	mu      sync.Mutex
	watched map[*process]int64 // the limit
	quit    chan struct{}      // closed to end the goroutine; nil: none runs
	running sync.WaitGroup
}

func newMemoryWatch() *memoryWatch {
	return &memoryWatch{proc: "/proc", watched: map[*process]int64{}}
}

func (w *memoryWatch) add(p *process, limit int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched[p] = limit
	if w.quit == nil {
		quit := make(chan struct{})
		w.quit = quit
		w.running.Go(func() { w.run(quit) })
	}
}

// remove takes a process that has ended out.
func (w *memoryWatch) remove(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.watched, p)
	if len(w.watched) == 0 {
		w.end()
	}
}

// end is called with the lock held. The goroutine ends on its own time.
func (w *memoryWatch) end() {
	if w.quit != nil {
		close(w.quit)
		w.quit = nil
	}
}

// stop ends the watch and waits for it.
func (w *memoryWatch) stop() {
	w.mu.Lock()
	w.watched = map[*process]int64{}
	w.end()
	w.mu.Unlock()
	w.running.Wait()
}

func (w *memoryWatch) run(quit <-chan struct{}) {
	timer := time.NewTimer(memoryLook)
	defer timer.Stop()
	var members map[int][]int
	var searched time.Time
	for {
		select {
		case <-quit:
			return
		case <-timer.C:
		}
		if time.Since(searched) >= memberLook {
			members, searched = w.groups(), time.Now()
		}
		next := memoryLook
		if w.look(members) {
			next = memoryNear
		}
		timer.Reset(next)
	}
}

// look measures all watched processes, kills those over their limit, and tells whether one is near it.
func (w *memoryWatch) look(members map[int][]int) (near bool) {
	w.mu.Lock()
	watched := make(map[*process]int64, len(w.watched))
	for p, limit := range w.watched {
		watched[p] = limit
	}
	w.mu.Unlock()
	for p, limit := range watched {
		used := w.measure(p.pid, members[p.pid])
		near = near || used > limit/2
		if used <= limit {
			continue
		}
		// Processes that share memory since a fork were counted each with all of it. Exact figures cost more.
		if exact, ok := w.proportional(p.pid, members[p.pid]); ok {
			used = exact
		}
		if used > limit {
			p.kill(p.confine.overMemory(used))
		}
	}
	return near
}

// groups lists all processes of the machine by process group, without the leaders.
func (w *memoryWatch) groups() map[int][]int {
	entries, err := os.ReadDir(w.proc)
	if err != nil {
		return nil
	}
	w.mu.Lock()
	leaders := make(map[int]bool, len(w.watched))
	for p := range w.watched {
		leaders[p.pid] = true
	}
	w.mu.Unlock()
	found := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || leaders[pid] {
			continue
		}
		if group := w.groupOf(pid); leaders[group] {
			found[group] = append(found[group], pid)
		}
	}
	return found
}

// groupOf is the process group of a process; 0 when it is gone.
func (w *memoryWatch) groupOf(pid int) int {
	stat, err := os.ReadFile(filepath.Join(w.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	// pid (name) state ppid pgrp …, and the name may hold anything, also ")".
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 3 {
		return 0
	}
	group, err := strconv.Atoi(string(fields[2]))
	if err != nil {
		return 0
	}
	return group
}

// measure is the memory of a process and its group, bytes. A member that has left the group since is not counted.
func (w *memoryWatch) measure(leader int, members []int) int64 {
	own, shared := w.status(leader)
	for _, pid := range members {
		if w.groupOf(pid) != leader {
			continue
		}
		anonymous, shmem := w.status(pid)
		own += anonymous
		shared = max(shared, shmem)
	}
	return own + shared
}

// status is the anonymous and the shared memory of a process, bytes; swapped out is not gone.
func (w *memoryWatch) status(pid int) (anonymous, shared int64) {
	text, err := os.ReadFile(filepath.Join(w.proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(text) {
		name, rest, _ := bytes.Cut(line, []byte{':'})
		switch string(name) {
		case "RssAnon", "VmSwap":
			anonymous += kibibytes(rest)
		case "RssShmem":
			shared = kibibytes(rest)
		}
	}
	return anonymous, shared
}

// proportional is the same as measure, with each shared page divided among those who have it.
func (w *memoryWatch) proportional(leader int, members []int) (int64, bool) {
	total := int64(0)
	for _, pid := range append([]int{leader}, members...) {
		if pid != leader && w.groupOf(pid) != leader {
			continue
		}
		text, err := os.ReadFile(filepath.Join(w.proc, strconv.Itoa(pid), "smaps_rollup"))
		if err != nil {
			return 0, false
		}
		seen := false
		for line := range bytes.Lines(text) {
			name, rest, _ := bytes.Cut(line, []byte{':'})
			switch string(name) {
			case "Pss_Anon":
				seen = true
				total += kibibytes(rest)
			case "Pss_Shmem", "SwapPss":
				total += kibibytes(rest)
			}
		}
		if !seen {
			return 0, false // an old kernel
		}
	}
	return total, true
}

// kibibytes reads "    1234 kB\n" as bytes.
func kibibytes(text []byte) int64 {
	fields := bytes.Fields(text)
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
