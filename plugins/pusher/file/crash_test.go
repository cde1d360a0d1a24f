package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// The process is killed while batches are on their way, again and again; what was not acknowledged is sent again. In the end
// each row is in the files exactly once. (A killed process proves nothing about a power failure: the kernel lives on.)
func TestRowsAreThereOnceAfterManyKillNines(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "rivergate-pusher-file")
	built, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, string(built))
	dir := t.TempDir()
	config := map[string]any{"path": dir + "/{org}/{uuid}.jsonl", "rotate_size": "20KiB", "max_open_files": 4}

	const batches, kills = 300, 25
	random := rand.New(rand.NewPCG(1, 2))
	var waiting []protocol.Batch // not acknowledged yet, in order
	var last uint64
	for range batches {
		var b protocol.Batch
		for range 1 + random.IntN(10) {
			f := plugintest.FrameAt(last+1, fmt.Sprintf("u%d", random.IntN(6)), `{"n":1}`, `{"n":2,"text":"somewhat longer"}`)
			last += 2
			b.Frames = append(b.Frames, f)
		}
		waiting = append(waiting, b)
	}
	known := 0 // rows that were written before a kill and acknowledged after it
	for round := 0; len(waiting) > 0; round++ {
		command := exec.Command(binary)
		h := plugintest.Connect(t, command)
		require.Empty(t, h.Configure(config))
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := h.Client.Deliver(ctx, plugintest.Instance)
		require.NoError(t, err)
		killAfter := len(waiting) + 1 // acks; the last round ends well
		if round < kills {
			killAfter = random.IntN(2 * batches / kills)
		}
		sent, acked := 0, 0
		for acked < len(waiting) {
			for sent < len(waiting) && sent-acked < 8 && err == nil {
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
			acked = int(ack.ThroughSeq)
			for _, o := range ack.Outcomes {
				require.Equal(t, sdk.Duplicate, o.Class, o.Message)
				known++
			}
		}
		waiting = waiting[acked:]
		cancel()
		if len(waiting) > 0 {
			require.Less(t, round, kills, "the process died by itself: %v", err)
		}
	}
	requireOnce(t, read(t, dir), 1, last)
	require.NotZero(t, known, "no kill fell between write and acknowledgement: the test proved nothing")
}
