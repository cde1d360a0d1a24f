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

	confine confinement
	program string  // that is executed: path, or a copy for the user of confine
	group   *cgroup // nil: none

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

func newProcess(spawn *spawner, path, dir string, log *pluginLog, shakes *handshake, confine confinement) *process {
	p := &process{
		spawn: spawn, path: path, dir: dir, log: log, shakes: shakes, confine: confine, program: path,
		dead: make(chan struct{}), gone: make(chan struct{}), clientMayKnow: make(chan struct{}),
	}
	shakes.reject = func() { p.kill("its handshake was refused") }
	return p
}

// Start forks. After an error there is no process, and nothing but dir.
func (p *process) Start(context.Context) error {
	if err := p.prepare(); err != nil {
		p.clear()
		return fmt.Errorf("start plugin: %w", err)
	}
	if err := p.begin(); err != nil {
		p.clear()
		return err
	}
	return nil
}

// prepare makes what the process is confined by.
func (p *process) prepare() error {
	var err error
	if user := p.confine.user; user != nil {
		if p.program, err = user.program(p.path, p.dir+binSuffix); err != nil {
			return err
		}
		if err = user.own(p.dir); err != nil { // with the folder for sockets that go-plugin has made in it
			return fmt.Errorf("give its folder to %s: %w", user.name, err)
		}
	}
	if tree := p.confine.tree; tree != nil {
		p.group, err = tree.make(p.confine.limits)
	}
	return err
}

// clear removes what prepare has made.
func (p *process) clear() {
	p.group.remove()
	if p.confine.user != nil {
		_ = os.RemoveAll(p.dir + binSuffix)
	}
}

func (p *process) begin() error {
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start plugin: %w", err)
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		_, _ = outRead.Close(), outWrite.Close()
		return fmt.Errorf("start plugin: %w", err)
	}
	p.cmd = exec.Command(p.program) // #nosec G204 -- running plugin binaries is what this package is for
	p.cmd.Env = p.env
	p.cmd.Stdout, p.cmd.Stderr = outWrite, errWrite
	err = p.fork()
	_, _ = outWrite.Close(), errWrite.Close()
	if err != nil {
		_, _ = outRead.Close(), errRead.Close()
		return err
	}

	var reading sync.WaitGroup
	reading.Go(func() { p.log.drain(outRead, "stdout", p.stdoutLine) })
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
	if err := p.spawn.start(p.cmd, p.attributes()); err != nil {
		return explainExec(p.program, err)
	}
	p.pid = p.cmd.Process.Pid
	p.bound()
	if p.confine.watched {
		p.confine.watch.add(p, p.confine.limits.MemoryMax)
	}
	return nil
}

// attributes are what the kernel does to the process between fork and exec.
func (p *process) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if p.confine.user != nil {
		attr.Credential = p.confine.user.credential()
	}
	if p.group != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(p.group.dir.Fd()) // in it from the first moment
	}
	return attr
}

// bound sets the rlimits. Called with the lock held.
func (p *process) bound() {
	if p.reaped {
		return
	}
	if err := p.confine.applyRlimits(p.pid); err != nil && !errors.Is(err, unix.ESRCH) {
		if p.killed == "" {
			p.killed = err.Error()
		}
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
}

// stdoutLine takes a line of the plugin's stdout, and tells whether it was the handshake.
func (p *process) stdoutLine(line []byte) bool {
	if !p.shakes.line(line) {
		return false
	}
	// Once more: Go's runtime raises the limit of open files while a program starts, and may have overwritten ours.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bound()
	return true
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
	if p.confine.watched {
		p.confine.watch.remove(p)
	}
	p.mu.Lock()
	if p.killed == "" && p.group.outOfMemory() {
		p.killed = p.confine.overMemory(0)
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	p.group.kill()
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
	p.log.close()
	p.how = p.describeEnd(err)
	p.shakes.close()
	close(p.dead)

	killStrays(p.dir)
	p.clear()
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
		if p.confine.watched && outOfMemory(why) {
			how += "; " + p.confine.hitWall()
		}
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
