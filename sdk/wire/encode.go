package wire

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// outgoing is a batch on its way down a stream: it is written straight from the plain Go form, without a tree of generated
// messages between.
type outgoing struct {
	batch  *protocol.Batch
	nested bool // in version 2's HostMessage
}

// Marshal writes batches and pieces of bodies by hand, and leaves the rest to the generated code.
func (g guard) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*outgoingFrame); ok {
		return m.marshal()
	}
	m, ok := v.(*outgoing)
	if !ok {
		return g.CodecV2.Marshal(v)
	}
	sizes := make([]frameSize, len(m.batch.Frames))
	size := sizeBatch(m.batch, sizes)
	total := size
	if m.nested {
		total = protowire.SizeTag(batchField) + protowire.SizeBytes(size)
	}
	if mem.IsBelowBufferPoolingThreshold(total) {
		return mem.BufferSlice{mem.SliceBuffer(m.append(make([]byte, 0, total), size, sizes))}, nil
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(total)
	*buf = m.append((*buf)[:0], size, sizes)
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
}

// batchField is the number of the batch in version 2's HostMessage.
const batchField = 2

func (m *outgoing) append(to []byte, size int, sizes []frameSize) []byte {
	if m.nested {
		to = protowire.AppendTag(to, batchField, protowire.BytesType)
		to = protowire.AppendVarint(to, uint64(size))
	}
	return appendBatch(to, m.batch, sizes)
}

// frameSize is how many bytes a frame takes, and its packed numbers.
type frameSize struct{ frame, ends, index int }

func sizeBatch(b *protocol.Batch, sizes []frameSize) int {
	n := sizeNumber(b.Seq)
	if b.Ordered {
		n += 2
	}
	for i := range b.Frames {
		s := &sizes[i]
		s.measure(&b.Frames[i])
		n += 1 + protowire.SizeBytes(s.frame)
	}
	return n
}

func (s *frameSize) measure(f *protocol.Frame) {
	for _, end := range f.Ends {
		s.ends += protowire.SizeVarint(uint64(end))
	}
	for _, index := range f.Index {
		s.index += protowire.SizeVarint(uint64(index))
	}
	s.frame = sizeNumber(f.OrgID) + sizeNumber(f.UserID) + sizeContent(len(text(f.UUID))) + sizeNumber(f.Position) +
		sizeNumber(uint64(f.ReceivedAt.UnixNano())) + sizeContent(len(f.Data)) + sizeContent(s.ends) + sizeContent(s.index) +
		sizeContent(len(f.Trigger)) + sizeContent(len(text(f.RequestID))) + sizeContent(len(text(f.TraceParent)))
}

// A zero is not written. All tags take one byte.
func sizeNumber(n uint64) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(n)
}

func sizeContent(length int) int {
	if length == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(length)
}

func appendBatch(to []byte, b *protocol.Batch, sizes []frameSize) []byte {
	to = appendNumber(to, 1, b.Seq)
	for i := range b.Frames {
		to = appendLength(to, 2, sizes[i].frame)
		to = appendFrame(to, &b.Frames[i], sizes[i])
	}
	if b.Ordered {
		to = appendNumber(to, 3, 1)
	}
	return to
}

func appendFrame(to []byte, f *protocol.Frame, size frameSize) []byte {
	to = appendNumber(to, frameOrg, f.OrgID)
	to = appendNumber(to, frameUser, f.UserID)
	to = appendContent(to, frameUUID, text(f.UUID))
	to = appendNumber(to, framePosition, f.Position)
	to = appendNumber(to, frameReceived, uint64(f.ReceivedAt.UnixNano()))
	to = appendContent(to, frameData, f.Data)
	if size.ends > 0 {
		to = appendLength(to, frameEnds, size.ends)
		for _, end := range f.Ends {
			to = protowire.AppendVarint(to, uint64(end))
		}
	}
	if size.index > 0 {
		to = appendLength(to, frameIndex, size.index)
		for _, index := range f.Index {
			to = protowire.AppendVarint(to, uint64(index)) // a negative one takes ten bytes, as in all of protobuf
		}
	}
	to = appendContent(to, frameTrigger, f.Trigger)
	to = appendContent(to, frameRequest, text(f.RequestID))
	return appendContent(to, frameTrace, text(f.TraceParent))
}

func appendNumber(to []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return to
	}
	return protowire.AppendVarint(protowire.AppendTag(to, field, protowire.VarintType), n)
}

func appendLength(to []byte, field protowire.Number, length int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(to, field, protowire.BytesType), uint64(length))
}

func appendContent[T string | []byte](to []byte, field protowire.Number, content T) []byte {
	if len(content) == 0 {
		return to
	}
	return append(appendLength(to, field, len(content)), content...)
}
