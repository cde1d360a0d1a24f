package storagetest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/storage/objects"
)

var _ objects.Backend = (*Dir)(nil)

func TestAFaultLeavesTheFormerObjectAndNoFile(t *testing.T) {
	d := NewDir(t.TempDir())
	_, err := d.Put(t.Context(), protocol.Put{Key: "a/b", Size: 3}, strings.NewReader("old"))
	require.NoError(t, err)
	sick := errors.New("sick")
	for _, step := range []string{"put", "put.read", "put.end"} {
		d.Fail(func(op Op) error {
			if op.Name == step {
				return sick
			}
			return nil
		})
		_, err = d.Put(t.Context(), protocol.Put{Key: "a/b", Size: -1}, strings.NewReader("new"))
		require.ErrorIs(t, err, sick, step)
	}
	d.Fail(nil)
	_, body, err := d.Get(t.Context(), "a/b", protocol.Range{From: 1, Length: 9})
	require.NoError(t, err)
	got, err := io.ReadAll(body)
	require.NoError(t, errors.Join(err, body.Close()))
	require.Equal(t, "ld", string(got))
	files, err := d.Files()
	require.NoError(t, err)
	require.Equal(t, 1, files)
}

func TestPartsBecomeAnObjectInTheirOrder(t *testing.T) {
	d := NewDir(t.TempDir())
	put := protocol.Put{Key: "k", Size: -1}
	id, err := d.BeginUpload(t.Context(), put)
	require.NoError(t, err)
	parts := make([]protocol.Part, 2)
	for _, number := range []int{2, 1} {
		parts[number-1], err = d.PutPart(t.Context(), "k", id, number, 2, bytes.NewReader([]byte{byte('0' + number), '.'}))
		require.NoError(t, err)
	}
	require.Equal(t, []string{"upload of k"}, d.Keys())
	_, err = d.CompleteUpload(t.Context(), put, id, parts)
	require.NoError(t, err)
	_, body, err := d.Get(t.Context(), "k", protocol.Whole())
	require.NoError(t, err)
	got, err := io.ReadAll(body)
	require.NoError(t, errors.Join(err, body.Close()))
	require.Equal(t, "1.2.", string(got))
	files, err := d.Files()
	require.NoError(t, err)
	require.Equal(t, 1, files)
}
