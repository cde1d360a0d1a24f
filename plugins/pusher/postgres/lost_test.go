package main

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
)

// deafProxy stands before a server. Once told to, it loses the server's word that a COPY is done, and the connection.
type deafProxy struct {
	listener net.Listener
	server   string
	mu       sync.Mutex
	losing   bool
	conns    []net.Conn
	running  sync.WaitGroup
}

func newDeafProxy(t *testing.T, server string) *deafProxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &deafProxy{listener: listener, server: server}
	p.running.Go(p.serve)
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		p.mu.Lock()
		for _, conn := range p.conns {
			_ = conn.Close() // perhaps for the second time
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

func (p *deafProxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.running.Go(func() {
			_, _ = io.Copy(server, client) // ends with either side
			_ = server.Close()
		})
		p.running.Go(func() {
			defer client.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := server.Read(buf)
				p.mu.Lock()
				lost := p.losing && bytes.Contains(buf[:n], []byte("COPY "))
				p.losing = p.losing && !lost
				p.mu.Unlock()
				if lost {
					return
				}
				if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
					return
				}
			}
		})
	}
}

func TestACommitWhoseAnswerIsLostCountsOnce(t *testing.T) {
	d := newDatabase(t)
	table := d.table("data jsonb")
	dsn, err := url.Parse(d.dsn)
	require.NoError(t, err)
	proxy := newDeafProxy(t, dsn.Host)
	dsn.Host = proxy.listener.Addr().String()
	h := d.start(map[string]any{"table": table, "dsn": dsn.String()})
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	proxy.mu.Lock()
	proxy.losing = true
	proxy.mu.Unlock()
	outcomes := h.Deliver(frameAt(2, numbered(5)...))
	require.Len(t, outcomes, 5)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, d.positions(table), "the server had committed")
	for _, o := range h.Deliver(frameAt(2, numbered(6)...)) {
		require.Equal(t, sdk.Duplicate, o.Class)
	}
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7}, d.positions(table))
}
