package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func batch(position uint64, rows ...string) *sdk.Batch {
	f := protocol.Frame{OrgID: 1, UUID: "u", Position: position}
	for _, r := range rows {
		f.Data = append(f.Data, r...)
		f.Ends = append(f.Ends, uint32(len(f.Data)))
	}
	return &sdk.Batch{Batch: protocol.Batch{Seq: 1, Frames: []protocol.Frame{f}}}
}

func TestCountsGoOnAfterTheInstanceIsMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "count")
	for range 2 {
		n := &Null{CountFile: path}
		require.NoError(t, n.Open(t.Context(), sdk.Env{}))
		require.NoError(t, n.Deliver(t.Context(), batch(10, `{"a":1}`, `{}`)))
		require.NoError(t, n.Close(t.Context()))
	}
	p, unmap, err := openPage(path)
	require.NoError(t, err)
	defer unmap()
	require.EqualValues(t, 4, p.Rows.Load())
	require.EqualValues(t, 18, p.Bytes.Load())
	require.EqualValues(t, 12, p.Through.Load())
}

func TestRefusedRowsAreNotCounted(t *testing.T) {
	n := &Null{CountFile: filepath.Join(t.TempDir(), "count")}
	require.NoError(t, n.Open(t.Context(), sdk.Env{}))
	defer n.Close(t.Context())
	n.page.Mode.Store(modeRefuse)
	err := n.Deliver(t.Context(), batch(1, `{}`))
	var typed *sdk.Error
	require.ErrorAs(t, err, &typed)
	require.Equal(t, sdk.Retry, typed.Class)
	require.Zero(t, n.page.Rows.Load())
}
