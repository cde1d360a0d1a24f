package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestATornLineIsCutAndRowsGoOnBehindIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows")
	require.NoError(t, os.WriteFile(path, []byte("{\"position\":1}\n{\"posi"), 0o600))
	w := &Witness{Path: path}
	require.NoError(t, w.Open(t.Context(), sdk.Env{}))
	frame := protocol.Frame{OrgID: 1, UUID: "u", Position: 7, Data: []byte(`{"a":1}`), Ends: []uint32{7}}
	require.NoError(t, w.Deliver(t.Context(), &sdk.Batch{Batch: protocol.Batch{Seq: 1, Frames: []protocol.Frame{frame}}}))
	require.NoError(t, w.Close(t.Context()))
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "{\"position\":1}\n{\"position\":7,\"org_id\":1,\"uuid\":\"u\",\"data\":{\"a\":1}}\n", string(raw))
}
