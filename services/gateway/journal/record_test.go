package journal

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// What version 1 of the journal wrote for record(7, "u", `{"a":1}`) with a key: kept as bytes, since no code writes it apart
// from that which the test is about.
const oldPayload = "02" + "05000000000000000000000000000000" + "06000000000000000000000000000000" + "07" + "0175" + "057265712d75" + "07" + "7b2261223a317d"

func TestAJournalFromBeforeTracesIsReadAsItWas(t *testing.T) {
	old, err := hex.DecodeString(oldPayload)
	require.NoError(t, err)
	h := recordHeader{length: uint32(len(old)), rows: 1, position: 9, org: 7}
	p, err := decodePayload(&h, old)
	require.NoError(t, err)
	var got Record
	p.fill(&h, &got)

	want := record(7, "u", `{"a":1}`)
	want.IdempotencyKey, want.BodyDigest = [16]byte{5}, [16]byte{6}
	want.Position, want.ReceivedAt = 9, got.ReceivedAt
	require.Equal(t, *want, got)

	again := &request{}
	require.NoError(t, again.encode(want))
	require.Equal(t, old, append(again.head[recordHeaderSize:], again.data...), "a record without a trace is written as before")
}

func TestFlagsAndTracesThatNobodyWroteAreDamage(t *testing.T) {
	old, err := hex.DecodeString(oldPayload)
	require.NoError(t, err)
	plain := append([]byte{0}, old[33:]...)
	for name, b := range map[string][]byte{
		"an unknown flag":      append([]byte{1 << 3}, plain[1:]...),
		"a flag without trace": append(append([]byte{flagTrace}, plain[1:10]...), append([]byte{0}, plain[10:]...)...),
		"a trace that is cut":  append(append([]byte{flagTrace}, plain[1:10]...), 55, '0'),
	} {
		h := recordHeader{length: uint32(len(b)), rows: 1, position: 9, org: 7}
		_, err := decodePayload(&h, b)
		require.ErrorIs(t, err, errDamaged, name)
	}
	h := recordHeader{length: uint32(len(plain)), rows: 1, position: 9, org: 7}
	_, err = decodePayload(&h, plain)
	require.NoError(t, err, "the same bytes without these faults read")
}
