package wire

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// batchOut is a batch as a generated message: what is written by hand is measured against it.
func batchOut(b *protocol.Batch) *pluginv1.Batch {
	frames := make([]pluginv1.Frame, len(b.Frames))
	m := &pluginv1.Batch{Seq: b.Seq, Ordered: b.Ordered, Frames: make([]*pluginv1.Frame, len(b.Frames))}
	for i := range b.Frames {
		f, p := &b.Frames[i], &frames[i]
		p.OrgId = f.OrgID
		p.UserId = f.UserID
		p.Uuid = text(f.UUID)
		p.Position = f.Position
		p.ReceivedAt = f.ReceivedAt.UnixNano()
		p.Data = f.Data
		p.Ends = f.Ends
		p.Index = f.Index
		p.Trigger = f.Trigger
		p.RequestId = text(f.RequestID)
		p.TraceParent = text(f.TraceParent)
		m.Frames[i] = p
	}
	return m
}

func drawBatch(t *rapid.T) *protocol.Batch {
	number := rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Max(300), rapid.Uint64())
	word := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	b := &protocol.Batch{Seq: number.Draw(t, "seq"), Ordered: rapid.Bool().Draw(t, "ordered"), Frames: []protocol.Frame{}}
	for range rapid.IntRange(0, 5).Draw(t, "frames") {
		f := protocol.Frame{
			OrgID: number.Draw(t, "org"), UserID: number.Draw(t, "user"), UUID: word.Draw(t, "uuid"), Position: number.Draw(t, "position"),
			ReceivedAt: time.Unix(0, rapid.Int64().Draw(t, "at")).UTC(), RequestID: word.Draw(t, "request"), TraceParent: word.Draw(t, "trace"),
		}
		if rapid.Bool().Draw(t, "triggered") {
			f.Trigger = []byte(`{"t":1}`)
		}
		for range rapid.IntRange(0, 4).Draw(t, "rows") {
			f.Data = append(f.Data, rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "row")...)
			f.Ends = append(f.Ends, uint32(len(f.Data)))
		}
		if len(f.Ends) > 0 && rapid.Bool().Draw(t, "indexed") {
			for range f.Ends {
				f.Index = append(f.Index, rapid.OneOf(rapid.Just(protocol.NoIndex), rapid.Int32Range(0, math.MaxInt32)).Draw(t, "index"))
			}
		}
		b.Frames = append(b.Frames, f)
	}
	return b
}

// arrive makes of a batch what arrives of it: texts that were no UTF-8 are, and no data are nil.
func arrive(b *protocol.Batch) {
	for i := range b.Frames {
		f := &b.Frames[i]
		f.UUID, f.RequestID, f.TraceParent = text(f.UUID), text(f.RequestID), text(f.TraceParent)
		if len(f.Data) == 0 {
			f.Data = nil
		}
	}
}

func TestABatchWrittenByHandIsByteForByteTheGeneratedOne(t *testing.T) {
	codec, host := newCodec(), newGuard()
	rapid.Check(t, func(t *rapid.T) {
		b := drawBatch(t)
		generated := batchOut(b)
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(generated)
		require.NoError(t, err)
		got, err := host.Marshal(&outgoing{batches: []*protocol.Batch{b}})
		require.NoError(t, err)
		require.Equal(t, string(want), string(got.Materialize()))

		// It arrives as it left, but for texts that were no UTF-8.
		arrive(b)
		var first batchMessage
		require.NoError(t, codec.Unmarshal(got, &first))
		require.NoError(t, first.err)
		require.Equal(t, []protocol.Batch{*b}, first.batches)

		want, err = proto.MarshalOptions{Deterministic: true}.Marshal(&pluginv2.HostMessage{Message: &pluginv2.HostMessage_Batch{Batch: generated}})
		require.NoError(t, err)
		got, err = host.Marshal(&outgoing{batches: []*protocol.Batch{b}, nested: true})
		require.NoError(t, err)
		require.Equal(t, string(want), string(got.Materialize()))
		var second hostMessage
		require.NoError(t, codec.Unmarshal(got, &second))
		require.NoError(t, second.err)
		require.Equal(t, []protocol.Batch{*b}, second.batches)
	})
}

func TestRowsPointIntoOneCopyAndNeverIntoEachOther(t *testing.T) {
	frames := []protocol.Frame{
		{UUID: "a", Data: []byte(`{}[]`), Ends: []uint32{2, 4}, Index: []int32{1, 2}, ReceivedAt: time.Unix(0, 0).UTC()},
		{UUID: "b", Data: []byte(`12`), Ends: []uint32{2}, Index: []int32{3}, ReceivedAt: time.Unix(0, 0).UTC()},
	}
	raw, err := newGuard().Marshal(&outgoing{batches: []*protocol.Batch{{Seq: 1, Frames: frames}}})
	require.NoError(t, err)
	bytes := raw.Materialize()
	b, ok := decodeBatch(bytes)
	require.True(t, ok)
	require.Equal(t, frames, b.Frames)
	require.Less(t, testing.AllocsPerRun(100, func() { _, _ = decodeBatch(bytes) }), 12.0, "not one for each frame and field")

	first := &b.Frames[0]
	_ = append(first.Data, "overwritten"...)
	_ = append(first.Ends, 99)
	_ = append(first.Index, 99)
	require.Equal(t, frames, b.Frames)
}

