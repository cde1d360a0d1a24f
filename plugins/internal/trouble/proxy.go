package trouble

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy stands between a pusher and its server.
type Proxy struct {
	Address string // 127.0.0.1:port

	server   string
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	gate  chan struct{} // closed: the server's answers pass
	lost  []byte        // an answer with it is not handed on, and its connection is cut; nil: none
}

// NewProxy listens until the test ends.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return newProxy(t, listener, server)
}

// NewTLSProxy speaks TLS to the pusher, and plainly to the server; caFile is where its authority is.
func NewTLSProxy(t testing.TB, server string) (p *Proxy, caFile string) {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // for its certificate of 127.0.0.1
	t.Cleanup(certified.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certified.Certificate().Raw})
	require.NoError(t, os.WriteFile(caFile, authority, 0o600))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: certified.TLS.Certificates})
	require.NoError(t, err)
	return newProxy(t, listener, server), caFile
}

func newProxy(t testing.TB, listener net.Listener, server string) *Proxy {
	p := &Proxy{Address: listener.Addr().String(), server: server, listener: listener, gate: make(chan struct{})}
	close(p.gate)
	p.running.Go(p.serve)
	t.Cleanup(func() {
		_ = listener.Close() // perhaps for the second time
		p.Resume()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Stall holds the server's answers back; what the pusher sends still goes through.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

// Resume lets them go.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

// Lose cuts the connection of the next answer that holds these bytes, in its place.
func (p *Proxy) Lose(answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = []byte(answer)
}

// Cut ends all connections; new ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close() // perhaps for the second time
	}
	p.conns = nil
}

func (p *Proxy) serve() {
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
				gate := p.gate
				lost := p.lost != nil && bytes.Contains(buf[:n], p.lost)
				if lost {
					p.lost = nil
				}
				p.mu.Unlock()
				if lost {
					return
				}
				<-gate
				if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
					return
				}
			}
		})
	}
}
