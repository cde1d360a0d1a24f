package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// oneObject keeps the last body that was put, and answers with what a test says.
type oneObject struct {
	protocol.StorageServer
	content []byte
	err     error // of every call
	unread  bool  // Put reads nothing
}

func (o *oneObject) describe(key string) protocol.Object {
	return protocol.Object{Key: key, Size: int64(len(o.content)), ETag: "e", Modified: time.Unix(1, 0).UTC(), Tier: protocol.TierHot}
}

func (o *oneObject) Put(_ context.Context, _ string, put protocol.Put, body io.Reader) (protocol.Object, error) {
	if o.unread {
		return o.describe(put.Key), nil
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return protocol.Object{}, err
	}
	o.content = content
	return o.describe(put.Key), o.err
}

func (o *oneObject) Get(_ context.Context, _, key string, part protocol.Range) (protocol.Object, io.ReadCloser, error) {
	if o.err != nil {
		return protocol.Object{}, nil, o.err
	}
	return o.describe(key), io.NopCloser(bytes.NewReader(o.content[part.From:])), nil
}

func (o *oneObject) Stat(_ context.Context, _, key string) (protocol.Object, error) {
	return o.describe(key), o.err
}

func storageOf(t *testing.T, impl protocol.StorageServer) *client {
	t.Helper()
	conn, _ := dial(t, func(s *grpc.Server) { pluginv1.RegisterStorageServer(s, &storageServer{impl: impl}) })
	return newClient(conn, protocol.Version2)
}

func TestABodyOfAnySizeArrivesAsItIs(t *testing.T) {
	impl := &oneObject{}
	c := storageOf(t, impl)
	for _, size := range []int{0, 1, 1000, frameBytes - 1, frameBytes, frameBytes + 1, 3*frameBytes + 17} {
		for _, said := range []int64{int64(size), -1} {
			content := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
			o, err := c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: said}, bytes.NewReader(content))
			require.NoError(t, err)
			require.EqualValues(t, size, o.Size)
			require.True(t, bytes.Equal(content, impl.content))
			_, body, err := c.Get(t.Context(), "i", "k", protocol.Whole())
			require.NoError(t, err)
			got, err := io.ReadAll(body)
			require.NoError(t, errors.Join(err, body.Close()))
			require.True(t, bytes.Equal(content, got))
		}
	}
}

func TestTheClassOfAnErrorCrossesTheWire(t *testing.T) {
	impl := &oneObject{}
	c := storageOf(t, impl)
	for _, f := range faults {
		impl.err = fmt.Errorf("of bucket b: %w", f.err)
		_, err := c.Stat(t.Context(), "i", "k")
		require.ErrorIs(t, err, f.err)
		require.ErrorContains(t, err, "of bucket b")
		require.False(t, IsGone(err))
		_, _, err = c.Get(t.Context(), "i", "k", protocol.Whole())
		require.ErrorIs(t, err, f.err)
		_, err = c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: -1}, strings.NewReader("x"))
		require.ErrorIs(t, err, f.err)
	}
	impl.err = protocol.ErrUnknownInstance
	_, err := c.Stat(t.Context(), "i", "k")
	require.ErrorIs(t, err, protocol.ErrUnknownInstance)
	require.NotErrorIs(t, err, protocol.ErrNotFound)
}

func TestABodyThatWasNotReadIsNotAcknowledged(t *testing.T) {
	c := storageOf(t, &oneObject{unread: true})
	for _, size := range []int{1, 30 << 20} {
		_, err := c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: int64(size)}, bytes.NewReader(make([]byte, size)))
		require.Error(t, err)
	}
}

