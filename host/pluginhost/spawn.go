package pluginhost

import (
	"errors"
	"os/exec"
	"runtime"
	"syscall"
)

var errStopped = errors.New("the plugin host has stopped")

// spawner forks plugin processes, all from one operating system thread that lives as long as the host: the kernel sends
// Pdeathsig when the thread that forked ends, not the process.
type spawner struct {
	requests chan spawnRequest
	quit     chan struct{}
	stopped  chan struct{}
}

type spawnRequest struct {
	cmd  *exec.Cmd
	done chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawnRequest), quit: make(chan struct{}), stopped: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	// Never unlocked: the thread ends with this goroutine, and then no child is left.
	runtime.LockOSThread()
	defer close(s.stopped)
	for {
		select {
		case r := <-s.requests:
			r.done <- r.cmd.Start()
		case <-s.quit:
			return
		}
	}
}

// start starts the command with these attributes, in a process group of its own that dies with the host.
func (s *spawner) start(cmd *exec.Cmd, attr *syscall.SysProcAttr) error {
	attr.Setpgid, attr.Pdeathsig = true, syscall.SIGKILL // the signal is set after the user, so it stays
	cmd.SysProcAttr = attr
	r := spawnRequest{cmd: cmd, done: make(chan error, 1)}
	select {
	case s.requests <- r:
		return <-r.done
	case <-s.quit:
		return errStopped
	}
}

// stop ends the thread, and with it every child that still runs.
func (s *spawner) stop() {
	close(s.quit)
	<-s.stopped
}
