package main

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
)

func TestACommitWhoseAnswerIsLostCountsOnce(t *testing.T) {
	d := newDatabase(t)
	table := d.table("data jsonb")
	dsn, err := url.Parse(d.dsn)
	require.NoError(t, err)
	proxy := trouble.NewProxy(t, dsn.Host)
	dsn.Host = proxy.Address
	h := d.start(map[string]any{"table": table, "dsn": dsn.String()})
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	proxy.Lose("COPY ") // the server's word that it is done
	outcomes := h.Deliver(frameAt(2, numbered(5)...))
	require.Len(t, outcomes, 5)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, d.positions(table), "the server had committed")
	for _, o := range h.Deliver(frameAt(2, numbered(6)...)) {
		require.Equal(t, sdk.Duplicate, o.Class)
	}
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7}, d.positions(table))
}
