package pluginhost

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/sdk/settings"
)

// Limits bound what one plugin process may use, with all that it starts. Zero: no limit.
type Limits struct {
	MemoryMax int64   // bytes
	CPUMax    float64 // cores
	OpenFiles int
}

// LimitStatus is what bounds a plugin process, and how.
type LimitStatus struct {
	MemoryMax   int64    `json:"memory_max,omitempty"` // bytes
	CPUMax      float64  `json:"cpu_max,omitempty"`    // cores
	OpenFiles   int      `json:"open_files,omitempty"`
	By          string   `json:"by,omitempty"`           // "cgroup v2", "rlimits and watching", or both
	NotEnforced []string `json:"not_enforced,omitempty"` // limits that this machine cannot keep, each with why
	RunAs       string   `json:"run_as,omitempty"`
}

// What enforces a limit, for LimitStatus.By.
const (
	byCgroup  = "cgroup v2"
	byRlimits = "rlimits and watching"
)

const (
	mebibyte     = 1 << 20
	minMemoryMax = 16 * mebibyte
	minCPUMax    = 0.01 // of a core; the kernel's shortest quota is 1 ms of its period of 100 ms
	minOpenFiles = 32
)

// checkLimits finds limits that no plugin could live with, and users that do not exist.
func (in Instance) checkLimits() []settings.Problem {
	var problems []settings.Problem
	problem := func(suffix, format string, args ...any) {
		problems = append(problems, settings.Problem{Variable: in.Prefix + suffix, Reason: fmt.Sprintf(format, args...)})
	}
	l := in.Limits
	if l.MemoryMax != 0 && l.MemoryMax < minMemoryMax {
		problem("MEMORY_MAX", "must be at least 16MiB, which is what a small Go program needs to start; 0 means no limit")
	}
	if l.CPUMax != 0 && !(l.CPUMax >= minCPUMax) { // a NaN is refused as well
		problem("CPU_MAX", "must be at least 0.01 cores, or the plugin would not even answer health checks; 0 means no limit")
	}
	switch most, err := mostOpenFiles(); {
	case l.OpenFiles != 0 && l.OpenFiles < minOpenFiles:
		problem("OPEN_FILES", "must be at least 32: a plugin that does nothing has about 15 open, for its runtime, its output and the connection to the host; 0 means the host's own limit")
	case err == nil && uint64(max(l.OpenFiles, 0)) > most:
		problem("OPEN_FILES", "is more than the %d that the host itself may have open: raise its own limit (ulimit -n, LimitNOFILE=) or lower this one", most)
	}
	if _, err := lookupAccount(in.RunAs); err != nil {
		problem("RUN_AS", "%s", err)
	}
	return problems
}

// limiter knows how this machine can enforce limits. cgroups are set up when the first limit needs them.
type limiter struct {
	watch *memoryWatch
	files cgroupFS
	// maySetRlimits tells whether the kernel lets the host bound a process of another user.
	maySetRlimits func() bool

	mu     sync.Mutex
	asked  bool // whether cgroups can be used
	tree   *cgroups
	why    error           // they cannot
	warned map[string]bool // what was said once
}

func newLimiter(files cgroupFS) *limiter {
	return &limiter{watch: newMemoryWatch(), files: files, maySetRlimits: hasSysResource, warned: map[string]bool{}}
}

// cgroups sets them up, or says why they cannot be used here. Called with the lock held.
func (l *limiter) cgroups() (*cgroups, error) {
	if !l.asked {
		l.asked = true
		l.tree, l.why = openCgroups(l.files)
	}
	return l.tree, l.why
}

// stop is called when no process is left.
func (l *limiter) stop() {
	l.watch.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tree != nil {
		l.tree.close()
	}
}

// confinement is all that bounds one process.
type confinement struct {
	limits      Limits
	prefix      string   // of the variables that set them
	runAs       string   // as it was given
	user        *account // nil: the host's own
	tree        *cgroups // nil: no cgroup for this process
	watch       *memoryWatch
	watched     bool // its memory is watched, not limited by the kernel
	unbounded   bool // the kernel does not let the host set rlimits for its user
	notEnforced []string
}

// confine decides how the limits of an instance's process are enforced.
func (h *Host) confine(in Instance) (confinement, error) {
	user, err := lookupAccount(in.RunAs)
	if err != nil {
		return confinement{}, fmt.Errorf("%sRUN_AS %w", in.Prefix, err)
	}
	c := confinement{limits: in.Limits, prefix: in.Prefix, runAs: in.RunAs, user: user, watch: h.limits.watch}
	c.unbounded = user != nil && !h.limits.maySetRlimits()
	h.limits.assign(&c, h.log.Named(in.Name))
	return c, nil
}

// assign gives each limit to the kernel where that can be had, memory to the watch where not.
func (l *limiter) assign(c *confinement, log hclog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.limits.MemoryMax > 0 || c.limits.CPUMax > 0 {
		l.assignCgroup(c)
	}
	if c.limits.OpenFiles > 0 && c.unbounded {
		c.notEnforced = append(c.notEnforced, "OPEN_FILES (for a process of another user, the host needs the capability CAP_SYS_RESOURCE; in a container: --cap-add SYS_RESOURCE)")
	}
	for _, text := range c.notEnforced {
		if key := c.prefix + text; !l.warned[key] {
			l.warned[key] = true
			log.Warn("a limit cannot be enforced on this machine; the plugin runs without it", "limit", c.prefix+text)
		}
	}
}

// assignCgroup is called with the lock held.
func (l *limiter) assignCgroup(c *confinement) {
	tree, why := l.cgroups()
	if c.limits.MemoryMax > 0 {
		if tree.controls("memory") {
			c.tree = tree
		} else {
			c.watched = true
		}
	}
	if c.limits.CPUMax > 0 {
		if tree.controls("cpu") {
			c.tree = tree
		} else {
			if why == nil {
				why = fmt.Errorf("the controller cpu is not delegated to %s", tree.base)
			}
			c.notEnforced = append(c.notEnforced, fmt.Sprintf("CPU_MAX (needs cgroup v2: %v)", why))
		}
	}
}

// status is nil when nothing bounds the process.
func (c *confinement) status() *LimitStatus {
	if c.limits == (Limits{}) && c.runAs == "" {
		return nil
	}
	var by []string
	if c.tree != nil {
		by = append(by, byCgroup)
	}
	if c.watched || c.limits.OpenFiles > 0 && c.tree == nil && !c.unbounded {
		by = append(by, byRlimits)
	}
	return &LimitStatus{
		MemoryMax: c.limits.MemoryMax, CPUMax: c.limits.CPUMax, OpenFiles: c.limits.OpenFiles,
		By: strings.Join(by, ", "), NotEnforced: slices.Clone(c.notEnforced), RunAs: c.runAs,
	}
}

// overMemory is why a process was killed. used is what it held, bytes; 0: only the kernel knows.
func (c *confinement) overMemory(used int64) string {
	how := "the kernel had no more to give"
	if used > 0 {
		how = fmt.Sprintf("%d MiB resident", (used+mebibyte-1)/mebibyte) // rounded up: never "256 MiB" for more than 256 MiB
	}
	return fmt.Sprintf("over its memory limit: %s, %sMEMORY_MAX is %d MiB", how, c.prefix, c.limits.MemoryMax/mebibyte)
}
