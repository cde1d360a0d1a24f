package pluginhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	cgroupPrefix  = "rivergate-" // of a host's folder, followed by its pid and a number
	cgroupHost    = "host"       // the leaf that the host itself moves to
	cpuPeriod     = 100_000      // µs
	cgroupRemoval = time.Second  // how long the processes of a killed cgroup may take to be gone
)

// cgroups is the part of the cgroup v2 tree that one host has for its plugin processes.
//
//	ours/                        where the host was started: a service with Delegate=yes, a container
//	ours/rivergate-4711-0/       locked as long as the host lives
//	ours/rivergate-4711-0/host   the host itself, where it had to move
//	ours/rivergate-4711-0/1      one per process, removed with it
//
// The kernel hands controllers only to the children of a cgroup that has no processes of its own (only the root may have
// both). So a host that was started in a cgroup where they are not handed on yet moves itself and what it has started to a
// leaf; it does so only when nobody else lives there, whom it would have to move as well.
type cgroups struct {
	fs      cgroupFS
	base    string // ours
	home    string
	enabled []string // controllers that our processes' folders have
	handed  []string // those that base did not hand on before us
	moved   bool
	unlock  func()
	next    atomic.Uint64
}

// openCgroups makes the host's folder, or says why there can be none.
func openCgroups(files cgroupFS) (*cgroups, error) {
	base, err := ownCgroup(files)
	if err != nil {
		return nil, err
	}
	c := &cgroups{fs: files, base: base}
	available, err := files.Read(path.Join(base, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("read the controllers of %s: %w", base, err)
	}
	for _, name := range []string{"memory", "cpu"} {
		if slices.Contains(strings.Fields(available), name) {
			c.enabled = append(c.enabled, name)
		}
	}
	if len(c.enabled) == 0 {
		return nil, fmt.Errorf("the controllers memory and cpu are not delegated to %s%s", base, legacy(files))
	}
	c.removeLeftovers()
	if err := c.makeHome(); err != nil {
		return nil, err
	}
	if err := c.enable(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// legacy explains missing controllers on a machine of the old sort.
func legacy(files cgroupFS) string {
	own, _ := files.Read("/proc/self/cgroup")
	for line := range strings.Lines(own) {
		if fields := strings.SplitN(line, ":", 3); len(fields) == 3 && fields[1] == "memory" {
			return ": this machine uses cgroup v1 for them"
		}
	}
	return ""
}

// ownCgroup is the folder of the cgroup that this process is in.
func ownCgroup(files cgroupFS) (string, error) {
	mounts, err := files.Read("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("read the mounts: %w", err)
	}
	mount, root := "", ""
	for line := range strings.Lines(mounts) {
		before, after, found := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if found && len(fields) >= 5 && len(kind) > 0 && kind[0] == "cgroup2" {
			root, mount = fields[3], strings.ReplaceAll(fields[4], `\040`, " ")
		}
	}
	if mount == "" {
		return "", errors.New("no cgroup2 file system is mounted")
	}
	own, err := files.Read("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("read our own cgroup: %w", err)
	}
	for line := range strings.Lines(own) {
		at, found := strings.CutPrefix(strings.TrimRight(line, "\n"), "0::")
		if !found {
			continue
		}
		inside, below := strings.CutPrefix(at, strings.TrimRight(root, "/"))
		if !below || inside != "" && inside[0] != '/' || strings.Contains(at, "/..") {
			return "", fmt.Errorf("our own cgroup %s is not below the mounted %s", at, root)
		}
		folder := path.Join(mount, inside)
		// A host of this process has moved here before: what it moved from is where the folders are made.
		if parent := path.Dir(folder); path.Base(folder) == cgroupHost && strings.HasPrefix(path.Base(parent), cgroupPrefix) {
			folder = path.Dir(parent)
		}
		return folder, nil
	}
	return "", errors.New("this process is in no cgroup of version 2")
}

// makeHome makes and locks the host's folder. It is locked before it counts: one that nobody holds is a dead host's.
func (c *cgroups) makeHome() error {
	for n := range 1000 {
		home := path.Join(c.base, fmt.Sprintf("%s%d-%d", cgroupPrefix, os.Getpid(), n))
		err := c.fs.Mkdir(home)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s cannot be written (%w): run the host as a service with Delegate=yes, or mount its cgroup writable", c.base, errors.Unwrap(err))
		}
		unlock, err := c.fs.Lock(home)
		if err != nil {
			continue // another host takes it for a leftover
		}
		if _, err := c.fs.Read(path.Join(home, "cgroup.procs")); err != nil {
			unlock() // and has removed it
			continue
		}
		c.home, c.unlock = home, unlock
		return nil
	}
	return fmt.Errorf("no free name for a folder in %s", c.base)
}

// enable hands the controllers on to the folders of the processes.
func (c *cgroups) enable() error {
	if _, err := c.fs.Read(path.Join(c.home, "cgroup.kill")); errors.Is(err, fs.ErrNotExist) {
		return errors.New("the kernel is older than Linux 5.14")
	}
	on, err := c.fs.Read(path.Join(c.base, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("read what %s hands on: %w", c.base, err)
	}
	for _, name := range c.enabled {
		if !slices.Contains(strings.Fields(on), name) {
			c.handed = append(c.handed, name)
		}
	}
	if len(c.handed) > 0 {
		err := c.control(c.base, "+", c.handed)
		if errors.Is(err, syscall.EBUSY) {
			if err = c.moveOut(); err == nil {
				err = c.control(c.base, "+", c.handed)
			}
		}
		if err != nil {
			c.handed = nil
			return fmt.Errorf("the controllers of %s cannot be handed on: %w", c.base, err)
		}
	}
	if err := c.control(c.home, "+", c.enabled); err != nil {
		return fmt.Errorf("the controllers of %s cannot be handed on: %w", c.home, err)
	}
	return nil
}

func (c *cgroups) control(folder, sign string, names []string) error {
	return c.fs.Write(path.Join(folder, "cgroup.subtree_control"), sign+strings.Join(names, " "+sign))
}

// moveOut moves the host, and what it has started so far, to a leaf.
func (c *cgroups) moveOut() error {
	leaf := path.Join(c.home, cgroupHost)
	if err := c.fs.Mkdir(leaf); err != nil {
		return err
	}
	// What is forked meanwhile is seen in the next round.
	for range 10 {
		text, err := c.fs.Read(path.Join(c.base, "cgroup.procs"))
		if err != nil {
			return err
		}
		pids := strings.Fields(text)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if !c.ours(pid) {
				return fmt.Errorf("process %s lives there as well, and processes may not live beside limited ones: run the host in a cgroup of its own, such as a service with Delegate=yes", pid)
			}
		}
		for _, pid := range pids {
			c.moved = true
			if err := c.fs.Write(path.Join(leaf, "cgroup.procs"), pid); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
	return errors.New("processes are started there faster than they can be moved")
}

// ours tells whether a process is this one, or was started by it.
func (c *cgroups) ours(pid string) bool {
	self := strconv.Itoa(os.Getpid())
	for range 64 {
		if pid == self {
			return true
		}
		stat, err := c.fs.Read("/proc/" + pid + "/stat")
		fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
		if err != nil || len(fields) < 2 {
			return errors.Is(err, fs.ErrNotExist) // it has ended
		}
		if pid = fields[1]; pid == "0" {
			return false
		}
	}
	return false
}

// controls tells whether processes can be limited by the controller. A nil tree controls nothing.
func (c *cgroups) controls(name string) bool { return c != nil && slices.Contains(c.enabled, name) }

// make makes the folder of one process, with its limits.
func (c *cgroups) make(l Limits) (*cgroup, error) {
	g := &cgroup{fs: c.fs, path: path.Join(c.home, strconv.FormatUint(c.next.Add(1), 10))}
	if err := c.fs.Mkdir(g.path); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	type setting struct{ file, value string }
	var settings []setting
	if l.MemoryMax > 0 && c.controls("memory") {
		g.memory = true
		settings = append(settings,
			setting{"memory.max", strconv.FormatInt(l.MemoryMax, 10)},
			setting{"memory.swap.max", "0"},  // or it would be slow instead of over its limit
			setting{"memory.oom.group", "1"}) // what is left of a plugin without one of its processes is no plugin
	}
	if l.CPUMax > 0 && c.controls("cpu") {
		settings = append(settings, setting{"cpu.max", fmt.Sprintf("%d %d", int64(l.CPUMax*cpuPeriod), cpuPeriod)})
	}
	for _, s := range settings {
		err := c.fs.Write(path.Join(g.path, s.file), s.value)
		if errors.Is(err, fs.ErrNotExist) && s.file == "memory.swap.max" {
			continue // a kernel without swap
		}
		if err != nil {
			g.remove()
			return nil, fmt.Errorf("set limit: %w", err)
		}
	}
	var err error
	if g.dir, err = c.fs.Open(g.path); err != nil {
		g.remove()
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	return g, nil
}

// close removes the host's folder, after it has moved back to where it came from. Where another host uses the same
// cgroup, it stays in its leaf: the kernel lets nobody back.
func (c *cgroups) close() {
	c.clear(c.home)
	if c.moved {
		_ = c.control(c.home, "-", c.enabled)
		_ = c.control(c.base, "-", c.handed)
		text, _ := c.fs.Read(path.Join(c.home, cgroupHost, "cgroup.procs"))
		for _, pid := range strings.Fields(text) {
			_ = c.fs.Write(path.Join(c.base, "cgroup.procs"), pid)
		}
	}
	_ = c.fs.Rmdir(path.Join(c.home, cgroupHost))
	_ = c.fs.Rmdir(c.home)
	c.unlock()
}

// clear ends all processes of a host's folder, but not what is in its leaf.
func (c *cgroups) clear(home string) {
	names, _ := c.fs.Folders(home)
	for _, name := range names {
		if name != cgroupHost {
			(&cgroup{fs: c.fs, path: path.Join(home, name)}).remove()
		}
	}
}

// removeLeftovers clears away what killed hosts left behind.
func (c *cgroups) removeLeftovers() {
	names, _ := c.fs.Folders(c.base)
	for _, name := range names {
		home := path.Join(c.base, name)
		if !strings.HasPrefix(name, cgroupPrefix) {
			continue
		}
		unlock, err := c.fs.Lock(home)
		if err != nil {
			continue // its host lives
		}
		c.clear(home)
		_ = c.fs.Rmdir(path.Join(home, cgroupHost))
		_ = c.fs.Rmdir(home)
		unlock()
	}
}

// cgroup is the folder of one process and of all that it starts; nothing leaves it.
type cgroup struct {
	fs     cgroupFS
	path   string
	dir    *os.File // open, for the fork
	memory bool     // it has a limit of memory
}

// outOfMemory tells whether the kernel has ended the processes for their memory. To be asked before remove.
func (g *cgroup) outOfMemory() bool {
	if g == nil || !g.memory {
		return false
	}
	text, _ := g.fs.Read(path.Join(g.path, "memory.events"))
	for line := range strings.Lines(text) {
		if count, found := strings.CutPrefix(line, "oom_kill "); found {
			return strings.TrimSpace(count) != "0"
		}
	}
	return false
}

// kill ends whatever is in the folder.
func (g *cgroup) kill() {
	if g != nil {
		_ = g.fs.Write(path.Join(g.path, "cgroup.kill"), "1")
	}
}

// remove kills what is left and waits a little for it to be gone. What cannot be removed now is removed with the host.
func (g *cgroup) remove() {
	if g == nil {
		return
	}
	g.kill()
	if g.dir != nil {
		_ = g.dir.Close()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(cgroupRemoval)
	defer late.Stop()
	for errors.Is(g.fs.Rmdir(g.path), syscall.EBUSY) {
		select {
		case <-tick.C:
		case <-late.C:
			return
		}
	}
}
