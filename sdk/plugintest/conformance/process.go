package conformance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

// troubleError is the trouble of this machine: it says nothing about the plugin.
type troubleError struct{ err error }

func (t *troubleError) Error() string { return t.err.Error() }
func (t *troubleError) Unwrap() error { return t.err }

// outputTime is how long the outputs of a dead process are still read, when somebody else holds them.
const outputTime = 500 * time.Millisecond

// process is a plugin process, in a process group of its own.
type process struct {
	cmd     *exec.Cmd
	dir     string // private: sockets and TMPDIR
	timeout time.Duration
	conn    *grpc.ClientConn
	client  protocol.Client
	line    line
	stdio   sync.WaitGroup // reads what go-plugin's server passes on
	hangUp  func()         // ends that

	stdout stdout
	stderr stderr
	dead   chan struct{} // closed when it is reaped, its group killed and its output read
	spare  atomic.Bool   // the end of cmd is not the end of its group
	killed chan struct{} // closed when the group is to be killed in any case
	kills  sync.Once
	how    string // its end: "exit status 2 (panic: …)"
	code   int    // exit code; -1: ended by a signal
}

// environ is what a host gives to a plugin, and what the user adds.
func (s *suite) environ(dir string) []string {
	versions := make([]string, len(s.offered))
	for i, v := range s.offered {
		versions[i] = strconv.Itoa(v)
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "PLUGIN_UNIX_SOCKET_DIR=" + dir,
		"PLUGIN_MIN_PORT=10000", "PLUGIN_MAX_PORT=25000", "PLUGIN_PROTOCOL_VERSIONS=" + strings.Join(versions, ","),
		wire.EnvCookie + "=" + wire.CookieValue, wire.EnvLogLevel + "=info",
	}
	return append(env, s.opts.Env...)
}

// start starts the binary, waits for its handshake line and connects. After an error nothing of it is left.
func (s *suite) start(ctx context.Context) (*process, error) {
	dir, err := privateDir()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.opts.Path) // #nosec G204 -- running plugin binaries is what this package is for
	cmd.Env = append(s.environ(dir), wire.EnvHostPID+"="+strconv.Itoa(os.Getpid()))
	return s.launch(ctx, cmd, dir)
}

// privateDir has a short name: a unix socket's path has room for about a hundred bytes.
func privateDir() (string, error) {
	dir, err := os.MkdirTemp("", "rvgc")
	if err != nil {
		return "", &troubleError{fmt.Errorf("conformance: make a folder for sockets: %w", err)}
	}
	return dir, nil
}

func (s *suite) launch(ctx context.Context, cmd *exec.Cmd, dir string) (*process, error) {
	p := &process{cmd: cmd, dir: dir, timeout: s.opts.Timeout, dead: make(chan struct{}), killed: make(chan struct{})}
	p.stdout.shook = make(chan struct{})
	if err := p.fork(s.opts.Log); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	err := p.connect(ctx, s.offered)
	if err != nil {
		p.destroy()
		return nil, err
	}
	return p, nil
}

func (p *process) fork(log io.Writer) error {
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return &troubleError{fmt.Errorf("conformance: %w", err)}
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		_, _ = outRead.Close(), outWrite.Close()
		return &troubleError{fmt.Errorf("conformance: %w", err)}
	}
	p.cmd.Stdout, p.cmd.Stderr = outWrite, errWrite
	p.cmd.SysProcAttr = ownGroup()
	err = p.cmd.Start()
	_, _ = outWrite.Close(), errWrite.Close()
	if err != nil {
		_, _ = outRead.Close(), errRead.Close()
		return fail("a program that this machine can run", explainExec(err), "build the binary for this machine, and make it executable (chmod +x)")
	}
	p.stdout.log, p.stderr.log = log, log
	var reading sync.WaitGroup
	reading.Go(func() { eachLine(outRead, p.stdout.take); p.stdout.end() })
	reading.Go(func() { eachLine(errRead, p.stderr.take) })
	go func() {
		err := p.cmd.Wait()
		if p.spare.Load() {
			<-p.killed
		}
		killGroup(p.cmd.Process.Pid)
		killStrays(p.dir) // they may hold the outputs
		deadline := time.Now().Add(outputTime)
		_ = outRead.SetReadDeadline(deadline)
		_ = errRead.SetReadDeadline(deadline)
		reading.Wait()
		_, _ = outRead.Close(), errRead.Close()
		p.code, p.how = p.cmd.ProcessState.ExitCode(), "exit status 0"
		if err != nil {
			p.how = err.Error()
		}
		if why := p.stderr.reason(p.code < 0); why != "" {
			p.how += " (" + why + ")"
		}
		close(p.dead)
	}()
	return nil
}

func explainExec(err error) string {
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return "the system cannot run it: it is no program, or was built for another system or processor"
	case errors.Is(err, fs.ErrPermission):
		return "it is not executable"
	case errors.Is(err, fs.ErrNotExist):
		return "the interpreter or loader that the file names is not on this machine"
	}
	return err.Error()
}

