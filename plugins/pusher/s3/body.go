package main

import (
	"bufio"
	"bytes"
	"crypto/md5" //nolint:gosec // what S3 compares: Content-MD5 and the ETag
	"hash"
	"io"
	"os"
	"slices"
)

// heldBody is how much of an object is kept in memory, bytes. A larger one goes to a file.
const heldBody = 32 << 20

// body is an object on its way to the bucket. It can be read more than once.
type body struct {
	path  string // of the file, when there is one
	held  []byte
	large bool // goes to the file from its first byte on
	file  *os.File
	out   *bufio.Writer
	sum   hash.Hash
	size  int64
}

// newBody begins an object of about that size, 0: nobody knows; held is bytes that it may use. To let them grow as they fill up would
// copy the object several times, so they are made at once. A size that does not fit goes to the file from the first byte on.
func newBody(path string, held []byte, size int64) *body {
	b := &body{path: path, held: held[:0], sum: md5.New(), large: size > heldBody} //nolint:gosec // see above
	if !b.large {
		b.held = slices.Grow(b.held, int(size))
	}
	return b
}

func (b *body) Write(text []byte) (int, error) {
	if b.file == nil && (b.large || len(b.held)+len(text) > heldBody) {
		var err error
		if b.file, err = os.OpenFile(b.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640); err != nil {
			return 0, err
		}
		b.out = bufio.NewWriterSize(b.file, flushText)
		if _, err := b.out.Write(b.held); err != nil {
			return 0, err
		}
	}
	_, _ = b.sum.Write(text) // never fails
	b.size += int64(len(text))
	if b.file != nil {
		return b.out.Write(text)
	}
	b.held = append(b.held, text...)
	return len(text), nil
}

func (b *body) flush() error {
	if b.file == nil {
		return nil
	}
	return b.out.Flush()
}

// reader gives the whole of it.
func (b *body) reader() *io.SectionReader {
	if b.file == nil {
		return io.NewSectionReader(bytes.NewReader(b.held), 0, b.size)
	}
	return io.NewSectionReader(b.file, 0, b.size)
}

// remove lets the file go; what a crash leaves of it is removed at the next start.
func (b *body) remove() {
	if b.file != nil {
		_ = b.file.Close() // it can be made again
		_ = os.Remove(b.path)
	}
}
