package wire

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// The fields of PutFrame, PartFrame and GetFrame, which are alike: a head of some sort, data, and the end (GetFrame has a file instead).
const (
	frameHead = 1
	frameBody = 2
	frameEnd  = 3
	frameFile = 4
	// frameBeside is a flag of PutFrame and PartFrame, frameSocket a text of GetFrame.
	frameBeside = 5
	frameSocket = 6
)

// outgoingFrame is a frame on its way: its data travel in the buffer that they were read into.
type outgoingFrame struct {
	head proto.Message // nil: none
	data *[]byte       // from buffers, to which gRPC gives it back; nil: none
	end  *pluginv1.BodyEnd
	file *pluginv1.OpenFile

	beside bool
	socket string
}

func (m *outgoingFrame) marshal() (mem.BufferSlice, error) {
	var before []byte
	if m.head != nil {
		head, err := proto.Marshal(m.head)
		if err != nil {
			return nil, err
		}
		before = protowire.AppendBytes(protowire.AppendTag(make([]byte, 0, len(head)+16), frameHead, protowire.BytesType), head)
	}
	if m.file != nil {
		file, err := proto.Marshal(m.file)
		if err != nil {
			return nil, err
		}
		before = protowire.AppendBytes(protowire.AppendTag(before, frameFile, protowire.BytesType), file)
	}
	if m.beside {
		before = protowire.AppendVarint(protowire.AppendTag(before, frameBeside, protowire.VarintType), 1)
	}
	if m.socket != "" {
		before = protowire.AppendString(protowire.AppendTag(before, frameSocket, protowire.BytesType), m.socket)
	}
	if m.data != nil {
		before = appendLength(before, frameBody, len(*m.data))
	}
	out := make(mem.BufferSlice, 0, 3)
	if len(before) > 0 {
		out = append(out, mem.SliceBuffer(before))
	}
	if m.data != nil {
		out = append(out, mem.NewBuffer(m.data, &buffers))
	}
	if m.end != nil {
		end, err := proto.Marshal(m.end)
		if err != nil {
			return nil, err
		}
		out = append(out, mem.SliceBuffer(protowire.AppendBytes(protowire.AppendTag(nil, frameEnd, protowire.BytesType), end)))
	}
	return out, nil
}

// incomingFrame is a frame as it came: its data stay in gRPC's buffers until release.
type incomingFrame struct {
	head    []byte // encoded; nil: none
	data    [][]byte
	size    int // of the data
	end     *pluginv1.BodyEnd
	file    []byte // encoded; nil: none
	beside  bool
	socket  string // empty: none
	buffers mem.BufferSlice
}

func (f *incomingFrame) release() {
	f.buffers.Free()
	*f = incomingFrame{}
}

// unmarshal keeps raw until release. Each field may come once; what is not known is passed over.
func (f *incomingFrame) unmarshal(raw mem.BufferSlice) error {
	*f = incomingFrame{}
	c := cursor{rest: raw, left: raw.Len()}
	var head, data, end, file, socket bool
	for c.left > 0 {
		tag, err := c.varint()
		if err != nil {
			return err
		}
		number, kind := protowire.DecodeTag(tag)
		if number < protowire.MinValidNumber {
			return errFrame
		}
		if kind == protowire.VarintType && number > frameFile {
			value, err := c.varint()
			if err != nil {
				return err
			}
			if number == frameBeside {
				f.beside = value != 0
			}
			continue
		}
		if kind != protowire.BytesType {
			return errFrame
		}
		size, err := c.varint()
		if err != nil || size > uint64(c.left) {
			return errFrame
		}
		content := c.take(int(size))
		var twice bool
		switch number {
		case frameHead:
			f.head, twice, head = join(content), head, true
		case frameBody:
			f.data, f.size, twice, data = content, int(size), data, true
		case frameEnd:
			f.end, twice, end = &pluginv1.BodyEnd{}, end, true
			if err := proto.Unmarshal(join(content), f.end); err != nil {
				return err
			}
		case frameFile:
			f.file, twice, file = join(content), file, true
		case frameSocket:
			f.socket, twice, socket = string(join(content)), socket, true
		}
		if twice {
			return errFrame
		}
	}
	raw.Ref()
	f.buffers = raw
	return nil
}

