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
	batch *protocol.Batch
	err   error // what the protocol does not allow; batch is nil then
}

// hostMessage is what comes down a stream of version 2: a batch, or else Open or something unknown.
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
		m.other = &pluginv2.HostMessage{}
		if err := proto.Unmarshal(raw, m.other); err != nil {
			return err
		}
		if b, ok := m.other.Message.(*pluginv2.HostMessage_Batch); ok && b.Batch != nil {
			m.batch, m.err = batchIn(b.Batch)
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
	b, ok := decodeBatch(raw)
	if !ok {
		// Another encoder's way to say it, or no protobuf at all: the generated decoder knows.
		var generated pluginv1.Batch
		if err := proto.Unmarshal(raw, &generated); err != nil {
			return err
		}
		m.batch, m.err = batchIn(&generated)
		return nil
	}
	if err := check(b); err != nil {
		m.err = err
		return nil
	}
	m.batch = b
	return nil
}

// counts is how much of everything a batch holds.
type counts struct{ frames, ends, index, text int }

// decodeBatch decodes a pluginv1.Batch as protobuf's own encoders write it: each field once, numbers packed. It is not ok when
// anything else is in raw.
func decodeBatch(raw []byte) (batch *protocol.Batch, ok bool) {
	b := &protocol.Batch{}
	var c counts
	err := fields(raw, func(number protowire.Number, n uint64, content []byte) error {
		switch {
		case number == 1 && content == nil:
			b.Seq = n
		case number == 2 && content != nil:
			c.frames++
			return c.frame(content)
		case number == 3 && content == nil:
			b.Ordered = n != 0
		case number <= 3:
			return errUncommon
		}
		return nil
	})
	if err != nil {
		return nil, false
	}
	b.Frames = make([]protocol.Frame, 0, c.frames)
	d := decoder{ends: make([]uint32, 0, c.ends), index: make([]int32, 0, c.index)}
	d.text.Grow(c.text)
	err = fields(raw, func(number protowire.Number, _ uint64, content []byte) error {
		if number != 2 {
			return nil
		}
		b.Frames = b.Frames[:len(b.Frames)+1]
		return d.frame(content, &b.Frames[len(b.Frames)-1])
	})
	return b, err == nil
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

// decoder holds the arrays that the frames of one batch share. They are as large as they get.
type decoder struct {
	ends  []uint32
	index []int32
	text  strings.Builder
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
