package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// An object that is a file on this machine need not cross the boundary: the plugin names the file that it has open, and the host
// opens the same one and reads it. Where that cannot be (another machine or user, a kernel without /proc), the bytes are sent: beside.go.

// TakeNear lets bodies go beside the call: the plugin may answer Get with a file that it has open, or with a socket, and have a large Put
// through one. It is for plugins that run as the host's own user: what the host opens on their word, they could open as well.
func TakeNear(c protocol.Client, on bool) {
	if c, ok := c.(*client); ok {
		c.takesFiles.Store(on)
		c.near.Store(on)
	}
}

// fileBytes is how much of a file WriteTo reads at once.
const fileBytes = 256 << 10

// fileBody is what was asked for of a file. Close may be called at any time.
type fileBody struct {
	ctx   context.Context
	doing string
	file  *os.File
	at    int64
	left  int64
}

var _ io.WriterTo = (*fileBody)(nil)

func (b *fileBody) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, fmt.Errorf("%s: %w", b.doing, context.Cause(b.ctx))
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.file.ReadAt(p[:min(int64(len(p)), b.left)], b.at)
	b.at, b.left = b.at+int64(n), b.left-int64(n)
	switch {
	case n > 0 || err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		return 0, fmt.Errorf("%s: %w: the file that the plugin named has become shorter", b.doing, protocol.ErrMalformed)
	default:
		return 0, fmt.Errorf("%s: %w", b.doing, err)
	}
}

// WriteTo reads larger pieces than io.Copy.
func (b *fileBody) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, struct{ io.Reader }{b}, make([]byte, min(fileBytes, max(b.left, 1))))
}

func (b *fileBody) Close() error { return b.file.Close() }

// fileOf is the file behind an object's content; nil: there is none.
func fileOf(content io.ReadCloser) *os.File {
	switch content := content.(type) {
	case *os.File:
		return content
	case interface{ File() *os.File }:
		return content.File()
	}
	return nil
}
