package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// progressTimeout is how long a client may be silent in the middle of a body, or not take any of an answer. The server's own
// timeout on a request covers all of its body: too little for a file, and nothing tells a slow client from one that is gone.
const progressTimeout = time.Minute

// renewEvery keeps the deadlines of a connection from being set for each read.
const renewEvery = time.Second

// Stream is a request body of any size, read as it arrives.
type Stream struct {
	request *fasthttp.Request
	from    io.Reader
	conn    net.Conn
	ctx     *fasthttp.RequestCtx
	renewed time.Time
	want    int64 // bytes; -1: chunked
	got     int64
	err     error
	leave   atomic.Bool
}

// ReadStream returns the body. Its errors are answers: 400 when the client stops in the middle, 408 when nothing comes for a
// minute. The connection is closed behind both. What is not read is drained like any body.
func ReadStream(c *fiber.Ctx) *Stream {
	request := c.Request()
	s := &Stream{request: request, ctx: c.Context(), want: int64(request.Header.ContentLength())}
	if !request.IsBodyStream() {
		body := request.Body()
		s.from, s.want = &bytesReader{body}, int64(len(body))
		return s
	}
	s.from, s.conn = c.Context().RequestBodyStream(), c.Context().Conn()
	return s
}

// Size is what the client announced; -1: nothing.
func (s *Stream) Size() int64 { return max(s.want, -1) }

// Taken is how many bytes were read.
func (s *Stream) Taken() int64 { return s.got }

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if now := time.Now(); s.conn != nil && now.Sub(s.renewed) > renewEvery {
		s.renewed = now
		if err := s.conn.SetReadDeadline(now.Add(progressTimeout)); err != nil {
			return 0, s.broken(err)
		}
	}
	if s.leave.Load() { // behind the deadline, which Leave sets last
		s.err = s.broken(os.ErrDeadlineExceeded)
		s.done()
		return 0, s.err
	}
	n, err := s.from.Read(p)
	s.got += int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && (s.want < 0 || s.got >= s.want):
		s.err = io.EOF
		s.done()
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
		fallthrough
	default:
		s.err = s.broken(err)
		s.done()
	}
	if n > 0 {
		return n, nil
	}
	return 0, s.err
}

// Leave ends a Read that waits for the client, and those to come, from any goroutine.
func (s *Stream) Leave() {
	s.leave.Store(true)
	if s.conn != nil {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // a connection that is closed ends them, too
	}
}

// Discard takes what is left off the connection, so that a client that sends all of its body first gets to read its answer.
// Behind more than limit bytes the connection is closed.
func (s *Stream) Discard(limit int64) {
	if s.err != nil {
		return
	}
	if s.want-s.got <= limit {
		scratch := scratches.Get().(*[]byte)
		defer scratches.Put(scratch)
		for n := int64(0); n <= limit; {
			k, err := s.Read(*scratch)
			if n += int64(k); err != nil {
				return
			}
		}
	}
	s.ctx.Response.SetConnectionClose()
	s.done()
	s.err = io.EOF
}

// done: the stream must not be read again, also not by Drain.
func (s *Stream) done() {
	if s.request.IsBodyStream() {
		s.request.ResetBody()
	}
}

func (s *Stream) broken(err error) *Error {
	s.ctx.Response.SetConnectionClose()
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return &Error{Status: http.StatusRequestTimeout, Message: fmt.Sprintf("Nothing of the body came for %v", progressTimeout), Cause: err}
	}
	return &Error{Status: http.StatusBadRequest, Message: "The body ended before its announced end", Cause: err}
}

// bytesReader is a body that is in memory already.
type bytesReader struct{ rest []byte }

func (b *bytesReader) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// SendStream answers with size bytes of from, which is closed when they are out or the client has gone. A client that takes
// nothing for a minute is left. When from fails in the middle, the connection is cut: the client sees that this is not all.
func SendStream(c *fiber.Ctx, from io.ReadCloser, size int64) error {
	if c.Context().IsHead() {
		c.Response().SkipBody = true
		c.Response().Header.SetContentLength(int(size))
		return from.Close()
	}
	c.Context().SetBodyStream(&sender{from: from, conn: c.Context().Conn()}, int(size))
	return nil
}

// sendBuffer is how much of an answer is written at once.
const sendBuffer = 256 << 10

// sender renews the deadline of the connection while the client takes bytes.
type sender struct {
	from    io.ReadCloser
	conn    net.Conn
	renewed time.Time
}

func (s *sender) renew() error {
	if now := time.Now(); now.Sub(s.renewed) > renewEvery {
		s.renewed = now
		return s.conn.SetWriteDeadline(now.Add(progressTimeout))
	}
	return nil
}

func (s *sender) Read(p []byte) (int, error) {
	if err := s.renew(); err != nil {
		return 0, err
	}
	return s.from.Read(p)
}

// WriteTo spares the server's own small buffer.
func (s *sender) WriteTo(w io.Writer) (int64, error) {
	if from, ok := s.from.(io.WriterTo); ok {
		return from.WriteTo(&renewing{w, s})
	}
	buffer := make([]byte, sendBuffer)
	var sent int64
	for {
		if err := s.renew(); err != nil {
			return sent, err
		}
		n, err := s.from.Read(buffer)
		if n > 0 {
			m, failed := w.Write(buffer[:n])
			sent += int64(m)
			if failed != nil {
				return sent, failed
			}
		}
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
}

// renewing is a writer that renews the deadline.
type renewing struct {
	io.Writer
	s *sender
}

func (r *renewing) Write(p []byte) (int, error) {
	if err := r.s.renew(); err != nil {
		return 0, err
	}
	return r.Writer.Write(p)
}

// Close leaves the connection without a deadline for the next answer.
func (s *sender) Close() error {
	return errors.Join(s.from.Close(), s.conn.SetWriteDeadline(time.Time{}))
}
