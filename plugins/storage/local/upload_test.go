package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/sdk"
)

// Whoever completes an upload holds its name and takes that of the key: with 500 of them, some names share a stripe.
func TestUploadsAtOnceDoNotWaitForEachOther(t *testing.T) {
	l := &Local{Path: t.TempDir()}
	require.NoError(t, l.Open(t.Context(), sdk.Env{Log: hclog.NewNullLogger()}))
	t.Cleanup(func() { require.NoError(t, l.Close(t.Context())) })
	var all errgroup.Group
	all.SetLimit(16)
	for i := range 500 {
		all.Go(func() error {
			put := sdk.Put{Key: fmt.Sprintf("objects/%d", i), Size: -1}
			id, err := l.BeginUpload(t.Context(), put)
			if err != nil {
				return err
			}
			part, err := l.PutPart(t.Context(), put.Key, id, 1, -1, strings.NewReader(put.Key))
			if err != nil {
				return err
			}
			_, err = l.CompleteUpload(t.Context(), put, id, []sdk.Part{part})
			return err
		})
	}
	require.NoError(t, all.Wait())
	_, body, err := l.Get(t.Context(), "objects/123", sdk.Range{Length: -1})
	require.NoError(t, err)
	defer body.Close()
	content, err := io.ReadAll(body)
	require.NoError(t, err)
	require.Equal(t, "objects/123", string(content))
}
