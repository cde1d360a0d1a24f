package pluginhost

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// fakeCgroups is a cgroup v2 tree with the kernel's rules, as far as the host meets them: files appear with a folder, those
// of a controller only where the folder above hands it on; what has processes of its own hands nothing on, and what
// hands on takes no processes, but for the root; a folder with processes or folders in it stays.
type fakeCgroups struct {
	t       *testing.T
	root    string
	files   map[string]string // what a file holds
	folders []string
	procs   map[string]string // pid → folder
	locked  map[string]bool
	swap    bool // whether the kernel counts swap
	killed  []string
}

var _ cgroupFS = (*fakeCgroups)(nil)

// newFakeCgroups has this process in the cgroup own of a tree at /sys/fs/cgroup that hands these controllers to it.
func newFakeCgroups(t *testing.T, own, controllers string) *fakeCgroups {
	f := &fakeCgroups{t: t, root: "/sys/fs/cgroup", files: map[string]string{}, procs: map[string]string{}, locked: map[string]bool{}, swap: true}
	f.folder(f.root, controllers)
	at := f.root
	for part := range strings.SplitSeq(strings.Trim(own, "/"), "/") {
		if part != "" {
			f.files[at+"/cgroup.subtree_control"] = controllers
			at = path.Join(at, part)
			f.folder(at, controllers)
		}
	}
	f.procs[strconv.Itoa(os.Getpid())] = at
	f.files["/proc/self/mountinfo"] = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n35 22 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
	return f
}

func (f *fakeCgroups) folder(at, controllers string) {
	f.folders = append(f.folders, at)
	f.files[at+"/cgroup.controllers"] = controllers
	f.files[at+"/cgroup.subtree_control"] = ""
	if at == f.root {
		return
	}
	f.files[at+"/cgroup.kill"] = ""
	for name, file := range map[string][]string{"memory": {"memory.max", "memory.oom.group", "memory.events"}, "cpu": {"cpu.max"}} {
		if slices.Contains(strings.Fields(controllers), name) {
			for _, name := range file {
				f.files[at+"/"+name] = "untouched"
			}
			if name == "memory" && f.swap {
				f.files[at+"/memory.swap.max"] = "untouched"
			}
		}
	}
}

func (f *fakeCgroups) fail(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}

