package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"pgregory.net/rapid"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// besider keeps what is put, and notes whether it came beside the call.
type besider struct {
	oneObject
	beside bool
	fail   error // after a mebibyte and some
	failed chan error
}

func (o *besider) Put(_ context.Context, _ string, put protocol.Put, in io.Reader) (protocol.Object, error) {
	var content bytes.Buffer
	o.beside = false
	p := make([]byte, 100_000)
	for {
		n, err := in.Read(p)
		content.Write(p[:n])
		o.beside = o.beside || in.(*body).aside != nil
		if err == nil && o.fail != nil && content.Len() > frameBytes+len(p) {
			return protocol.Object{}, o.fail
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if o.failed != nil {
				o.failed <- err
			}
			return protocol.Object{}, err
		}
	}
	o.content = content.Bytes()
	return o.describe(put.Key), nil
}

func nearTo(t *testing.T, impl protocol.StorageServer) (c *client, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "b ü\n") // t.TempDir is too long for a socket; a folder may have any name
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	t.Setenv(envSocketDir, dir)
	c = storageOf(t, impl)
	c.near.Store(true)
	c.beside.Store(true)
	return c, dir
}

func bytesOf(n int) []byte {
	content := make([]byte, n)
	for i := range content {
		content[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	return content
}

func TestALargeBodyGoesBesideItsCall(t *testing.T) {
	impl := &besider{}
	c, dir := nearTo(t, impl)
	all := bytesOf(5 << 20)
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, len(all)), rapid.IntRange(frameBytes-2, frameBytes+2), rapid.SampledFrom([]int{0, 2 * frameBytes, len(all)})).Draw(r, "size")
		announced := rapid.SampledFrom([]int64{int64(size), -1}).Draw(r, "announced")
		near := rapid.Bool().Draw(r, "near")
		c.near.Store(near)
		object, err := c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: announced}, bytes.NewReader(all[:size]))
		require.NoError(t, err)
		require.Equal(t, int64(size), object.Size)
		require.True(t, bytes.Equal(all[:size], impl.content))
		require.True(t, near || !impl.beside)
		require.True(t, !near || size < 3*frameBytes || impl.beside)

		_, from, err := c.Get(t.Context(), "i", "k", protocol.Whole())
		require.NoError(t, err)
		require.Equal(t, near && size > frameBytes, from.(*downloading).body.aside != nil)
		var got bytes.Buffer
		if rapid.Bool().Draw(r, "write") {
			_, err = io.Copy(&got, from)
		} else {
			_, err = io.CopyBuffer(&got, struct{ io.Reader }{from}, make([]byte, rapid.IntRange(1000, 400_000).Draw(r, "at once")))
		}
		require.NoError(t, errors.Join(err, from.Close()))
		require.True(t, bytes.Equal(all[:size], got.Bytes()))
	})
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "no socket stays")
}

func TestABodyBesideThatBreaksOffStoresNothing(t *testing.T) {
	impl := &besider{failed: make(chan error, 1)}
	c, _ := nearTo(t, impl)
	broken := errors.New("the client has gone")
	_, err := c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: -1}, io.MultiReader(bytes.NewReader(bytesOf(4<<20)), failing{broken}))
	require.ErrorIs(t, err, broken)
	require.Error(t, <-impl.failed)
	_, err = c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: 4 << 20}, bytes.NewReader(bytesOf(3<<20)))
	require.ErrorIs(t, err, protocol.ErrSize)
	require.Error(t, <-impl.failed)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = c.Put(ctx, "i", protocol.Put{Key: "k", Size: -1}, io.MultiReader(bytes.NewReader(bytesOf(4<<20)), calling(cancel), bytes.NewReader(bytesOf(4<<20))))
	require.ErrorIs(t, err, context.Canceled)
	require.Error(t, <-impl.failed)
	require.Empty(t, impl.content)
	_, err = dialBeside(ctx, "/nowhere", nil)
	require.ErrorIs(t, err, context.Canceled, "that tells nothing about the socket")

	impl.fail = protocol.ErrFull // while the host sends, more than the socket holds
	_, err = c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: -1}, bytes.NewReader(bytesOf(64<<20)))
	require.ErrorIs(t, err, protocol.ErrFull)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type calling func()

