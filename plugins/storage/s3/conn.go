package main

import (
	"context"
	"io"
	"net"
)

// dialing makes connections that send a body as it lies in memory.
func dialing(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &sender{conn}, nil
	}
}

type sender struct{ net.Conn }

// ReadFrom is what net/http asks of a connection to send a body. What is in memory goes out at once, where net/http would copy it in
// pieces of 32 KiB and wake the server for each.
func (s *sender) ReadFrom(r io.Reader) (int64, error) {
	if part, ok := r.(*io.LimitedReader); ok {
		if from, ok := part.R.(io.WriterTo); ok {
			n, err := from.WriteTo(&limited{s.Conn, part.N})
			part.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{s.Conn}, r)
}

// limited takes no more than was announced.
type limited struct {
	to   io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, io.ErrShortWrite
	}
	n, err := l.to.Write(p)
	l.left -= int64(n)
	return n, err
}