func TestWhatAnotherEncoderWritesIsUnderstood(t *testing.T) {
	// Numbers that are not packed, a field twice, one that nobody knows, and the parts of a batch in two pieces.
	var frame []byte
	frame = appendContent(frame, frameData, "{}{}")
	for _, end := range []uint64{2, 4} {
		frame = protowire.AppendVarint(protowire.AppendTag(frame, frameEnds, protowire.VarintType), end)
	}
	frame = appendContent(frame, frameUUID, "first")
	frame = appendContent(frame, frameUUID, "second")
	frame = protowire.AppendFixed32(protowire.AppendTag(frame, 99, protowire.Fixed32Type), 7)
	raw := appendContent(nil, 2, frame)
	raw = appendNumber(raw, 1, 1)
	want := []protocol.Batch{{Seq: 1, Frames: []protocol.Frame{{UUID: "second", Data: []byte("{}{}"), Ends: []uint32{2, 4}, ReceivedAt: time.Unix(0, 0).UTC()}}}}

	_, ok := decodeBatch(raw)
	require.False(t, ok, "left to the generated decoder")
	var m batchMessage
	require.NoError(t, newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw)}, &m))
	require.Equal(t, want, m.batches)

	half := len(raw) - 2
	twice := appendContent(appendContent(nil, batchField, raw[:half]), batchField, raw[half:])
	var h hostMessage
	require.NoError(t, newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(twice)}, &h))
	require.Equal(t, want, h.batches)

	require.Error(t, newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw[:len(raw)-1])}, &m), "cut off")
	require.Error(t, newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(appendContent(nil, 2, appendContent(nil, frameUUID, "\xff")))}, &m), "no UTF-8")
}

// FuzzBatch compares the decoder with the generated one.
func FuzzBatch(f *testing.F) {
	seed, err := proto.Marshal(&pluginv1.Batch{Seq: 1, Frames: []*pluginv1.Frame{
		{OrgId: 1, Uuid: "u", Position: 9, Data: []byte(`{}{}`), Ends: []uint32{2, 4}, Index: []int32{1, -1}, Trigger: []byte("{}"), RequestId: "r", TraceParent: "t"}, {},
	}, Ordered: true})
	require.NoError(f, err)
	f.Add(seed)
	f.Add(append(seed, 0x9d, 0x06, 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m batchMessage
		err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, &m)
		var generated pluginv1.Batch
		wantErr := proto.Unmarshal(data, &generated)
		require.Equal(t, wantErr == nil, err == nil, "%v %v", wantErr, err)
		if err != nil {
			return
		}
		want, wantErr := batchesIn(&generated)
		require.Equal(t, wantErr, m.err)
		sameBatches(t, want, m.batches)
	})
}

func sameBatches(t *testing.T, want, got []protocol.Batch) {
	t.Helper()
	for _, batches := range [][]protocol.Batch{want, got} {
		for i := range batches {
			arrive(&batches[i])
		}
	}
	require.Equal(t, want, got)
}

func TestAPackWrittenByHandIsByteForByteTheGeneratedOne(t *testing.T) {
	codec, host := newCodec(), newGuard()
	rapid.Check(t, func(t *rapid.T) {
		m := outgoing{nested: true}
		generated := &pluginv2.Pack{}
		most := 0
		for range rapid.IntRange(2, 5).Draw(t, "batches") {
			b := drawBatch(t)
			m.batches = append(m.batches, b)
			generated.Batches = append(generated.Batches, batchOut(b))
			most += atMost(b)
		}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pluginv2.HostMessage{Message: &pluginv2.HostMessage_Pack{Pack: generated}})
		require.NoError(t, err)
		got, err := host.Marshal(&m)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got.Materialize()))
		require.LessOrEqual(t, len(want)-16, most, "it takes no more than it was taken to be")

		var back hostMessage
		require.NoError(t, codec.Unmarshal(got, &back))
		require.NoError(t, back.err)
		require.Nil(t, back.other, "read by hand")
		require.Len(t, back.batches, len(m.batches))
		for i, b := range m.batches {
			arrive(b)
			require.Equal(t, *b, back.batches[i])
		}
	})
}

// FuzzPack compares the decoder of version 2's messages with the generated one.
func FuzzPack(f *testing.F) {
	batches := []*pluginv1.Batch{
		{Seq: 1, Frames: []*pluginv1.Frame{{OrgId: 1, Uuid: "u", Position: 9, Data: []byte(`{}{}`), Ends: []uint32{2, 4}, Index: []int32{1, -1}}}},
		{Seq: 2, Ordered: true, Frames: []*pluginv1.Frame{{}, {Data: []byte(`1`), Ends: []uint32{1}, TraceParent: "t"}}},
	}
	for _, m := range []*pluginv2.HostMessage{
		{Message: &pluginv2.HostMessage_Pack{Pack: &pluginv2.Pack{Batches: batches}}},
		{Message: &pluginv2.HostMessage_Pack{}},
		{Message: &pluginv2.HostMessage_Batch{Batch: batches[0]}},
		{Message: &pluginv2.HostMessage_Open{Open: &pluginv2.Open{InstanceId: "i"}}},
	} {
		seed, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(seed)
		f.Add(append(seed, 0x9d, 0x06, 1, 2, 3, 4))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m hostMessage
		err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, &m)
		var generated pluginv2.HostMessage
		wantErr := proto.Unmarshal(data, &generated)
		require.Equal(t, wantErr == nil, err == nil, "%v %v", wantErr, err)
		if err != nil {
			return
		}
		var want []protocol.Batch
		switch message := generated.Message.(type) {
		case *pluginv2.HostMessage_Batch:
			want, wantErr = batchesIn(message.Batch)
		case *pluginv2.HostMessage_Pack:
			want, wantErr = batchesIn(message.Pack.GetBatches()...)
		}
		require.Equal(t, wantErr, m.err)
		if len(want) == 0 {
			require.Empty(t, m.batches)
			return
		}
		sameBatches(t, want, m.batches)
	})
}
