package sdk

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"
)

// parentTick is how often the parent is looked at where the kernel cannot tell.
const parentTick = 200 * time.Millisecond

// watchParent returns true when the host is dead, false when ctx ends. A killed host cannot say goodbye; what remains of
// it is that its children get another parent. The host's pid, when it is given, covers a wrapper between the two.
//
// An idle plugin is to sleep, so the kernel is asked to tell (see ended); only where it cannot, the parent is looked at now
// and then.
func watchParent(ctx context.Context, parent int, hostPID string) bool {
	host, err := strconv.Atoi(hostPID)
	if err != nil {
		host = 0
	}
	orphaned := func() bool { return os.Getppid() != parent || host > 0 && gone(host) }

	pids := []int{parent}
	if host > 0 && host != parent {
		pids = append(pids, host)
	}
	ended, stop, err := ended(pids)
	var tick <-chan time.Time
	if err != nil {
		ticker := time.NewTicker(parentTick)
		defer ticker.Stop()
		tick = ticker.C
	} else {
		defer stop()
	}
	for {
		// Also after ended has begun to look: a pid that was given away before that would be somebody else's.
		if orphaned() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ended:
			return true
		case <-tick:
		}
	}
}

func gone(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = process.Release() }()
	err = process.Signal(syscall.Signal(0))
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH)
}
