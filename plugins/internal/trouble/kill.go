// Package trouble is what tests of pushers do to plugins and to the way to their servers.
package trouble

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// Batches makes n batches of up to ten frames with two rows each, of six uuids, {"n":position}. Positions begin at 1; last is the
// highest.
func Batches(n int) (batches []protocol.Batch, last uint64) {
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		var b protocol.Batch
		for range 1 + random.IntN(10) {
			f := plugintest.Frame(fmt.Sprintf("u%d", random.IntN(6)), fmt.Sprintf(`{"n":%d}`, last+1), fmt.Sprintf(`{"n":%d}`, last+2))
			f.Position = last + 1
			last += 2
			b.Frames = append(b.Frames, f)
		}
		batches = append(batches, b)
	}
	return batches, last
}

// Toll is what kills cost.
type Toll struct {
	Killed int // processes that died with batches on their way
	Known  int // rows that came again and were acknowledged as duplicates
	Again  int // rows that the pusher wanted to be sent again
}

// KillNines delivers the batches, eight in flight, and kills the process after a random acknowledgement, again and again. What was not
// acknowledged is sent again to the next process, as the host does. The test fails when the process dies by itself or refuses a row.
func KillNines(t testing.TB, binary string, config map[string]any, waiting []protocol.Batch, kills int) (toll Toll) {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	total := len(waiting)
	for round := 0; len(waiting) > 0; round++ {
		command := exec.Command(binary)
		command.Env = []string{"TMPDIR=" + os.TempDir()}
		h := plugintest.Connect(t, command)
		require.Empty(t, h.Configure(config))
		ctx, cancel := context.WithTimeout(t.Context(), plugintest.Timeout)
		stream, err := h.Client.Deliver(ctx, plugintest.Instance)
		require.NoError(t, err)
		killAfter := len(waiting) + 1 // acknowledgements; the last round ends well
		if round < kills {
			killAfter = 1 + random.IntN(2*total/(kills+1))
		}
		var again []protocol.Batch
		sent, acked := 0, 0
		for acked < len(waiting) {
			for sent < len(waiting) && sent-acked < 8 && err == nil {
				err = stream.Send(&protocol.Batch{Seq: uint64(sent + 1), Frames: waiting[sent].Frames, Ordered: true})
				sent++
			}
			if acked >= killAfter {
				require.NoError(t, command.Process.Kill())
				killAfter = total + 1 // once
			}
			var ack protocol.Ack
			if ack, err = stream.Recv(); err != nil {
				break
			}
			retry := map[uint64]bool{}
			for _, o := range ack.Outcomes {
				if o.Class == sdk.Retry {
					retry[o.Position] = true
					toll.Again++
					continue
				}
				require.Equal(t, sdk.Duplicate, o.Class, o.Message)
				toll.Known++
			}
			if ack.Working {
				continue
			}
			for ; acked < int(ack.ThroughSeq); acked++ {
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
			require.Less(t, round, kills, "the process ended by itself: %v", err)
			toll.Killed++
		}
	}
	require.NotZero(t, toll.Killed)
	return toll
}

// KnownOnce is KillNines for a pusher that tells rows that are there already: no row is refused, and a kill fell between a write and its
// acknowledgement, or it would prove nothing. The rows have the positions 1 to last; the caller looks whether each is there once.
func KnownOnce(t testing.TB, config map[string]any) (last uint64) {
	t.Helper()
	batches, last := Batches(300)
	toll := KillNines(t, plugintest.Build(t, "."), config, batches, 25)
	require.Positive(t, toll.Known, "no kill fell between write and acknowledgement: the test proved nothing")
	return last
}

// Service runs deploy/services: do is kill or revive, name that of a server, options are of that command. Without a folder of servers the test is skipped, and fails where CI=true.
func Service(t testing.TB, do, name string, options ...string) {
	t.Helper()
	dir := os.Getenv("RIVERGATE_TEST_SERVICES_DIR")
	if dir == "" {
		const how = "RIVERGATE_TEST_SERVICES_DIR is not set: needs a %[1]s to kill; deploy/services run %[1]s -- go test …"
		if os.Getenv("CI") == "true" {
			t.Fatalf(how, name)
		}
		t.Skipf(how, name)
	}
	said, err := exec.CommandContext(t.Context(), "../../../deploy/services", append([]string{do, "--dir", dir, name}, options...)...).CombinedOutput()
	require.NoError(t, err, string(said))
}
