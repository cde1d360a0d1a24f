package pluginhost

import (
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

// mostOpenFiles is what OPEN_FILES can be at most.
func mostOpenFiles() (uint64, error) {
	if unix.Geteuid() == 0 {
		return math.MaxUint64, nil
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	return own.Max, nil
}

// dataWall is the RLIMIT_DATA of a process whose memory is watched. The watch alone says "over its memory limit", and
// looks a few times a second; the wall stops what grows by gigabytes between two looks. It must never come first:
// RLIMIT_DATA counts what is reserved for writing, touched or not, and runtimes reserve several times what they use.
func dataWall(memoryMax int64) uint64 { return 4*uint64(memoryMax) + 1<<30 }

// outOfMemory tells whether a process's last words are that it got no more memory.
func outOfMemory(words string) bool {
	words = strings.ToLower(words)
	for _, sign := range []string{"out of memory", "cannot allocate memory", "memoryerror", "bad_alloc"} {
		if strings.Contains(words, sign) {
			return true
		}
	}
	return false
}

// hitWall explains the end of a process that ran out of memory before the watch saw it.
func (c *confinement) hitWall() string {
	return fmt.Sprintf("it cannot have more than %d MiB, since %sMEMORY_MAX is %d MiB", dataWall(c.limits.MemoryMax)/mebibyte, c.prefix, c.limits.MemoryMax/mebibyte)
}

// hasSysResource tells whether this process may set the limits of other users' processes. Root has it on a machine, and
// seldom in a container. Without it the memory of such a process is still watched, and only the wall is missing.
func hasSysResource() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// applyRlimits bounds a process that runs already. What it starts inherits the bounds.
func (c *confinement) applyRlimits(pid int) error {
	if c.unbounded {
		return nil
	}
	if n := uint64(c.limits.OpenFiles); n > 0 {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}, nil); err != nil {
			return fmt.Errorf("limit its open files: %w", err)
		}
	}
	if c.watched {
		wall := dataWall(c.limits.MemoryMax)
		if err := unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: wall, Max: wall}, nil); err != nil {
			return fmt.Errorf("limit its memory: %w", err)
		}
	}
	return nil
}