func (c calling) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}

// besideServer answers by hand.
type besideServer struct {
	pluginv1.UnimplementedStorageServer
	put func(grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error
	get func(*pluginv1.GetRequest, grpc.ServerStreamingServer[pluginv1.GetFrame]) error
}

func (h *besideServer) Put(s grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
	return h.put(s)
}

func (h *besideServer) Get(m *pluginv1.GetRequest, s grpc.ServerStreamingServer[pluginv1.GetFrame]) error {
	return h.get(m, s)
}

func (h *besideServer) dial(t *testing.T) *client {
	t.Helper()
	conn, _ := dial(t, func(s *grpc.Server) { pluginv1.RegisterStorageServer(s, h) })
	c := newClient(conn, protocol.Version2)
	c.near.Store(true)
	c.beside.Store(true)
	return c
}

// listener listens until ctx ends.
func listener(t *testing.T, ctx context.Context) *net.UnixListener {
	t.Helper()
	dir, err := os.MkdirTemp("", "b")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "s")})
	require.NoError(t, err)
	context.AfterFunc(ctx, func() { _ = l.Close() })
	return l
}

func TestASocketThatCannotBeReachedIsNotAskedForAgain(t *testing.T) {
	content := bytesOf(3 << 20)
	h := &besideServer{}
	for _, path := range []string{"", filepath.Join(t.TempDir(), "nothing")} {
		h.put = func(s grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
			var got []byte
			for {
				m, err := s.Recv()
				if err != nil {
					return err
				}
				got = append(got, m.Data...)
				if m.Beside {
					if err := s.SendHeader(metadata.Pairs(besideKey, path)); err != nil {
						return err
					}
				}
				if m.End != nil {
					require.True(t, bytes.Equal(content, got))
					return s.SendAndClose(&pluginv1.StoredObject{Key: "k", Size: int64(len(got))})
				}
			}
		}
		h.get = func(m *pluginv1.GetRequest, s grpc.ServerStreamingServer[pluginv1.GetFrame]) error {
			frame := &pluginv1.GetFrame{Object: &pluginv1.StoredObject{Key: "k", Size: 3}}
			if m.TakesBeside && path != "" {
				frame.Socket = path
			} else {
				frame.Data = []byte("abc")
			}
			return s.Send(frame)
		}
		c := h.dial(t)
		_, err := c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: -1}, bytes.NewReader(content))
		require.NoError(t, err)
		require.Equal(t, path == "", c.beside.Load())
		c.beside.Store(true)
		_, from, err := c.Get(t.Context(), "i", "k", protocol.Whole())
		require.NoError(t, err)
		got, err := io.ReadAll(from)
		require.NoError(t, errors.Join(err, from.Close()))
		require.Equal(t, "abc", string(got))
		require.Equal(t, path == "", c.beside.Load())
	}
}

