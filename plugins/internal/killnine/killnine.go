// Package killnine kills a pusher in the middle of its work, again and again, as tests of pushers need it: what was not
// acknowledged is sent again, as the host does, and in the end the test counts at the destination.
package killnine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

const (
	batches = 300
	kills   = 25
	window  = 8
)

// Deliver builds the pusher of the test's own package and sends it rows at the positions 1 to last, of six uuids, while its
// process is killed 25 times with up to eight batches on their way. It returns when every row was acknowledged. The test fails
// when the process dies by itself, when a row gets another outcome than duplicate or to be sent again, and when no kill fell between
// a write and its acknowledgement, which would prove nothing.
func Deliver(t *testing.T, config map[string]any) (last uint64) {
	t.Helper()
	binary := plugintest.Build(t, ".")
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same run each time
	var waiting []protocol.Batch          // not acknowledged yet, in order
	for range batches {
		var b protocol.Batch
		for range 1 + random.IntN(10) {
			f := plugintest.Frame(fmt.Sprintf("u%d", random.IntN(6)), `{"n":1}`, `{"n":2,"text":"somewhat longer"}`)
			f.Position = last + 1
			last += 2
			b.Frames = append(b.Frames, f)
		}
		waiting = append(waiting, b)
	}
	known := 0 // rows that were written before a kill and acknowledged after it
	for round := 0; len(waiting) > 0; round++ {
		command := exec.Command(binary) //nolint:gosec // what was just built
		command.Env = []string{"TMPDIR=/tmp"}
		h := plugintest.Connect(t, command)
		require.Empty(t, h.Configure(config))
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := h.Client.Deliver(ctx, plugintest.Instance)
		require.NoError(t, err)
		killAfter := len(waiting) + 1 // acknowledgements; the last round ends well
		if round < kills {
			killAfter = random.IntN(2 * batches / kills)
		}
		again, sent, acked := []protocol.Batch(nil), 0, 0
		for acked < len(waiting) {
			for sent < len(waiting) && sent-acked < window && err == nil {
				err = stream.Send(&protocol.Batch{Seq: uint64(sent + 1), Frames: waiting[sent].Frames})
				sent++
			}
			if acked >= killAfter {
				require.NoError(t, command.Process.Kill())
				killAfter = batches + 1 // once
			}
			var ack protocol.Ack
			if ack, err = stream.Recv(); err != nil {
				break
			}
			retry := map[uint64]bool{}
			for _, o := range ack.Outcomes {
				if o.Class == sdk.Retry {
					retry[o.Position] = true
					continue
				}
				require.Equal(t, sdk.Duplicate, o.Class, o.Message)
				known++
			}
			for ; acked < int(ack.ThroughSeq); acked++ { //nolint:gosec // a few hundred
				for _, f := range waiting[acked].Frames {
					if retry[f.Position] {
						again = append(again, protocol.Batch{Frames: []protocol.Frame{f}})
					}
				}
			}
		}
		died := acked < len(waiting)
		waiting = append(again, waiting[acked:]...)
		cancel()
		if died {
			require.Less(t, round, kills, "the process died by itself: %v", err)
		}
	}
	require.Positive(t, known, "no kill fell between write and acknowledgement: the test proved nothing")
	return last
}