var errFrame = errors.New("a frame of a body that is none")

// cursor walks through a message that lies in several buffers.
type cursor struct {
	rest mem.BufferSlice
	at   int // in the first buffer
	left int
}

func (c *cursor) varint() (uint64, error) {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		for len(c.rest) > 0 && c.at == c.rest[0].Len() {
			c.rest, c.at = c.rest[1:], 0
		}
		if len(c.rest) == 0 {
			break
		}
		b := c.rest[0].ReadOnlyData()[c.at]
		c.at++
		c.left--
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errFrame
}

// take is the next n bytes, which must be there, as they lie.
func (c *cursor) take(n int) [][]byte {
	out := make([][]byte, 0, n>>14+2)
	c.left -= n
	for n > 0 {
		piece := c.rest[0].ReadOnlyData()[c.at:]
		piece = piece[:min(n, len(piece))]
		if c.at += len(piece); c.at == c.rest[0].Len() {
			c.rest, c.at = c.rest[1:], 0
		}
		n -= len(piece)
		if len(piece) > 0 {
			out = append(out, piece)
		}
	}
	return out
}

// join copies.
func join(pieces [][]byte) []byte {
	out := []byte{}
	for _, p := range pieces {
		out = append(out, p...)
	}
	return out
}

// body reads what comes in frames. It is used by one goroutine at a time.
type body struct {
	next func(*incomingFrame) error // io.EOF: the stream has ended in good order
	most int64                      // bytes that there may be; -1: any number
	// ends: the last frame has a BodyEnd, and a stream that ends without it has broken off. Otherwise the stream's good end is
	// the body's, and the other side owes all of most.
	ends bool
	call grpc.ServerStream // for what comes beside it; nil: nothing does

	aside *aside // nil: it comes in frames
	frame incomingFrame
	size  int64 // of the frames that came
	err   error // what Read says when the frame is empty
}

// begin takes the first frame, which has a head beside.
func (b *body) begin(f incomingFrame) {
	f.head = nil
	b.frame = f
	b.size = int64(f.size)
	b.err = b.tooLong()
}

// fill makes sure that there are data in the frame.
func (b *body) fill() error {
	for len(b.frame.data) == 0 && b.err == nil && b.aside == nil {
		end, beside := b.frame.end, b.frame.beside
		b.frame.release()
		switch {
		case end != nil && b.ends:
			b.err = b.finish(end)
		case beside && b.ends:
			b.err = b.takeBeside()
		default:
			b.err = b.take()
		}
	}
	if len(b.frame.data) > 0 {
		return nil
	}
	return b.err
}

// take waits for the next frame.
func (b *body) take() error {
	switch err := b.next(&b.frame); {
	case errors.Is(err, io.EOF) && !b.ends && b.size == b.most:
		return io.EOF
	case errors.Is(err, io.EOF):
		return fmt.Errorf("it broke off after %d bytes: %w", b.size, io.ErrUnexpectedEOF)
	case err != nil:
		return err
	case b.frame.head != nil:
		b.frame.release()
		return fmt.Errorf("%w: a second head in a body", protocol.ErrMalformed)
	}
	b.size += int64(b.frame.size)
	return b.tooLong()
}

// readAside reads what comes beside the call. When it is over, for whatever reason, the call says whether that was all.
func (b *body) readAside(p []byte) (n int, err error) {
	n, err = b.aside.Read(p)
	b.size += int64(n)
	if b.err = b.tooLong(); b.err != nil {
		return 0, b.err
	}
	if err != nil {
		b.aside.close()
		b.aside = nil
	}
	return n, nil
}

func (b *body) tooLong() error {
	if b.most < 0 || b.size <= b.most {
		return nil
	}
	b.frame.release()
	if b.ends {
		return fmt.Errorf("%w: %d bytes or more, where there are to be %d", protocol.ErrSize, b.size, b.most)
	}
	return fmt.Errorf("%w: %d bytes or more, where %d were asked for", protocol.ErrMalformed, b.size, b.most)
}

