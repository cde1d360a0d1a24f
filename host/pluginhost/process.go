package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
)

const (
	// outputGrace is how long a dead process's output is still read. Longer only when somebody else holds its pipes.
	outputGrace = 50 * time.Millisecond
	strayGrace  = time.Second
)

// process is one operating system process of a plugin, with everything that it started. It is go-plugin's runner, so that
// killing, waiting and both outputs are ours. A process that was started is always reaped, and its group killed.
type process struct {
	spawn  *spawner
	path   string // of the private copy
	env    []string
	dir    string // private: sockets and TMPDIR; removed with the process
	log    *pluginLog
	shakes *handshake

	cmd *exec.Cmd
	pid int

	mu     sync.Mutex
	reaped bool
	killed string // why the host killed it; empty: it did not
	told   bool   // the host asked it to end

	dead chan struct{} // closed when it was reaped; how is set then
	how  string        // "exit status 2 (panic: …)", "signal: killed"
	gone chan struct{} // closed when nothing of it is left

	// clientMayKnow is closed when go-plugin's client may learn of the end. Not before it is asked to clean up: a client
	// that connects to a process that it knows to be dead fails, and leaves its connection open for good.
	clientMayKnow chan struct{}
}

var _ runner.Runner = (*process)(nil)

func newProcess(spawn *spawner, path, dir string, log *pluginLog, shakes *handshake) *process {
	p := &process{
		spawn: spawn, path: path, dir: dir, log: log, shakes: shakes,
		dead: make(chan struct{}), gone: make(chan struct{}), clientMayKnow: make(chan struct{}),
	}
	shakes.reject = func() { p.kill("its handshake was refused") }
	return p
}

// Start forks. After an error there is no process.
func (p *process) Start(context.Context) error {
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start plugin: %w", err)
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		_, _ = outRead.Close(), outWrite.Close()
		return fmt.Errorf("start plugin: %w", err)
	}
	p.cmd = exec.Command(p.path) // #nosec G204 -- running plugin binaries is what this package is for
	p.cmd.Env = p.env
	p.cmd.Stdout, p.cmd.Stderr = outWrite, errWrite
	err = p.fork()
	_, _ = outWrite.Close(), errWrite.Close()
	if err != nil {
		_, _ = outRead.Close(), errRead.Close()
		return err
	}

	var reading sync.WaitGroup
	reading.Go(func() { p.log.drain(outRead, "stdout", p.shakes.line) })
	reading.Go(func() { p.log.drain(errRead, "", nil) })
	read := make(chan struct{})
	go func() {
		reading.Wait()
		close(read)
	}()
	go p.watch(read, outRead, errRead)
	return nil
}

// fork starts the command, unless the process was killed before it began.
func (p *process) fork() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed != "" {
		return errors.New(p.killed)
	}
	if err := p.spawn.start(p.cmd); err != nil {
		return explainExec(p.path, err)
	}
	p.pid = p.cmd.Process.Pid
	return nil
}

func (p *process) started() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid != 0
}

// endedItself tells whether the process is dead and nobody here killed it.
func (p *process) endedItself() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reaped && p.killed == ""
}

// watch waits for the process to end and clears away what it leaves.
func (p *process) watch(read <-chan struct{}, outputs ...*os.File) {
	// First without reaping: as long as the leader is a zombie, its group's number cannot belong to anybody else.
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	err := p.cmd.Wait()
	p.reaped = true
	p.mu.Unlock()

	if !closedWithin(read, outputGrace) {
		killStrays(p.dir)
		_ = closedWithin(read, strayGrace)
	}
	for _, f := range outputs {
		_ = f.Close()
	}
	<-read
	p.how = p.describeEnd(err)
	p.shakes.close()
	close(p.dead)

	killStrays(p.dir)
	_ = os.RemoveAll(p.dir)
	close(p.gone)
}

func closedWithin(c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

func (p *process) describeEnd(err error) string {
	p.mu.Lock()
	killed := p.killed
	p.mu.Unlock()
	if killed != "" {
		return "killed: " + killed
	}
	how := "exit status 0"
	if err != nil {
		how = err.Error()
	}
	if why := p.log.reason(); why != "" {
		how += " (" + why + ")"
	}
	return how
}

// kill ends the process and everything in its group, for a reason that the operator will read.
func (p *process) kill(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	if p.killed == "" {
		p.killed = reason
	}
	if p.pid == 0 {
		return // fork will see it
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL)
}

// terminate asks the process to end.
func (p *process) terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = true
	if p.pid != 0 && !p.reaped {
		_ = unix.Kill(p.pid, syscall.SIGTERM)
	}
}

// expectEnd notes that the process ends because the host wants it to: that is no crash.
func (p *process) expectEnd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = true
}

func (p *process) wasTold() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told
}

// The rest is what go-plugin wants of a runner.

func (p *process) Wait(context.Context) error {
	<-p.dead
	<-p.clientMayKnow
	return nil
}

func (p *process) Kill(context.Context) error {
	p.kill("")
	return nil
}

func (p *process) ID() string {
	if !p.started() {
		return ""
	}
	return strconv.Itoa(p.pid)
}

func (p *process) Name() string                    { return filepath.Base(p.path) }
func (p *process) Stdout() io.ReadCloser           { return p.shakes.reader }
func (p *process) Stderr() io.ReadCloser           { return io.NopCloser(strings.NewReader("")) }
func (p *process) Diagnose(context.Context) string { return "" }

func (p *process) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