func (f *fakeCgroups) inside(folder string) []string {
	var pids []string
	for pid, at := range f.procs {
		if at == folder {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (f *fakeCgroups) Read(name string) (string, error) {
	if name == "/proc/self/cgroup" {
		return "0::/" + strings.TrimPrefix(strings.TrimPrefix(f.procs[strconv.Itoa(os.Getpid())], f.root), "/") + "\n", nil
	}
	if path.Base(name) == "cgroup.procs" && slices.Contains(f.folders, path.Dir(name)) {
		return strings.Join(f.inside(path.Dir(name)), "\n"), nil
	}
	text, ok := f.files[name]
	if !ok {
		return "", f.fail("open", name, syscall.ENOENT)
	}
	return text, nil
}

func (f *fakeCgroups) Write(name, text string) error {
	folder := path.Dir(name)
	switch path.Base(name) {
	case "cgroup.procs":
		if f.files[folder+"/cgroup.subtree_control"] != "" && folder != f.root {
			return f.fail("write", name, syscall.EBUSY)
		}
		f.procs[text] = folder
		return nil
	case "cgroup.kill":
		f.killed = append(f.killed, folder)
		for pid, at := range f.procs {
			if at == folder || strings.HasPrefix(at, folder+"/") {
				delete(f.procs, pid)
			}
		}
		return nil
	case "cgroup.subtree_control":
		return f.control(folder, text)
	}
	if _, ok := f.files[name]; !ok {
		return f.fail("open", name, syscall.ENOENT)
	}
	f.files[name] = text
	return nil
}

func (f *fakeCgroups) control(folder, text string) error {
	name := folder + "/cgroup.subtree_control"
	on := strings.Fields(f.files[name])
	for word := range strings.FieldsSeq(text) {
		controller := word[1:]
		switch {
		case !slices.Contains(strings.Fields(f.files[folder+"/cgroup.controllers"]), controller):
			return f.fail("write", name, syscall.ENOENT)
		case word[0] == '+' && folder != f.root && len(f.inside(folder)) > 0:
			return f.fail("write", name, syscall.EBUSY)
		case word[0] == '+' && !slices.Contains(on, controller):
			on = append(on, controller)
		case word[0] == '-':
			for _, below := range f.folders {
				if path.Dir(below) == folder && slices.Contains(strings.Fields(f.files[below+"/cgroup.subtree_control"]), controller) {
					return f.fail("write", name, syscall.EBUSY)
				}
			}
			on = slices.DeleteFunc(on, func(s string) bool { return s == controller })
		}
	}
	f.files[name] = strings.Join(on, " ")
	for _, below := range f.folders {
		if path.Dir(below) == folder {
			f.files[below+"/cgroup.controllers"] = f.files[name]
		}
	}
	return nil
}

func (f *fakeCgroups) Mkdir(name string) error {
	if slices.Contains(f.folders, name) {
		return f.fail("mkdir", name, syscall.EEXIST)
	}
	if !slices.Contains(f.folders, path.Dir(name)) {
		return f.fail("mkdir", name, syscall.ENOENT)
	}
	f.folder(name, f.files[path.Dir(name)+"/cgroup.subtree_control"])
	return nil
}

func (f *fakeCgroups) Rmdir(name string) error {
	if !slices.Contains(f.folders, name) {
		return f.fail("rmdir", name, syscall.ENOENT)
	}
	names, _ := f.Folders(name)
	if len(names) > 0 || len(f.inside(name)) > 0 {
		return f.fail("rmdir", name, syscall.EBUSY)
	}
	f.folders = slices.DeleteFunc(f.folders, func(at string) bool { return at == name })
	for file := range f.files {
		if path.Dir(file) == name {
			delete(f.files, file)
		}
	}
	return nil
}

func (f *fakeCgroups) Folders(name string) ([]string, error) {
	var names []string
	for _, at := range f.folders {
		if path.Dir(at) == name && at != name {
			names = append(names, path.Base(at))
		}
	}
	return names, nil
}

func (f *fakeCgroups) Open(string) (*os.File, error) { return os.Open(f.t.TempDir()) }

func (f *fakeCgroups) Lock(name string) (func(), error) {
	if f.locked[name] {
		return nil, f.fail("lock", name, syscall.EWOULDBLOCK)
	}
	f.locked[name] = true
	return func() { delete(f.locked, name) }, nil
}

var selfPid = strconv.Itoa(os.Getpid())

func TestAProcessGetsACgroupWithItsLimits(t *testing.T) {
	f := newFakeCgroups(t, "/system.slice/rivergate.service", "cpu io memory pids")
	c, err := openCgroups(f)
	require.NoError(t, err)
	service := "/sys/fs/cgroup/system.slice/rivergate.service"
	home := service + "/rivergate-" + selfPid + "-0"
	g, err := c.make(Limits{MemoryMax: 256 * mebibyte, CPUMax: 0.25})
	require.NoError(t, err)
	require.Equal(t, home+"/1", g.path)
	for file, want := range map[string]string{
		"memory.max": "268435456", "memory.swap.max": "0", "memory.oom.group": "1", "cpu.max": "25000 100000",
	} {
		require.Equal(t, want, f.files[g.path+"/"+file], file)
	}
	require.Equal(t, home+"/host", f.procs[selfPid], "the kernel wants no processes beside limited ones")

	only, err := c.make(Limits{CPUMax: 2})
	require.NoError(t, err)
	require.Equal(t, []string{"untouched", "200000 100000"}, []string{f.files[only.path+"/memory.max"], f.files[only.path+"/cpu.max"]})

	g.remove()
	require.NotContains(t, f.folders, g.path)
	c.close()
	require.Equal(t, service, f.procs[selfPid], "it goes back to where it came from")
	require.Contains(t, f.killed, only.path)
	require.Len(t, f.folders, 3, "nothing is left: %v", f.folders)
	require.Empty(t, f.files[service+"/cgroup.subtree_control"])
	require.Empty(t, f.locked)
}

func TestTheHostStaysWhereControllersAreHandedOnAlready(t *testing.T) {
	for name, own := range map[string]string{"the root": "/", "a delegated one": "/a"} {
		t.Run(name, func(t *testing.T) {
			f := newFakeCgroups(t, own, "cpu memory")
			at := f.procs[selfPid]
			f.files[at+"/cgroup.subtree_control"] = "memory cpu"
			c, err := openCgroups(f)
			require.NoError(t, err)
			_, err = c.make(Limits{MemoryMax: mebibyte})
			require.NoError(t, err)
			require.Equal(t, at, f.procs[selfPid])
			c.close()
			require.Equal(t, "memory cpu", f.files[at+"/cgroup.subtree_control"])
		})
	}
}

func TestWhatTheHostHasStartedMovesWithItAndStrangersAreLeftAlone(t *testing.T) {
	f := newFakeCgroups(t, "/box", "cpu memory")
	f.procs["99001"], f.procs["99002"] = "/sys/fs/cgroup/box", "/sys/fs/cgroup/box"
	f.files["/proc/99001/stat"] = "99001 (plugin (odd)) S " + selfPid + " 99001"
	f.files["/proc/99002/stat"] = "99002 (its child) S 99001 99001"
	c, err := openCgroups(f)
	require.NoError(t, err)
	for _, pid := range []string{selfPid, "99001", "99002"} {
		require.Equal(t, c.home+"/host", f.procs[pid])
	}
	c.close()

	f = newFakeCgroups(t, "/box", "cpu memory")
	f.procs["99003"] = "/sys/fs/cgroup/box"
	f.files["/proc/99003/stat"] = "99003 (sidecar) S 1 99003"
	f.files["/proc/1/stat"] = "1 (init) S 0 1"
	_, err = openCgroups(f)
	require.ErrorContains(t, err, "process 99003 lives there as well")
	require.Equal(t, "/sys/fs/cgroup/box", f.procs["99003"])
	require.Equal(t, "/sys/fs/cgroup/box", f.procs[selfPid])
	require.Len(t, f.folders, 2, "%v", f.folders)
}

func TestWhyCgroupsCannotBeUsedIsTold(t *testing.T) {
	for want, spoil := range map[string]func(f *fakeCgroups){
		"no cgroup2 file system is mounted":                   func(f *fakeCgroups) { f.files["/proc/self/mountinfo"] = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" },
		"the controllers memory and cpu are not delegated to": func(f *fakeCgroups) { f.files["/sys/fs/cgroup/box/cgroup.controllers"] = "pids" },
		"the kernel is older than Linux 5.14":                 func(f *fakeCgroups) { delete(f.files, "/sys/fs/cgroup/box/rivergate-"+selfPid+"-0/cgroup.kill") },
		"is not below the mounted /elsewhere": func(f *fakeCgroups) {
			f.files["/proc/self/mountinfo"] = "35 22 0:30 /elsewhere /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
		},
	} {
		f := newFakeCgroups(t, "/box", "cpu memory")
		files := cgroupFS(f)
		if strings.Contains(want, "kernel") {
			files = oldKernel{f}
		}
		spoil(f)
		_, err := openCgroups(files)
		require.ErrorContains(t, err, want)
	}
	_, err := openCgroups(readOnly{newFakeCgroups(t, "/box", "cpu memory")})
	require.ErrorContains(t, err, "/sys/fs/cgroup/box cannot be written (read-only file system): run the host as a service with Delegate=yes")
}

type oldKernel struct{ *fakeCgroups }

func (f oldKernel) Mkdir(name string) error {
	err := f.fakeCgroups.Mkdir(name)
	delete(f.files, name+"/cgroup.kill")
	return err
}

type readOnly struct{ *fakeCgroups }

func (f readOnly) Mkdir(name string) error { return f.fail("mkdir", name, syscall.EROFS) }

func TestACgroupMountedFromInsideTheTreeIsFound(t *testing.T) {
	f := newFakeCgroups(t, "/box/own", "cpu memory")
	f.files["/proc/self/mountinfo"] = `35 22 0:30 /box /sys/fs/cgroup/b\040x rw - cgroup2 cgroup2 rw` + "\n"
	at, err := ownCgroup(f)
	require.NoError(t, err)
	require.Equal(t, "/sys/fs/cgroup/b x/own", at)
}

func TestAKernelWithoutSwapAccountingStillLimitsMemory(t *testing.T) {
	f := newFakeCgroups(t, "/box", "cpu memory")
	f.swap = false
	c, err := openCgroups(f)
	require.NoError(t, err)
	_, err = c.make(Limits{MemoryMax: 64 * mebibyte})
	require.NoError(t, err)
}

func TestFoldersOfDeadHostsAreRemovedAndThoseOfLivingOnesAreNot(t *testing.T) {
	f := newFakeCgroups(t, "/box", "cpu memory")
	first, err := openCgroups(f)
	require.NoError(t, err)
	_, err = first.make(Limits{MemoryMax: 64 * mebibyte})
	require.NoError(t, err)
	dead := "/sys/fs/cgroup/box/rivergate-99009-0"
	for _, name := range []string{dead, dead + "/1", dead + "/host"} {
		require.NoError(t, f.Mkdir(name))
	}
	f.procs["99010"] = dead + "/1"

	second, err := openCgroups(f) // a second host of this process, which is in the leaf of the first
	require.NoError(t, err)
	require.Equal(t, "/sys/fs/cgroup/box/rivergate-"+selfPid+"-1", second.home)
	require.NotContains(t, f.procs, "99010", "what outlived its host is killed")
	for _, at := range f.folders {
		require.NotContains(t, at, "rivergate-99009")
	}
	require.Contains(t, f.folders, first.home+"/1")
	require.Equal(t, first.home+"/host", f.procs[selfPid])
	first.close()
	second.close()
	require.Contains(t, f.procs, selfPid, "a host never ends itself")
}

func TestAKillByTheKernelForMemoryIsSeen(t *testing.T) {
	f := newFakeCgroups(t, "/box", "cpu memory")
	c, err := openCgroups(f)
	require.NoError(t, err)
	g, err := c.make(Limits{MemoryMax: 64 * mebibyte})
	require.NoError(t, err)
	f.files[g.path+"/memory.events"] = "low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n"
	require.False(t, g.outOfMemory())
	f.files[g.path+"/memory.events"] = "low 0\nhigh 0\nmax 42\noom 1\noom_kill 3\noom_group_kill 1\n"
	require.True(t, g.outOfMemory())
	bound := confinement{limits: Limits{MemoryMax: 64 * mebibyte}, prefix: "PLUGIN_ACME_"}
	require.Equal(t, "over its memory limit: the kernel had no more to give, PLUGIN_ACME_MEMORY_MAX is 64 MiB", bound.overMemory(0))
	g.remove()
	var none *cgroup
	require.False(t, none.outOfMemory())
	none.kill()
	none.remove()
}

func TestEachLimitIsKeptByTheBestThatTheMachineHas(t *testing.T) {
	both := Limits{MemoryMax: 64 * mebibyte, CPUMax: 1, OpenFiles: 100}
	for _, c := range []struct {
		controllers string
		want        LimitStatus
	}{
		{"cpu memory", LimitStatus{By: byCgroup}},
		{"cpu", LimitStatus{By: byCgroup + ", " + byRlimits}},
		{"memory", LimitStatus{By: byCgroup, NotEnforced: []string{"CPU_MAX (needs cgroup v2: the controller cpu is not delegated to /sys/fs/cgroup/box)"}}},
		{"io", LimitStatus{By: byRlimits, NotEnforced: []string{"CPU_MAX (needs cgroup v2: the controllers memory and cpu are not delegated to /sys/fs/cgroup/box)"}}},
	} {
		l := newLimiter(newFakeCgroups(t, "/box", c.controllers))
		bound := confinement{limits: both, prefix: "PLUGIN_ACME_", watch: l.watch}
		l.assign(&bound, hclog.NewNullLogger())
		c.want.MemoryMax, c.want.CPUMax, c.want.OpenFiles = both.MemoryMax, both.CPUMax, both.OpenFiles
		require.Equal(t, &c.want, bound.status(), c.controllers)
		require.Equal(t, !strings.Contains(c.controllers, "memory"), bound.watched)
		l.stop()
	}
}

// TestAPluginIsForkedIntoItsCgroup uses the real tree, as far as this machine has one: without controllers it limits
// nothing, but the fork, the kill and the removal are the kernel's own.
func TestAPluginIsForkedIntoItsCgroup(t *testing.T) {
	base, err := ownCgroup(kernelFS{})
	if err != nil {
		t.Skip(err)
	}
	c := &cgroups{fs: kernelFS{}, base: base}
	if err := c.makeHome(); err != nil {
		t.Skip(err)
	}
	w := newWorld(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\ncat /proc/self/cgroup >&2\nsetsid sleep 3600 </dev/null >/dev/null 2>&1 &\necho its child is $! >&2\nsleep 3600\n"), 0o755))
	p := newProcess(w.host.spawn, script, dir, newPluginLog(w.opts.Log), newHandshake(dir, nil, transport{}), confinement{tree: c})
	require.NoError(t, p.Start(t.Context()))
	w.log.await(t, fmt.Sprintf("0::%s/1", strings.TrimPrefix(c.home, mountOf(base))))
	w.log.await(t, "its child is")
	text, err := kernelFS{}.Read(p.group.path + "/cgroup.procs")
	require.NoError(t, err)
	pids := strings.Fields(text)
	require.GreaterOrEqual(t, len(pids), 2)

	p.kill("the test wants it") // the child has a session and an environment of its own, and still cannot get away
	<-p.gone
	require.NoDirExists(t, p.group.path)
	for _, pid := range pids {
		n, err := strconv.Atoi(pid)
		require.NoError(t, err)
		require.False(t, alive(n))
	}
	c.close()
	require.NoDirExists(t, c.home)
}

// mountOf is where the cgroup tree is mounted, when the test is at its root; else the paths are compared by their ends.
func mountOf(base string) string {
	own, _ := kernelFS{}.Read("/proc/self/cgroup")
	for line := range strings.Lines(own) {
		if at, found := strings.CutPrefix(strings.TrimSpace(line), "0::"); found {
			return strings.TrimSuffix(base, strings.TrimSuffix(at, "/"))
		}
	}
	return base
}
