package rig

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a child with its own process group. It dies with us, is always reaped, and is killed with its group.
type Process struct {
	PID int

	done chan struct{}
	err  error // of Wait; valid after done
}

// Spawn starts the program with exactly this environment. Both outputs go to log; a nil stdout goes there too.
func Spawn(path string, args, env []string, dir string, stdin io.Reader, stdout, log io.Writer) (*Process, error) {
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, dir, stdin, stdout, log
	if stdout == nil {
		cmd.Stdout = log
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	p := &Process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal follows the thread that forked, so the thread stays until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.PID = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return p, nil
}

// Done is closed when the process was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is valid after Done; -1 when a signal ended the process.
func (p *Process) ExitCode() int {
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return 0
	case errors.As(p.err, &exit):
		return exit.ExitCode()
	default:
		return -1
	}
}

// Signal sends s to the process alone.
func (p *Process) Signal(s syscall.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
		return syscall.Kill(p.PID, s)
	}
}

// Kill sends SIGKILL to the process alone, as an operator's kill -9 or the kernel would, and waits until it is reaped.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL) // already gone: that is what is wanted
	<-p.done
}

// KillGroup ends the process and whatever stayed in its group.
func (p *Process) KillGroup() {
	select {
	case <-p.done: // the group may live on without its leader
	default:
	}
	_ = syscall.Kill(-p.PID, syscall.SIGKILL) // ESRCH: nothing left
	<-p.done
}
