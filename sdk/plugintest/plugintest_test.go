package plugintest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
)

type echo struct {
	Refuse string `config:"refuse"`
}

func (e *echo) Deliver(_ context.Context, b *sdk.Batch) error {
	for row := range b.Rows() {
		index, _ := row.Index()
		if string(row.JSON()) == e.Refuse || index == 7 {
			b.Reject(row, "refused", errors.New("as told"))
		}
	}
	return nil
}

func TestTheHarnessRunsAPluginLikeTheHost(t *testing.T) {
	h := Start(t, sdk.Plugin{Name: "echo", Version: "1.0.0", Pusher: func() sdk.Pusher { return new(echo) }}, map[string]any{"refuse": `2`})
	first, second := Frame("a", `1`, `2`), Indexed(Frame("b", `3`, `4`), protocol.NoIndex, 7)
	require.Equal(t, first.Position+2, second.Position, "positions rise over all frames")
	require.Equal(t, []protocol.Outcome{
		{Position: first.Position, Row: 1, Class: protocol.Rejected, Code: "refused", Message: "as told"},
		{Position: second.Position, Row: 1, Class: protocol.Rejected, Code: "refused", Message: "as told"},
	}, h.Deliver(first, second))
	h.Break()
	_, err := h.TryDeliver(Frame("a", `1`))
	require.Error(t, err)
	h.Reopen()
	require.Empty(t, h.Deliver(Frame("a", `1`)))
	require.Len(t, h.Configure(map[string]any{"refsue": "x"}), 1)
	h.Drain()
	require.ErrorIs(t, h.Health(), protocol.ErrUnknownInstance)
}