// finish is called at BodyEnd: nothing may follow.
func (b *body) finish(end *pluginv1.BodyEnd) error {
	if end.Size != uint64(b.size) {
		return fmt.Errorf("%w: the end says that the body had %d bytes, %d came", protocol.ErrMalformed, end.Size, b.size)
	}
	if b.most >= 0 && b.size < b.most {
		return fmt.Errorf("%w: %d bytes, where there are to be %d", protocol.ErrSize, b.size, b.most)
	}
	switch err := b.next(&b.frame); {
	case err == nil:
		b.frame.release()
		return fmt.Errorf("%w: a frame after the end of the body", protocol.ErrMalformed)
	case !errors.Is(err, io.EOF):
		return err
	}
	return io.EOF
}

// whole tells whether Read has come to the proper end.
func (b *body) whole() bool { return errors.Is(b.err, io.EOF) && len(b.frame.data) == 0 }

func (b *body) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(b.frame.data) == 0 {
			if n > 0 && (b.frame.end == nil || !b.ends) {
				break // what is there is given before the next frame is waited for
			}
			if b.aside != nil {
				if n, err := b.readAside(p); n > 0 || err != nil {
					return n, err
				}
			}
			if err := b.fill(); err != nil {
				if n > 0 {
					break
				}
				return 0, err
			}
			if b.aside != nil {
				continue
			}
		}
		copied := copy(p[n:], b.frame.data[0])
		n += copied
		b.drop(copied)
	}
	return n, nil
}

func (b *body) drop(n int) {
	if n == len(b.frame.data[0]) {
		b.frame.data = b.frame.data[1:]
		return
	}
	b.frame.data[0] = b.frame.data[0][n:]
}

// WriteTo writes what came as it lies, without another copy.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if b.aside != nil {
			n, err := b.writeAside(w)
			total += n
			if err != nil {
				return total, err
			}
		}
		if err := b.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return total, err
		}
		if b.aside != nil {
			continue
		}
		n, err := w.Write(b.frame.data[0])
		total += int64(n)
		if err != nil {
			return total, err
		}
		b.drop(n)
	}
}

func (b *body) writeAside(w io.Writer) (total int64, err error) {
	buf := buffers.Get(besideBytes)
	defer buffers.Put(buf)
	for b.aside != nil {
		n, err := b.readAside(*buf)
		if err == nil && n > 0 {
			n, err = w.Write((*buf)[:n])
			total += int64(n)
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// close lets the buffers go. Read fails from then on.
func (b *body) close() {
	b.frame.release()
	if b.aside != nil {
		b.aside.close()
		b.aside = nil
	}
	if b.err == nil {
		b.err = errClosed
	}
}

var errClosed = errors.New("the object was closed")

// pieces reads r into frames.
type pieces struct {
	r     io.Reader
	size  int64 // that there are to be; -1: not known
	most  int   // of a piece
	read  int64
	grows int // of the next buffer, while the size is not known
	done  bool
	err   error // of r
}

// next is the next piece, full unless it is the last one. A body of a known size that is longer gives ErrSize, a shorter one too.
func (p *pieces) next() (*[]byte, error) {
	room := p.most
	if p.size >= 0 {
		room = int(min(int64(room), p.size-p.read+1)) // one more shows that there is more
	} else if p.grows < room {
		p.grows = max(p.grows*4, 64<<10)
		room = p.grows
	}
	buf := buffers.Get(room)
	n, idle := 0, 0
	for n < room && !p.done {
		m, err := p.r.Read((*buf)[n:room])
		n += m
		if idle++; m > 0 {
			idle = 0
		}
		switch {
		case errors.Is(err, io.EOF):
			p.done = true
		case err == nil && idle > 100:
			err = io.ErrNoProgress
			fallthrough
		case err != nil:
			buffers.Put(buf)
			p.err = err
			return nil, err
		}
	}
	p.read += int64(n)
	if p.size >= 0 && (p.read > p.size || p.done && p.read < p.size) {
		buffers.Put(buf)
		what := "is shorter"
		if p.read > p.size {
			what = "goes on"
		}
		return nil, fmt.Errorf("%w: %d bytes were announced, and the body %s", protocol.ErrSize, p.size, what)
	}
	if n == 0 {
		buffers.Put(buf)
		return nil, nil
	}
	*buf = (*buf)[:n]
	return buf, nil
}

// end is what is said of all that was read.
func (p *pieces) end() *pluginv1.BodyEnd { return &pluginv1.BodyEnd{Size: uint64(p.read)} }