// connect waits for the handshake line and opens the connection that it names.
func (p *process) connect(ctx context.Context, offered []int) error {
	const change = "serve the plugin protocol; in Go, end main with sdk.Serve"
	expected := fmt.Sprintf("a handshake line on standard output within %s", p.timeout)
	timer := time.NewTimer(p.timeout)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.stdout.shook:
	case <-timer.C:
		return fail(expected, "none; it runs on"+p.stdout.quoteStray(), change)
	}
	var found bool
	if p.line, found = p.stdout.handshake(); !found {
		if !closedWithin(p.dead, p.timeout) {
			return fail(expected, "none; it has closed its standard output"+p.stdout.quoteStray(), change)
		}
		return fail(expected, "none; it ended: "+p.how+p.stdout.quoteStray(), change)
	}
	if err := p.line.check(p.dir, offered); err != nil {
		return err
	}
	target := "passthrough:///" + p.line.address
	if p.line.network == "unix" {
		target = "unix:" + p.line.address
	}
	conn, err := grpc.NewClient(target, append(wire.DialOptions(), grpc.WithTransportCredentials(wire.Local()))...)
	if err != nil {
		return fail("an address that can be connected to", oneLine(err.Error()), "name the address on which the plugin listens")
	}
	p.conn, p.client = conn, wire.NewClient(conn)
	wire.TakeNear(p.client, true) // as the host does
	p.drainStdio()
	return nil
}

// end asks the process to end, and kills it when it does not. Nothing of it is left afterwards.
func (s *suite) end(p *process) {
	p.hangUp()
	if !s.brusque {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if !closedWithin(p.dead, s.opts.Timeout) {
			s.brusque = true
		}
	}
	p.destroy()
}

// kill is kill -9 of the process and its group.
func (p *process) kill() {
	p.kills.Do(func() { close(p.killed) })
	killGroup(p.cmd.Process.Pid)
	<-p.dead
}

// orphan is kill -9 of the process that was started, and of nothing that this one started.
func (p *process) orphan() error {
	p.spare.Store(true)
	return p.cmd.Process.Kill()
}

func (p *process) destroy() {
	select {
	case <-p.dead:
	default:
		p.kill()
	}
	if p.conn != nil {
		p.hangUp()
		_ = p.conn.Close()
		p.stdio.Wait()
	}
	_ = os.RemoveAll(p.dir)
}

// sockets are those that are in the process's folder.
func (p *process) sockets() []string {
	var found []string
	_ = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type() == fs.ModeSocket {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// keptLine is how much of a line is kept.
const keptLine = 4 << 10

// eachLine reads to the end, whatever comes and however long the lines are.
func eachLine(r io.Reader, take func(line []byte)) {
	in := bufio.NewReaderSize(r, keptLine)
	for {
		text, prefix, err := in.ReadLine()
		if err != nil {
			return
		}
		take(text)
		for prefix && err == nil {
			_, prefix, err = in.ReadLine()
		}
	}
}

// stdout looks for the handshake line among whatever is printed.
type stdout struct {
	log   io.Writer
	shook chan struct{} // closed when the line was found, or when standard output has ended without it

	mu    sync.Mutex
	found bool
	line  line
	stray string // the first thing before it
	after int    // lines after it
}

func (o *stdout) take(text []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found {
		o.after++
		fmt.Fprintf(o.log, "stdout: %s\n", text)
		return
	}
	before, l, ok := parseLine(string(text))
	if stray := oneLine(before); stray != "" && o.stray == "" {
		o.stray = stray
	}
	if !ok {
		fmt.Fprintf(o.log, "stdout: %s\n", text)
		return
	}
	o.found, o.line = true, l
	close(o.shook)
}

func (o *stdout) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.found {
		close(o.shook)
	}
}

func (o *stdout) handshake() (l line, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.line, o.found
}

func (o *stdout) noise() (before string, after int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stray, o.after
}

func (o *stdout) quoteStray() string {
	stray, _ := o.noise()
	if stray == "" {
		return ""
	}
	return fmt.Sprintf("; the first line on its standard output is %q", stray)
}

// stderr counts the log, and keeps the line that most likely says why a process ended.
type stderr struct {
	log   io.Writer
	mu    sync.Mutex
	lines int
	last  string
	panic string
}

func (e *stderr) take(text []byte) {
	fmt.Fprintf(e.log, "%s\n", text)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines++
	switch {
	case e.panic == "" && (bytes.HasPrefix(text, []byte("panic: ")) || bytes.HasPrefix(text, []byte("fatal error: "))):
		e.panic = oneLine(string(text))
	case len(bytes.TrimSpace(text)) > 0:
		e.last = oneLine(string(text))
	}
}

// reason is what the process said of its end. One that was ended by a signal had no occasion to.
func (e *stderr) reason(signalled bool) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.panic != "" || signalled {
		return e.panic
	}
	return e.last
}

func (e *stderr) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines
}
