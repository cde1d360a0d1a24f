package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"pgregory.net/rapid"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// inFile has its object in a file, behind other bytes, that is removed by the time that the host reads it.
type inFile struct {
	oneObject
	t      *testing.T
	before int
	closed chan struct{}
}

func (f *inFile) Get(_ context.Context, _, key string, part protocol.Range) (protocol.Object, io.ReadCloser, error) {
	path := filepath.Join(f.t.TempDir(), "object")
	require.NoError(f.t, os.WriteFile(path, append(make([]byte, f.before), f.content...), 0o600))
	file, err := os.Open(path)
	require.NoError(f.t, err)
	require.NoError(f.t, os.Remove(path))
	_, err = file.Seek(int64(f.before)+part.From, io.SeekStart)
	require.NoError(f.t, err)
	return f.describe(key), &telling{ReadCloser: file, file: file, closed: f.closed}, nil
}

type telling struct {
	io.ReadCloser
	file   *os.File
	closed chan<- struct{}
}

func (o *telling) File() *os.File { return o.file }

func (o *telling) Close() error {
	defer func() { o.closed <- struct{}{} }()
	return o.ReadCloser.Close()
}

func TestAFileThatThePluginHasOpenIsReadByTheHost(t *testing.T) {
	impl := &inFile{t: t, before: 5, closed: make(chan struct{}, 1)}
	for i := range 3 * frameBytes / 4 {
		impl.content = append(impl.content, byte(i), byte(i>>8), byte(i>>16), 'x')
	}
	end := int64(len(impl.content))
	c := storageOf(t, impl)
	for _, takes := range []bool{true, false} {
		TakeNear(c, takes)
		rapid.Check(t, func(r *rapid.T) {
			from := rapid.Int64Range(0, end-1).Draw(r, "from")
			part := protocol.Range{From: from, Length: rapid.Int64Range(-1, end).Draw(r, "length")}
			if part.Length == 0 {
				part.Length = 1
			}
			want := impl.content[from:]
			if part.Length > 0 && part.Length < int64(len(want)) {
				want = want[:part.Length]
			}
			object, body, err := c.Get(t.Context(), "i", "k", part)
			require.NoError(t, err)
			require.Equal(t, end, object.Size)
			if _, file := body.(*fileBody); file {
				require.True(t, takes)
			} else {
				require.False(t, takes && len(want) >= frameBytes)
			}
			<-impl.closed // the plugin lets its own go as soon as the host has a file, or all that it sends is on its way
			var got bytes.Buffer
			if rapid.Bool().Draw(r, "write") {
				_, err = io.Copy(&got, body)
			} else {
				_, err = io.Copy(&got, struct{ io.Reader }{body})
			}
			require.NoError(t, errors.Join(err, body.Close()))
			require.True(t, bytes.Equal(want, got.Bytes()))
		})
	}
}

func TestReadingAFileEndsWithItsContext(t *testing.T) {
	impl := &inFile{t: t, closed: make(chan struct{}, 1), oneObject: oneObject{content: make([]byte, 2*frameBytes)}}
	c := storageOf(t, impl)
	TakeNear(c, true)
	ctx, cancel := context.WithCancel(t.Context())
	_, body, err := c.Get(ctx, "i", "k", protocol.Whole())
	require.NoError(t, err)
	require.IsType(t, &fileBody{}, body)
	<-impl.closed
	cancel()
	_, err = body.Read(make([]byte, 1))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, body.Close())
}

// naming answers with the file that it is told to name.
type naming struct {
	pluginv1.UnimplementedStorageServer
	file    *pluginv1.OpenFile
	content []byte
	always  bool // also when the host takes none
}

func (n *naming) Get(m *pluginv1.GetRequest, stream grpc.ServerStreamingServer[pluginv1.GetFrame]) error {
	frame := &pluginv1.GetFrame{Object: &pluginv1.StoredObject{Key: m.Key, Size: int64(len(n.content)), Etag: "e", Tier: pluginv1.Tier_TIER_HOT}}
	if !m.TakesFile && !n.always {
		frame.Data = n.content
		return stream.Send(frame)
	}
	frame.File = n.file
	if err := stream.Send(frame); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func TestAFileThatIsNotTheOneMeantIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "object")
	require.NoError(t, os.WriteFile(path, []byte("secret"), 0o600))
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	folder, err := os.Open(t.TempDir())
	require.NoError(t, err)
	defer folder.Close()
	good := nameFile(file, 6)
	require.NotNil(t, good)
	require.Nil(t, nameFile(file, 7), "it has not so many bytes")
	require.Nil(t, nameFile(folder, 0), "a folder")
	for name, change := range map[string]func(m *pluginv1.OpenFile){
		"another inode":    func(m *pluginv1.OpenFile) { m.Inode++ },
		"another device":   func(m *pluginv1.OpenFile) { m.Device++ },
		"no descriptor":    func(m *pluginv1.OpenFile) { m.Descriptor_ = 1 << 20 },
		"no process":       func(m *pluginv1.OpenFile) { m.Pid = 1 << 31 },
		"beyond its end":   func(m *pluginv1.OpenFile) { m.At = 1 },
		"far beyond":       func(m *pluginv1.OpenFile) { m.At = 1<<63 - 1 },
		"a folder instead": func(m *pluginv1.OpenFile) { m.Descriptor_ = uint32(folder.Fd()) },
	} {
		t.Run(name, func(t *testing.T) {
			impl := &naming{content: []byte("object"), file: &pluginv1.OpenFile{
				Pid: good.Pid, Descriptor_: good.Descriptor_, At: good.At, Device: good.Device, Inode: good.Inode,
			}}
			change(impl.file)
			conn, _ := dial(t, func(s *grpc.Server) { pluginv1.RegisterStorageServer(s, impl) })
			c := newClient(conn, protocol.Version2)
			TakeNear(c, true)
			_, body, err := c.Get(t.Context(), "i", "k", protocol.Whole())
			require.NoError(t, err)
			got, err := io.ReadAll(body)
			require.NoError(t, errors.Join(err, body.Close()))
			require.Equal(t, "object", string(got))
			require.False(t, c.takesFiles.Load(), "it is not asked for again")

			impl.always = true
			_, _, err = c.Get(t.Context(), "i", "k", protocol.Whole())
			require.ErrorIs(t, err, protocol.ErrMalformed)
		})
	}
}

func TestAFileThatBecomesShorterIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "object")
	require.NoError(t, os.WriteFile(path, []byte("object"), 0o600))
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	body, err := openFile(t.Context(), "get", nameFile(file, 6), 6)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 2))
	got, err := io.ReadAll(body)
	require.ErrorIs(t, err, protocol.ErrMalformed)
	require.Equal(t, "ob", string(got))
	require.NoError(t, body.Close())
}