// hostile sends what it is told as the answer to Get, and takes nothing of a Put.
type hostile struct {
	pluginv1.UnimplementedStorageServer
	frames func(send func(m *pluginv1.GetFrame) error) error
	put    func(grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error
	list   *pluginv1.ListResponse
}

func (h *hostile) Get(_ *pluginv1.GetRequest, s grpc.ServerStreamingServer[pluginv1.GetFrame]) error {
	return h.frames(s.Send)
}

func (h *hostile) Put(s grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
	return h.put(s)
}

func (h *hostile) List(context.Context, *pluginv1.ListRequest) (*pluginv1.ListResponse, error) {
	return h.list, nil
}

func (h *hostile) dial(t *testing.T) *client {
	t.Helper()
	conn, _ := dial(t, func(s *grpc.Server) { pluginv1.RegisterStorageServer(s, h) })
	return newClient(conn, protocol.Version2)
}

func TestAGetThatBreaksTheProtocolIsFoundOut(t *testing.T) {
	object := func(size int64) *pluginv1.GetFrame {
		return &pluginv1.GetFrame{Object: &pluginv1.StoredObject{Key: "k", Size: size}}
	}
	frames := func(list ...*pluginv1.GetFrame) func(func(*pluginv1.GetFrame) error) error {
		return func(send func(*pluginv1.GetFrame) error) error {
			for _, f := range list {
				if err := send(f); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for name, h := range map[string]*hostile{
		"nothing":       {frames: frames()},
		"no object":     {frames: frames(&pluginv1.GetFrame{Data: []byte("abc")})},
		"another key":   {frames: frames(&pluginv1.GetFrame{Object: &pluginv1.StoredObject{Key: "other", Size: 3}})},
		"negative size": {frames: frames(object(-1))},
		"two objects":   {frames: frames(object(3), object(3))},
		"too little":    {frames: frames(object(3), &pluginv1.GetFrame{Data: []byte("ab")})},
		"too much":      {frames: frames(object(3), &pluginv1.GetFrame{Data: []byte("abcd")})},
		"after the end": {frames: frames(object(3), &pluginv1.GetFrame{Data: []byte("abc")}, &pluginv1.GetFrame{Data: []byte("d")})},
		"huge frame":    {frames: frames(object(8<<20), &pluginv1.GetFrame{Data: make([]byte, 8<<20)})},
		"endless": {frames: func(send func(*pluginv1.GetFrame) error) error {
			for f := object(3); ; f = (&pluginv1.GetFrame{Data: make([]byte, 1000)}) {
				if err := send(f); err != nil {
					return err
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, body, err := h.dial(t).Get(t.Context(), "i", "k", protocol.Whole())
			if err == nil {
				_, err = io.Copy(io.Discard, body)
				require.NoError(t, body.Close())
			}
			require.ErrorIs(t, err, protocol.ErrMalformed)
		})
	}
}

func TestWhoMovesNoByteIsStuck(t *testing.T) {
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	h := &hostile{put: func(s grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
		return wait(s.Context())
	}}
	c := h.dial(t)
	c.wait = patience{answer: 200 * time.Millisecond, progress: 200 * time.Millisecond, work: 200 * time.Millisecond}
	for _, size := range []int{1, 64 << 20} { // one that fits into the window, and waits for its answer; one that does not
		_, err := c.Put(t.Context(), "i", protocol.Put{Key: "k", Size: -1}, bytes.NewReader(make([]byte, size)))
		require.ErrorIs(t, err, ErrStalled)
		require.ErrorIs(t, err, protocol.ErrUnavailable)
	}
	over := make(chan struct{})
	defer close(over)
	h.frames = func(send func(*pluginv1.GetFrame) error) error {
		if err := send(&pluginv1.GetFrame{Object: &pluginv1.StoredObject{Key: "k", Size: 3}, Data: []byte("a")}); err != nil {
			return err
		}
		<-over
		return nil
	}
	c.wait.progress = time.Minute // for the first frame, on a busy machine
	_, body, err := c.Get(t.Context(), "i", "k", protocol.Whole())
	require.NoError(t, err)
	body.(*downloading).watch.after = 200 * time.Millisecond
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, ErrStalled)
	require.NoError(t, body.Close())
}

func TestAnAcknowledgementBeforeTheEndIsNone(t *testing.T) {
	early := &pluginv1.StoredObject{Key: "k", Size: 64 << 20}
	h := &hostile{put: func(s grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
		return s.SendAndClose(early)
	}}
	_, err := h.dial(t).Put(t.Context(), "i", protocol.Put{Key: "k", Size: 64 << 20}, bytes.NewReader(make([]byte, 64<<20)))
	require.ErrorIs(t, err, protocol.ErrMalformed)
	h.put = func(s grpc.ClientStreamingServer[pluginv1.PutFrame, pluginv1.StoredObject]) error {
		for {
			if _, err := s.Recv(); err != nil {
				return s.SendAndClose(&pluginv1.StoredObject{Key: "k", Size: 2})
			}
		}
	}
	_, err = h.dial(t).Put(t.Context(), "i", protocol.Put{Key: "k", Size: 3}, strings.NewReader("abc"))
	require.ErrorIs(t, err, protocol.ErrMalformed, "another size than was sent")
}

func TestAListOutOfOrderIsFoundOut(t *testing.T) {
	list := func(keys ...string) *pluginv1.ListResponse {
		m := &pluginv1.ListResponse{}
		for _, k := range keys {
			m.Objects = append(m.Objects, &pluginv1.StoredObject{Key: k})
		}
		return m
	}
	for name, m := range map[string]*pluginv1.ListResponse{
		"order": list("ab", "aa"), "twice": list("ab", "ab"), "prefix": list("b"), "after": list("a"), "limit": list("aa", "ab", "ac", "ad"), "key": list("a//"), "more": {More: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := (&hostile{list: m}).dial(t).List(t.Context(), "i", "a", "a", 3)
			require.ErrorIs(t, err, protocol.ErrMalformed)
		})
	}
}

// What follows is the plugin's end: a host that says what it should not.

func TestAPutThatDoesNotEndStoresNothing(t *testing.T) {
	head := &pluginv1.PutHead{Key: "k", Size: 3}
	end := &pluginv1.BodyEnd{Size: 3}
	for name, list := range map[string][]*pluginv1.PutFrame{
		"no frame":       {},
		"no head":        {{Data: []byte("abc"), End: end}},
		"no end":         {{Head: head, Data: []byte("abc")}},
		"another end":    {{Head: head, Data: []byte("abc"), End: &pluginv1.BodyEnd{Size: 2}}},
		"too little":     {{Head: head, Data: []byte("ab"), End: &pluginv1.BodyEnd{Size: 2}}},
		"too much":       {{Head: head, Data: []byte("abcd"), End: &pluginv1.BodyEnd{Size: 4}}},
		"after the end":  {{Head: head, Data: []byte("abc"), End: end}, {Data: []byte("d")}},
		"two heads":      {{Head: head, Data: []byte("a")}, {Head: head, Data: []byte("bc"), End: end}},
		"no proper key":  {{Head: &pluginv1.PutHead{Key: "../k", Size: 3}, Data: []byte("abc"), End: end}},
		"short checksum": {{Head: &pluginv1.PutHead{Key: "k", Size: 3, Sha256: []byte("x")}, Data: []byte("abc"), End: end}},
	} {
		t.Run(name, func(t *testing.T) {
			impl := &oneObject{}
			conn, _ := dial(t, func(s *grpc.Server) { pluginv1.RegisterStorageServer(s, &storageServer{impl: impl}) })
			stream, err := pluginv1.NewStorageClient(conn).Put(withInstance(t.Context(), "i"))
			require.NoError(t, err)
			for _, f := range list {
				_ = stream.Send(f) // it may have ended already
			}
			_, err = stream.CloseAndRecv()
			require.Error(t, err)
			require.Nil(t, impl.content)
		})
	}
}

func TestAFrameIsReadHoweverItLiesInBuffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &pluginv1.PutFrame{Data: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")}
		if rapid.Bool().Draw(t, "head") {
			m.Head = &pluginv1.PutHead{Key: rapid.String().Draw(t, "key"), Size: rapid.Int64().Draw(t, "size")}
		}
		if rapid.Bool().Draw(t, "end") {
			m.End = &pluginv1.BodyEnd{Size: rapid.Uint64().Draw(t, "total")}
		}
		raw, err := proto.Marshal(m)
		require.NoError(t, err)
		var lying mem.BufferSlice
		for rest := raw; len(rest) > 0; {
			n := rapid.IntRange(0, len(rest)).Draw(t, "cut")
			lying, rest = append(lying, mem.SliceBuffer(rest[:n])), rest[n:]
		}
		var f incomingFrame
		require.NoError(t, f.unmarshal(lying))
		require.Equal(t, len(m.Data), f.size)
		require.True(t, bytes.Equal(m.Data, join(f.data)))
		require.True(t, proto.Equal(m.End, f.end))
		require.Equal(t, m.Head != nil, f.head != nil)
		f.release()
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0x12, 3, 'a', 'b', 'c'}, 2)
	f.Add([]byte{0x28, 1, 0x32, 2, '/', 's'}, 3)
	f.Fuzz(func(t *testing.T, raw []byte, cut int) {
		cut = min(max(cut, 0), len(raw))
		var frame incomingFrame
		if frame.unmarshal(mem.BufferSlice{mem.SliceBuffer(raw[:cut]), mem.SliceBuffer(raw[cut:])}) != nil {
			return
		}
		var m pluginv1.PutFrame
		if proto.Unmarshal(raw, &m) == nil && (len(m.Data) != frame.size || m.Beside != frame.beside) {
			t.Fatalf("%d bytes of data, beside %v, and the generated code finds %d, %v", frame.size, frame.beside, len(m.Data), m.Beside)
		}
		var g pluginv1.GetFrame
		if proto.Unmarshal(raw, &g) == nil && g.Socket != frame.socket {
			t.Fatalf("the socket %q, and the generated code finds %q", frame.socket, g.Socket)
		}
	})
}
