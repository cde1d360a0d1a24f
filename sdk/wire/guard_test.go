package wire

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestAMessageWithTooManyPartsIsRefusedBeforeItIsDecoded(t *testing.T) {
	part := []byte{0x12, 0x00} // field 2, no bytes: an outcome in an Ack, a problem or a capability elsewhere
	parts := func(n int) []byte { return bytes.Repeat(part, n) }
	wrapped := func(n int) []byte {
		m, err := proto.Marshal(&pluginv2.PluginMessage{Message: &pluginv2.PluginMessage_Ack{Ack: &pluginv1.Ack{}}})
		require.NoError(t, err)
		require.Equal(t, []byte{0x12, 0x00}, m, "the acknowledgement is field 2")
		inner := parts(n)
		ack := &pluginv2.PluginMessage{}
		ack.ProtoReflect().SetUnknown(append(append([]byte{0x12}, varint(len(inner))...), inner...))
		m, err = proto.Marshal(ack)
		require.NoError(t, err)
		return m
	}
	for _, c := range []struct {
		name string
		into proto.Message
		data []byte
		want string
	}{
		{"an acknowledgement", &pluginv1.Ack{}, parts(maxOutcomes + 1), "more than 1048576 outcomes"},
		{"one of version 2", &pluginv2.PluginMessage{}, wrapped(maxOutcomes + 1), "more than 1048576 outcomes"},
		{"a handshake", &pluginv1.HandshakeResponse{}, parts(maxElements + 1), "more than 10000 elements"},
		{"problems", &pluginv1.ConfigureResponse{}, parts(maxElements + 1), "more than 10000 elements"},
		{"a full acknowledgement", &pluginv1.Ack{}, parts(maxOutcomes), ""},
		{"a full one of version 2", &pluginv2.PluginMessage{}, wrapped(maxOutcomes - 1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := newGuard().Unmarshal(mem.BufferSlice{mem.SliceBuffer(c.data[:7]), mem.SliceBuffer(c.data[7:])}, c.into)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
		})
	}
}

func varint(n int) []byte {
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func TestTooMuchAtOnceIsAViolationInWordsForAPerson(t *testing.T) {
	err := fromStatus(t.Context(), "health of acme", status.Error(codes.ResourceExhausted, "grpc: received message larger than max (104857605 vs. 4194304)"))
	require.ErrorIs(t, err, protocol.ErrMalformed)
	require.EqualError(t, err, "health of acme: protocol violation: a message of 100 MiB, and 4 MiB are the most that is allowed")
	err = fromStatus(t.Context(), "describe", status.Error(codes.Internal, "grpc: failed to unmarshal the received message: proto: cannot parse"))
	require.ErrorIs(t, err, protocol.ErrMalformed)
	err = fromStatus(t.Context(), "health of acme", status.Error(codes.ResourceExhausted, "the destination's disk is full"))
	require.NotErrorIs(t, err, protocol.ErrMalformed, "a plugin may use the code for what it means")
}
