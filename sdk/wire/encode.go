package wire

import (
	"slices"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// outgoing is a message of batches on its way down a stream: it is written straight from the plain Go form, without a tree of
// generated messages between.
type outgoing struct {
	batches []*protocol.Batch // more than one: a Pack of version 2
	nested  bool              // in version 2's HostMessage
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
	s := m.measure()
	if mem.IsBelowBufferPoolingThreshold(s.total) {
		return mem.BufferSlice{mem.SliceBuffer(m.append(make([]byte, 0, s.total), s))}, nil
	}
	buf := buffers.Get(s.total)
	*buf = m.append((*buf)[:0], s)
	return mem.BufferSlice{mem.NewBuffer(buf, &buffers)}, nil
}

// The numbers of a batch and of a pack in version 2's HostMessage, and of the batches in a pack.
const (
	batchField = 2
	packField  = 3
	packBatch  = 1
)

// messageSize is how many bytes a message takes, and its parts.
type messageSize struct {
	total, pack int
	batches     []int
	frames      []frameSize // of all batches
}

func (m *outgoing) measure() messageSize {
	frames := 0
	for _, b := range m.batches {
		frames += len(b.Frames)
	}
	s := messageSize{batches: make([]int, len(m.batches)), frames: make([]frameSize, frames)}
	rest := s.frames
	for i, b := range m.batches {
		s.batches[i] = sizeBatch(b, rest)
		rest = rest[len(b.Frames):]
	}
	switch {
	case !m.nested:
		s.total = s.batches[0]
	case len(m.batches) == 1:
		s.total = 1 + protowire.SizeBytes(s.batches[0])
	default:
		for _, size := range s.batches {
			s.pack += 1 + protowire.SizeBytes(size)
		}
		s.total = 1 + protowire.SizeBytes(s.pack)
	}
	return s
}

func (m *outgoing) append(to []byte, s messageSize) []byte {
	field := protowire.Number(batchField)
	if len(m.batches) > 1 {
		to = appendLength(to, packField, s.pack)
		field = packBatch
	}
	for i, b := range m.batches {
		if m.nested {
			to = appendLength(to, field, s.batches[i])
		}
		to = appendBatch(to, b, s.frames)
		s.frames = s.frames[len(b.Frames):]
	}
	return to
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

// packLimit is protocol.PackBytes, or less when the plugin wants less, or 0 when it takes one batch in a message.
func packLimit(m *pluginv1.HandshakeResponse) int64 {
	if !slices.Contains(m.Capabilities, protocol.CapPacks) {
		return 0
	}
	if most := m.GetLimits().GetMaxBatchBytes(); most > 0 {
		return int64(min(most, protocol.PackBytes))
	}
	return protocol.PackBytes
}

// Bytes that a batch and a frame take in a message beside text, rows and their numbers, at most.
const (
	batchMost = 32
	frameMost = 96
)

// atMost is a bound of the bytes that a batch takes in a message, cheaper to find than the number itself.
func atMost(b *protocol.Batch) int {
	n := batchMost
	for i := range b.Frames {
		f := &b.Frames[i]
		n += frameMost + len(f.Data) + 5*len(f.Ends) + 10*len(f.Index) + len(f.Trigger)
		n += 3 * (len(f.UUID) + len(f.RequestID) + len(f.TraceParent)) // text makes three bytes of one that it cannot take
	}
	return n
}
