package wire

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what codec builds on
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// The generated decoder allocates half a dozen times for each frame of a batch. When a batch is made of a hundred small
// requests, that is most of what the plugin boundary costs. So the plugin's side decodes batches by hand, straight into the
// plain Go form: one copy of the bytes, into which all rows point, and one array for each sort of number.

// codec is the protobuf codec of the plugin's side.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// batchMessage is what comes down a stream of version 1.
type batchMessage struct {
	batches []protocol.Batch // one; several in a Pack of version 2
	err     error            // what the protocol does not allow; there are no batches then
}

// hostMessage is what comes down a stream of version 2: a batch, a pack of them, or else Open or something unknown.
type hostMessage struct {
	batchMessage
	other *pluginv2.HostMessage
}

// Marshal writes pieces of bodies by hand, and leaves the rest to the generated code.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*outgoingFrame); ok {
		return m.marshal()
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *incomingFrame:
		return m.unmarshal(data)
	case *batchMessage:
		return m.decode(data.Materialize())
	case *hostMessage:
		raw := data.Materialize()
		if batch, ok := sole(raw, batchField); ok {
			return m.decode(batch)
		}
		if pack, ok := sole(raw, packField); ok {
			if batches, ok := decodePack(pack); ok {
				m.take(batches)
				return nil
			}
		}
		m.other = &pluginv2.HostMessage{}
		if err := proto.Unmarshal(raw, m.other); err != nil {
			return err
		}
		switch other := m.other.Message.(type) {
		case *pluginv2.HostMessage_Batch:
			if other.Batch != nil {
				m.batches, m.err = batchesIn(other.Batch)
			}
		case *pluginv2.HostMessage_Pack:
			m.batches, m.err = batchesIn(other.Pack.GetBatches()...)
		}
		return nil
	default:
		return c.CodecV2.Unmarshal(data, v)
	}
}

// sole is the content of a message that consists of the one field with this number.
func sole(b []byte, field protowire.Number) ([]byte, bool) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 || number != field || kind != protowire.BytesType {
		return nil, false
	}
	content, size := protowire.ConsumeBytes(b[n:])
	return content, size == len(b)-n
}

// decode takes raw over.
func (m *batchMessage) decode(raw []byte) error {
	batch, ok := decodeBatch(raw)
	if !ok {
		// Another encoder's way to say it, or no protobuf at all: the generated decoder knows.
		var generated pluginv1.Batch
		if err := proto.Unmarshal(raw, &generated); err != nil {
			return err
		}
		m.batches, m.err = batchesIn(&generated)
		return nil
	}
	m.take([]protocol.Batch{batch})
	return nil
}

func (m *batchMessage) take(batches []protocol.Batch) {
	for i := range batches {
		if m.err = check(&batches[i]); m.err != nil {
			return
		}
	}
	m.batches = batches
}

// decodeBatch decodes a pluginv1.Batch as protobuf's own encoders write it: each field once, numbers packed. It is not ok when
// anything else is in raw.
func decodeBatch(raw []byte) (b protocol.Batch, ok bool) {
	var c counts
	if c.batch(raw) != nil {
		return b, false
	}
	d := c.room()
	return b, d.batch(raw, &b) == nil
}

// decodePack does the same with a pluginv2.Pack.
func decodePack(raw []byte) (batches []protocol.Batch, ok bool) {
	var c counts
	n := 0
	err := fields(raw, func(number protowire.Number, _ uint64, content []byte) error {
		if number != packBatch {
			return nil
		}
		if content == nil {
			return errUncommon
		}
		n++
		return c.batch(content)
	})
	if err != nil {
		return nil, false
	}
	d := c.room()
	batches = make([]protocol.Batch, 0, n)
	err = fields(raw, func(number protowire.Number, _ uint64, content []byte) error {
		if number != packBatch {
			return nil
		}
		batches = batches[:len(batches)+1]
		return d.batch(content, &batches[len(batches)-1])
	})
	return batches, err == nil
}

// counts is how much of everything the batches of a message hold.
type counts struct{ frames, ends, index, text int }

// batch counts what a batch holds, and refuses what decoder.batch does not know how to read.
func (c *counts) batch(raw []byte) error {
	return fields(raw, func(number protowire.Number, _ uint64, content []byte) error {
		switch {
		case number == 2 && content != nil:
			c.frames++
			return c.frame(content)
		case number <= 3 && (number == 2) != (content != nil):
			return errUncommon
		}
		return nil
	})
}

// room makes the arrays for what was counted.
func (c *counts) room() *decoder {
	d := &decoder{frames: make([]protocol.Frame, 0, c.frames), ends: make([]uint32, 0, c.ends), index: make([]int32, 0, c.index)}
	d.text.Grow(c.text)
	return d
}

