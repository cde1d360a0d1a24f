package sdk

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ended tells when one of the processes has ended, without waking up before that: each is watched by a pidfd in the
// runtime's poller. stop ends the watch and waits for it. An error means that this kernel, or its sandbox, has no pidfd, or
// that a process is not there to be watched.
func ended(pids []int) (ended <-chan struct{}, stop func(), err error) {
	var files []*os.File
	shut := func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			shut()
			return nil, nil, fmt.Errorf("watch process %d: %w", pid, err)
		}
		f := os.NewFile(uintptr(fd), "pidfd")
		files = append(files, f)
		if err := f.SetReadDeadline(time.Time{}); err != nil { // the poller did not take it
			shut()
			return nil, nil, fmt.Errorf("watch process %d: %w", pid, err)
		}
	}
	done := make(chan struct{})
	tell := sync.OnceFunc(func() { close(done) })
	var watches sync.WaitGroup
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			shut()
			watches.Wait()
			return nil, nil, fmt.Errorf("watch a process: %w", err)
		}
		watches.Go(func() {
			over := false
			err := raw.Read(func(fd uintptr) bool {
				over = readable(int(fd))
				return over
			})
			if err == nil && over {
				tell()
			}
		})
	}
	return done, func() { shut(); watches.Wait() }, nil
}

// readable: the process of a pidfd has ended.
func readable(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents != 0
}
