package wire

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// A large body goes beside its call, through a unix socket that is made for it alone: without gRPC's frames, their flow control and their
// copies it takes a fifth of the time. What is before it and behind it stays in the call, so that a body which broke off is told from one
// that is over as ever. Where the socket cannot be had, frames go on.

const (
	// besideBytes is what is read and written at once: it stays in the cache between.
	besideBytes = 512 << 10
	// besideAhead is how many bytes may be on their way, as far as the system allows it: with so much to do, both ends work at once, and
	// neither is woken for every piece.
	besideAhead = 2 << 20
	// besideKey is the metadata key of the header in which a plugin names the socket for the rest of a Put. Of its kind, since a folder may
	// have any name.
	besideKey = "rivergate-beside-bin"
	// envSocketDir is where go-plugin has a plugin make its sockets; the host removes the folder with the process.
	envSocketDir = "PLUGIN_UNIX_SOCKET_DIR"
	// acceptTime is how long a plugin waits for the host to come for a body.
	acceptTime = time.Minute
)

// listenBeside makes a socket for one body; nil: there is no place for it.
func listenBeside() *net.UnixListener {
	dir := os.Getenv(envSocketDir)
	if dir == "" {
		return nil
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "body"+rand.Text()[:12])})
	if err != nil {
		return nil // too long a path, no room: whatever it is, frames do
	}
	return listener
}

// accept waits for the one connection, and removes the socket.
func accept(ctx context.Context, listener *net.UnixListener) (*aside, error) {
	release := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer release()
	defer listener.Close()
	err := listener.SetDeadline(time.Now().Add(acceptTime))
	if err == nil {
		var conn net.Conn
		if conn, err = listener.Accept(); err == nil {
			return newAside(ctx, conn, nil), nil
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, fmt.Errorf("%w: nobody came for the socket of a body: %w", protocol.ErrMalformed, err)
}

// errUnreached: the plugin's socket cannot be connected to from here.
var errUnreached = errors.New("the socket that the plugin has named cannot be reached")

// dialBeside connects to a socket that a plugin has named. errUnreached; the context's own cause when it has ended.
func dialBeside(ctx context.Context, path string, watch *watch) (*aside, error) {
	var conn net.Conn
	err := watch.during(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
		return err
	})
	switch {
	case err == nil:
		return newAside(ctx, conn, watch), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, errUnreached
}

// aside is one end of a body that goes beside its call. It ends with the context.
type aside struct {
	conn    net.Conn
	watch   *watch // nil: nobody waits for progress
	release func() bool
}

func newAside(ctx context.Context, conn net.Conn, watch *watch) *aside {
	if u, ok := conn.(*net.UnixConn); ok {
		_ = u.SetWriteBuffer(besideAhead) // less is slower, and no error
	}
	return &aside{conn, watch, context.AfterFunc(ctx, func() { _ = conn.Close() })}
}

func (a *aside) close() {
	a.release()
	_ = a.conn.Close()
}

func (a *aside) Read(p []byte) (n int, err error) {
	err = a.watch.during(func() error {
		n, err = a.conn.Read(p)
		return err
	})
	return n, err
}

func (a *aside) Write(p []byte) (n int, err error) {
	err = a.watch.during(func() error {
		n, err = a.conn.Write(p)
		return err
	})
	return n, err
}

// sendBeside sends the rest of a body beside the call, and then its end; done false: it could not be had, and frames are to go on.
// The other results are those of send.
func (u *uploading) sendBeside(in *pieces) (done, ended bool, bodyErr, err error) {
	var header metadata.MD
	err = u.watch.during(func() (err error) {
		header, err = u.stream.Header()
		return err
	})
	if err != nil {
		return true, true, nil, nil // the answer says why
	}
	named := header.Get(besideKey)
	if len(named) != 1 || named[0] == "" {
		return false, false, nil, nil
	}
	to, err := dialBeside(u.ctx, named[0], u.watch)
	if errors.Is(err, errUnreached) {
		u.unreached()
		return false, false, nil, nil
	}
	if err != nil {
		return true, false, nil, err
	}
	defer to.close()
	if ended, err = u.frame(&outgoingFrame{beside: true}); ended || err != nil {
		return true, ended, nil, err
	}
	in.most = besideBytes
	for !in.done {
		data, err := in.next()
		if err != nil {
			return true, false, err, nil
		}
		if data == nil {
			break
		}
		_, err = to.Write(*data)
		buffers.Put(data)
		if err != nil {
			return true, true, nil, nil // the plugin has closed it: the answer says why
		}
	}
	to.close()
	ended, err = u.end(in)
	return true, ended, nil, err
}

// takeBeside is the plugin's end of sendBeside: from here on the body comes through a socket, or in frames as before.
func (b *body) takeBeside() error {
	if b.call == nil {
		return fmt.Errorf("%w: a body that is to come beside the call, which was not agreed", protocol.ErrMalformed)
	}
	listener := listenBeside()
	name := ""
	if listener != nil {
		defer listener.Close()
		name = listener.Addr().String()
	}
	if err := b.call.SendHeader(metadata.Pairs(besideKey, name)); err != nil {
		return err
	}
	if err := b.take(); err != nil || !b.frame.beside {
		return err
	}
	b.frame.release()
	if listener == nil {
		return fmt.Errorf("%w: a body beside the call, for which there is no socket", protocol.ErrMalformed)
	}
	var err error
	b.aside, err = accept(b.call.Context(), listener)
	return err
}

// sendObjectBeside sends the bytes of a part beside the call; false: it could not be had.
func sendObjectBeside(stream grpc.ServerStream, object protocol.Object, left int64, content io.Reader) (bool, error) {
	listener := listenBeside()
	if listener == nil {
		return false, nil
	}
	defer listener.Close()
	if err := stream.SendMsg(&outgoingFrame{head: objectOut(object), socket: listener.Addr().String()}); err != nil {
		return true, err
	}
	to, err := accept(stream.Context(), listener)
	if err != nil {
		return true, err
	}
	defer to.close()
	buf := buffers.Get(besideBytes)
	defer buffers.Put(buf)
	for left > 0 {
		piece := (*buf)[:min(left, besideBytes)]
		n, err := io.ReadFull(content, piece)
		if left -= int64(n); err != nil {
			return true, missing(object, left, err)
		}
		if _, err := to.Write(piece); err != nil {
			return true, errors.Join(err, context.Cause(stream.Context()))
		}
	}
	return true, nil
}

func (c *client) takesBeside() bool { return c.near.Load() && c.beside.Load() }