func TestAPluginThatLiesBesideItsCallIsFoundOut(t *testing.T) {
	give := func(content string, after error) func(*pluginv1.GetRequest, grpc.ServerStreamingServer[pluginv1.GetFrame]) error {
		return func(_ *pluginv1.GetRequest, s grpc.ServerStreamingServer[pluginv1.GetFrame]) error {
			l := listener(t, s.Context())
			if err := s.Send(&pluginv1.GetFrame{Object: &pluginv1.StoredObject{Key: "k", Size: 3}, Socket: l.Addr().String()}); err != nil {
				return err
			}
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			_, err = conn.Write([]byte(content))
			return errors.Join(err, conn.Close(), after)
		}
	}
	read := func(c *client) error {
		_, from, err := c.Get(t.Context(), "i", "k", protocol.Whole())
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, from)
		return errors.Join(err, from.Close())
	}
	h := &besideServer{get: give("abc", nil)}
	c := h.dial(t)
	require.NoError(t, read(c))
	for name, get := range map[string]func(*pluginv1.GetRequest, grpc.ServerStreamingServer[pluginv1.GetFrame]) error{
		"too little": give("ab", nil),
		"too much":   give("abcd", nil),
		"data, too": func(_ *pluginv1.GetRequest, s grpc.ServerStreamingServer[pluginv1.GetFrame]) error {
			return s.Send(&pluginv1.GetFrame{Object: &pluginv1.StoredObject{Key: "k", Size: 3}, Data: []byte("abc"), Socket: "/nowhere"})
		},
	} {
		h.get = get
		require.ErrorIs(t, read(c), protocol.ErrMalformed, name)
	}
	h.get = give("ab", faultToStatus(protocol.ErrUnavailable))
	require.ErrorIs(t, read(c), protocol.ErrUnavailable)
	c.near.Store(false)
	h.get = give("abc", nil)
	require.ErrorIs(t, read(c), protocol.ErrMalformed, "not asked for")
	c.near.Store(true)

	put := func() error {
		_, err := c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: -1}, bytes.NewReader(bytesOf(64<<20)))
		return err
	}
	accepting := func(then func(net.Conn, grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error) {
		h.put = func(s grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
			l := listener(t, s.Context())
			if err := s.SendHeader(metadata.Pairs(besideKey, l.Addr().String())); err != nil {
				return err
			}
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			defer conn.Close()
			return then(conn, s)
		}
	}
	accepting(func(conn net.Conn, s grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
		return errors.Join(conn.Close(), s.SendAndClose(&pluginv1.StoredObject{Key: "k", Size: 64 << 20}))
	})
	require.ErrorIs(t, put(), protocol.ErrMalformed, "acknowledged without the body")
	accepting(func(_ net.Conn, s grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
		<-s.Context().Done()
		return s.Context().Err()
	})
	c.wait = patience{answer: time.Minute, progress: 200 * time.Millisecond, work: time.Minute}
	require.ErrorIs(t, put(), ErrStalled, "nothing is taken")
}

func TestAHostThatLiesBesideItsCallIsFoundOut(t *testing.T) {
	impl := &besider{failed: make(chan error, 1)}
	c, _ := nearTo(t, impl)
	for name, lie := range map[string]func(s pluginv1.Storage_PutClient, l func() net.Conn) error{
		"the end has another size": func(s pluginv1.Storage_PutClient, l func() net.Conn) error {
			conn := l()
			_, err := conn.Write([]byte("abc"))
			return errors.Join(err, conn.Close(), s.Send(&pluginv1.PutFrame{End: &pluginv1.BodyEnd{Size: 4}}), s.CloseSend())
		},
		"no end": func(s pluginv1.Storage_PutClient, l func() net.Conn) error {
			return errors.Join(l().Close(), s.CloseSend())
		},
		"again": func(s pluginv1.Storage_PutClient, l func() net.Conn) error {
			return errors.Join(l().Close(), s.Send(&pluginv1.PutFrame{Beside: true}), s.CloseSend())
		},
		"more than was announced": func(s pluginv1.Storage_PutClient, l func() net.Conn) error {
			conn := l()
			defer conn.Close()
			_, err := conn.Write(make([]byte, 100))
			return err
		},
	} {
		stream, err := c.storage.Put(withInstance(t.Context(), "i"))
		require.NoError(t, err, name)
		require.NoError(t, stream.Send(&pluginv1.PutFrame{Head: &pluginv1.PutHead{Key: "k", Size: 99}, Beside: true}), name)
		header, err := stream.Header()
		require.NoError(t, err, name)
		require.Len(t, header.Get(besideKey), 1, name)
		require.NoError(t, lie(stream, func() net.Conn {
			conn, err := net.Dial("unix", header.Get(besideKey)[0])
			require.NoError(t, err)
			require.NoError(t, stream.Send(&pluginv1.PutFrame{Beside: true}))
			return conn
		}), name)
		require.Error(t, stream.RecvMsg(&pluginv1.StoredObject{}), name)
		require.Error(t, <-impl.failed, name)
	}
	require.Empty(t, impl.content)
}
