//go:build linux && !race

package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
)

// quickPair is the two ends of a unix socket.
func quickPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer listener.Close()
	a, err = net.Dial("unix", path)
	require.NoError(t, err)
	b, err = listener.Accept()
	require.NoError(t, err)
	a, b = quick(a), quick(b)
	require.IsType(t, &quickConn{}, a)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestAQuickSocketCarriesEveryByteHoweverItIsRead(t *testing.T) {
	sent := make([]byte, 5<<20) // many times what the socket holds: both ends wait
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(sent)
	for name, read := range map[string]func(c net.Conn, size int) ([]byte, error){
		"Read": func(c net.Conn, size int) ([]byte, error) {
			buf := make([]byte, size)
			n, err := c.Read(buf)
			return buf[:n], err
		},
		"ReadOnReady": func(c net.Conn, size int) ([]byte, error) {
			buf, n, err := c.(*quickConn).ReadOnReady(size, mem.DefaultBufferPool())
			if err != nil {
				return nil, err
			}
			defer mem.DefaultBufferPool().Put(buf)
			return bytes.Clone((*buf)[:n]), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := quickPair(t)
			wrote := make(chan error, 1)
			go func() {
				for rest := sent; len(rest) > 0; {
					n, err := a.Write(rest[:min(len(rest), 1+rand.IntN(1<<20))])
					if err != nil {
						wrote <- err
						return
					}
					rest = rest[n:]
				}
				wrote <- a.Close()
			}()
			var got []byte
			for {
				part, err := read(b, 1+rand.IntN(256<<10))
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				require.NotEmpty(t, part)
				got = append(got, part...)
			}
			require.NoError(t, <-wrote)
			require.True(t, bytes.Equal(sent, got))
		})
	}
}

func TestAQuickSocketReportsItsEnds(t *testing.T) {
	t.Run("closed here, while it waits", func(t *testing.T) {
		a, b := quickPair(t)
		ended := make(chan error, 2)
		go func() { _, err := a.Read(make([]byte, 1)); ended <- err }()
		go func() {
			for {
				if _, err := a.Write(make([]byte, 1<<20)); err != nil { // nobody reads
					ended <- err
					return
				}
			}
		}()
		_, err := io.ReadFull(b, make([]byte, 1)) // one of them is at it
		require.NoError(t, err)
		require.NoError(t, a.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
		require.ErrorIs(t, <-ended, net.ErrClosed)
	})
	t.Run("closed there", func(t *testing.T) {
		a, b := quickPair(t)
		require.NoError(t, b.Close())
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		_, err = a.Write([]byte("x"))
		require.ErrorIs(t, err, syscall.EPIPE)
		require.ErrorContains(t, err, "write")
	})
	t.Run("a deadline", func(t *testing.T) {
		a, _ := quickPair(t)
		require.NoError(t, a.SetDeadline(time.Now().Add(-time.Second)))
		_, err := a.Read(make([]byte, 1))
		var late net.Error
		require.ErrorAs(t, err, &late)
		require.True(t, late.Timeout())
		buf, _, err := a.(*quickConn).ReadOnReady(10, mem.DefaultBufferPool())
		require.ErrorAs(t, err, &late)
		require.Nil(t, buf)
	})
	t.Run("nothing to move", func(t *testing.T) {
		a, _ := quickPair(t)
		n, err := a.Read(nil)
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = a.Write(nil)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestOnlyUnixSocketsAreQuick(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	require.Equal(t, a, quick(a))
}