var errUncommon = errors.New("uncommon encoding")

// The fields of pluginv1.Frame.
const (
	frameOrg = iota + 1
	frameUser
	frameUUID
	framePosition
	frameReceived
	frameData
	frameEnds
	frameIndex
	frameTrigger
	frameRequest
	frameTrace
)

// frame counts what a frame holds, and refuses what decoder.frame does not know how to read.
func (c *counts) frame(raw []byte) error {
	var seen [frameTrace + 1]bool
	return fields(raw, func(number protowire.Number, _ uint64, content []byte) error {
		if number > frameTrace {
			return nil
		}
		if seen[number] {
			return errUncommon
		}
		seen[number] = true
		switch number {
		case frameOrg, frameUser, framePosition, frameReceived:
			if content != nil {
				return errUncommon
			}
			return nil
		}
		if content == nil {
			return errUncommon
		}
		switch number {
		case frameUUID, frameRequest, frameTrace:
			if !utf8.Valid(content) {
				return errUncommon
			}
			c.text += len(content)
		case frameEnds:
			c.ends += numbers(content)
		case frameIndex:
			c.index += numbers(content)
		}
		return nil
	})
}

// numbers is how many varints are in b: each ends with the one byte whose high bit is clear.
func numbers(b []byte) (n int) {
	for _, c := range b {
		if c < 0x80 {
			n++
		}
	}
	return n
}

// decoder holds the arrays that the frames of one message share. They are as large as they get.
type decoder struct {
	frames []protocol.Frame
	ends   []uint32
	index  []int32
	text   strings.Builder
}

func (d *decoder) batch(raw []byte, b *protocol.Batch) error {
	start := len(d.frames)
	err := fields(raw, func(number protowire.Number, n uint64, content []byte) error {
		switch number {
		case 1:
			b.Seq = n
		case 2:
			d.frames = d.frames[:len(d.frames)+1]
			return d.frame(content, &d.frames[len(d.frames)-1])
		case 3:
			b.Ordered = n != 0
		}
		return nil
	})
	b.Frames = d.frames[start:len(d.frames):len(d.frames)]
	return err
}

// string keeps a text: what was written stays where it is, since the builder never grows again.
func (d *decoder) string(b []byte) string {
	d.text.Write(b)
	all := d.text.String()
	return all[len(all)-len(b):]
}

func (d *decoder) frame(raw []byte, f *protocol.Frame) error {
	f.ReceivedAt = time.Unix(0, 0).UTC()
	return fields(raw, func(number protowire.Number, n uint64, content []byte) error {
		switch number {
		case frameOrg:
			f.OrgID = n
		case frameUser:
			f.UserID = n
		case frameUUID:
			f.UUID = d.string(content)
		case framePosition:
			f.Position = n
		case frameReceived:
			f.ReceivedAt = time.Unix(0, int64(n)).UTC()
		case frameData:
			f.Data = content
		case frameTrigger:
			if len(content) > 0 {
				f.Trigger = content
			}
		case frameRequest:
			f.RequestID = d.string(content)
		case frameTrace:
			f.TraceParent = d.string(content)
		case frameEnds:
			start := len(d.ends)
			for len(content) > 0 {
				v, size := protowire.ConsumeVarint(content)
				if size < 0 {
					return errUncommon
				}
				d.ends = append(d.ends, uint32(v))
				content = content[size:]
			}
			if end := len(d.ends); end > start {
				f.Ends = d.ends[start:end:end]
			}
		case frameIndex:
			start := len(d.index)
			for len(content) > 0 {
				v, size := protowire.ConsumeVarint(content)
				if size < 0 {
					return errUncommon
				}
				d.index = append(d.index, int32(v))
				content = content[size:]
			}
			if end := len(d.index); end > start {
				f.Index = d.index[start:end:end]
			}
		}
		return nil
	})
}

// fields calls each with every field of a message: its number, and its value if it is a varint, or its content if it has a
// length (not nil, and no room behind it). Fields of other kinds are for numbers that nobody knows here.
func fields(b []byte, each func(number protowire.Number, n uint64, content []byte) error) error {
	for len(b) > 0 {
		number, kind, size := protowire.ConsumeTag(b)
		if size < 0 || number > protowire.MaxValidNumber {
			return errUncommon
		}
		b = b[size:]
		var n uint64
		var content []byte
		switch kind {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			if content, size = protowire.ConsumeBytes(b); size >= 0 {
				content = content[:len(content):len(content)]
			}
		default:
			return errUncommon
		}
		if size < 0 {
			return errUncommon
		}
		b = b[size:]
		if err := each(number, n, content); err != nil {
			return err
		}
	}
	return nil
}
