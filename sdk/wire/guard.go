package wire

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what guard builds on
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// What a plugin may say at once. A message of few bytes can become one of many: an outcome takes two bytes on the wire
// and a hundred in memory. So the host counts before it decodes.
const (
	// maxAnswer bounds the answer to any call but Deliver, bytes.
	maxAnswer = 4 << 20
	// maxOutcomes bounds one acknowledgement. The largest window of the largest batches has fewer rows.
	maxOutcomes = 1 << 20
	// maxElements bounds the lists in any other message.
	maxElements = 10_000
)

// ackField is the number of the acknowledgement in version 2's message.
const ackField = 2

// guard is the protobuf codec of the host's side.
type guard struct{ encoding.CodecV2 }

func newGuard() guard { return guard{encoding.GetCodecV2("proto")} }

// Unmarshal refuses a message with more in it than any honest plugin sends.
func (g guard) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*incomingFrame); ok {
		return m.unmarshal(data)
	}
	most, what := maxElements, "elements"
	nested := false
	switch v.(type) {
	case *pluginv1.Ack:
		most, what = maxOutcomes, "outcomes"
	case *pluginv2.PluginMessage:
		most, what, nested = maxOutcomes, "outcomes", true
	}
	// Each element takes two bytes at least: what is too short for more needs no counting, and that is nearly everything.
	if data.Len() <= 2*most {
		return g.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(&buffers)
	defer buf.Free()
	if n := elements(buf.ReadOnlyData(), nested, most); n > most {
		return fmt.Errorf("a message with more than %d %s", most, what)
	}
	return g.CodecV2.Unmarshal(mem.BufferSlice{buf}, v)
}

// elements counts the fields of a message, and of the acknowledgement in it when nested, up to one more than most. What is
// no protobuf is left to the decoder.
func elements(b []byte, nested bool, most int) int {
	n := 0
	for len(b) > 0 && n <= most {
		number, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return n
		}
		b = b[size:]
		n++
		if nested && number == ackField && kind == protowire.BytesType {
			inner, size := protowire.ConsumeBytes(b)
			if size < 0 {
				return n
			}
			n += elements(inner, false, most-n)
			b = b[size:]
			continue
		}
		if size = protowire.ConsumeFieldValue(number, kind, b); size < 0 {
			return n
		}
		b = b[size:]
	}
	return n
}

// oversized explains errors that gRPC and guard make of a message that is too much or no protobuf; nil for any other.
// gRPC has only its text to tell them from what a plugin may say itself.
func oversized(st *status.Status) error {
	const tooLarge, garbled = "grpc: received message larger than max", "grpc: failed to unmarshal the received message: "
	said := st.Message()
	switch {
	case st.Code() == codes.ResourceExhausted && strings.HasPrefix(said, tooLarge):
		var size, most int64
		if _, err := fmt.Sscanf(said, tooLarge+" (%d vs. %d)", &size, &most); err != nil {
			return fmt.Errorf("%w: a message that is too large: %s", protocol.ErrMalformed, said)
		}
		return fmt.Errorf("%w: a message of %d MiB, and %d MiB are the most that is allowed", protocol.ErrMalformed, size>>20, most>>20)
	case st.Code() == codes.Internal && strings.HasPrefix(said, garbled):
		return fmt.Errorf("%w: a message that cannot be taken: %w", protocol.ErrMalformed, errors.New(said[len(garbled):]))
	}
	return nil
}
