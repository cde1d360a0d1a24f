//go:build linux && !race

package wire

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"google.golang.org/grpc/mem"
)

// quickWrite is how much is written at once without telling the scheduler, bytes. A copy of that size takes microseconds.
const quickWrite = 64 << 10

// quick makes a unix socket whose reads and writes do not tell Go's scheduler that they are system calls. They need not,
// as the socket never blocks; and a process that was idle wakes a second thread (sysmon) for each call that tells, which on few
// cores takes the core from the process at the other end: about a sixth of the time of a small message and its answer.
func quick(c net.Conn) net.Conn {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return c
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return c
	}
	q := &quickConn{Conn: c, raw: raw}
	q.r.try, q.w.try = q.r.call, q.w.call
	return q
}

type quickConn struct {
	net.Conn
	raw syscall.RawConn
	r   quickReader
	w   quickWriter
}

// quickReader is a read under way. Its fields are arguments and results of call, which as a closure would be allocated each time.
type quickReader struct {
	sync.Mutex
	try  func(fd uintptr) bool
	into []byte
	size int            // without into: of the buffer to be taken
	pool mem.BufferPool // from here, when there is something to read
	got  *[]byte
	n    int
	err  syscall.Errno
}

func (r *quickReader) call(fd uintptr) (done bool) {
	into := r.into
	if r.pool != nil {
		r.got = r.pool.Get(r.size)
		into = *r.got
	}
	r.n, r.err = transfer(syscall.SYS_READ, fd, into)
	if r.err != 0 && r.got != nil {
		r.pool.Put(r.got)
		r.got = nil
	}
	return r.err != syscall.EAGAIN
}

func (c *quickConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.r.Lock()
	defer c.r.Unlock()
	c.r.into = p
	return c.read()
}

// ReadOnReady is what gRPC asks of a connection so that one which waits holds no buffer: size bytes are taken from pool when
// there is something to read.
func (c *quickConn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	c.r.Lock()
	defer c.r.Unlock()
	c.r.size, c.r.pool = size, pool
	n, err := c.read()
	got := c.r.got
	c.r.got, c.r.pool = nil, nil
	if err != nil && got != nil {
		pool.Put(got)
		got = nil
	}
	return got, n, err
}

func (c *quickConn) read() (int, error) {
	c.r.n, c.r.err = 0, 0
	err := c.raw.Read(c.r.try)
	c.r.into = nil
	switch {
	case err != nil:
		return 0, err
	case c.r.err != 0:
		return 0, c.failed("read", c.r.err)
	case c.r.n == 0:
		return 0, io.EOF
	}
	return c.r.n, nil
}

// quickWriter is a write under way.
type quickWriter struct {
	sync.Mutex
	try  func(fd uintptr) bool
	from []byte
	err  syscall.Errno
}

func (w *quickWriter) call(fd uintptr) (done bool) {
	for len(w.from) > 0 {
		n, err := transfer(syscall.SYS_WRITE, fd, w.from[:min(len(w.from), quickWrite)])
		if err != 0 {
			w.err = err
			return err != syscall.EAGAIN
		}
		w.from = w.from[n:]
	}
	w.err = 0
	return true
}

func (c *quickConn) Write(p []byte) (int, error) {
	c.w.Lock()
	defer c.w.Unlock()
	c.w.from, c.w.err = p, 0
	err := c.raw.Write(c.w.try)
	n := len(p) - len(c.w.from)
	c.w.from = nil
	if err == nil && c.w.err != 0 {
		err = c.failed("write", c.w.err)
	}
	return n, err
}

func (c *quickConn) failed(op string, err syscall.Errno) error {
	return &net.OpError{Op: op, Net: "unix", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}

// transfer reads into p or writes it, which is not empty.
func transfer(call, fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		if err != syscall.EINTR {
			if err != 0 {
				return 0, err
			}
			return int(n), 0
		}
	}
}
