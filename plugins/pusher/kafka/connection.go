package main

import (
	"context"
	"net"
	"time"
)

// dialer makes connections that end with life. sarama itself takes no context: what waits for a broker ends when its
// connection does.
type dialer struct {
	life    context.Context //nolint:containedctx // of the connections
	timeout time.Duration
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: d.timeout}).DialContext(d.life, network, address)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: c, forget: context.AfterFunc(d.life, func() { _ = c.Close() })}, nil
}

type connection struct {
	net.Conn
	forget func() bool
}

func (c *connection) Close() error {
	c.forget()
	return c.Conn.Close()
}
