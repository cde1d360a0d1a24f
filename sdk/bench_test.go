package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// null takes everything and counts it.
type null struct{ rows *int }

func (n *null) Deliver(_ context.Context, b *sdk.Batch) error {
	*n.rows += b.Len()
	return nil
}

// BenchmarkStream sends 256-byte rows over a unix socket to a null pusher in the same process, eight batches in flight:
// batches of one frame, as a client that sends many rows at once makes them, and of frames of one row each, as many
// clients do that send one. Rows are counted in the pusher.
func BenchmarkStream(b *testing.B) {
	row := `{"x":"` + strings.Repeat("y", 248) + `"}`
	for _, shape := range []struct{ frames, rows int }{{1, 1}, {1, 100}, {1, 1000}, {100, 1}} {
		b.Run(fmt.Sprintf("frames=%d/rows=%d", shape.frames, shape.rows), func(b *testing.B) {
			size := shape.frames * shape.rows
			counted := 0
			h := plugintest.Connect(b, sdk.Plugin{Name: "null", Version: "1.0.0", Pusher: func() sdk.Pusher { return &null{&counted} }})
			if problems := h.Configure(nil); len(problems) > 0 {
				b.Fatal(problems)
			}
			stream, err := h.Client.Deliver(b.Context(), plugintest.Instance)
			if err != nil {
				b.Fatal(err)
			}
			var frames []protocol.Frame
			for range shape.frames {
				frames = append(frames, plugintest.Frame("a1b2c3d4e5f60718", slices.Repeat([]string{row}, shape.rows)...))
			}
			const window = 8
			free := make(chan struct{}, window)
			done := make(chan error, 1)
			go func() {
				for through := uint64(0); ; {
					ack, err := stream.Recv()
					if err != nil {
						done <- err
						return
					}
					if len(ack.Outcomes) > 0 {
						done <- fmt.Errorf("outcomes: %v", ack.Outcomes[0])
						return
					}
					for ; through < ack.ThroughSeq; through++ {
						<-free
					}
				}
			}()
			b.SetBytes(int64(size * len(row)))
			seq := uint64(0)
			for b.Loop() {
				select {
				case free <- struct{}{}:
				case err := <-done:
					b.Fatal(err)
				}
				seq++
				if err := stream.Send(&protocol.Batch{Seq: seq, Frames: frames}); err != nil {
					b.Fatal(err)
				}
			}
			if err := stream.CloseSend(); err != nil {
				b.Fatal(err)
			}
			if err := <-done; !errors.Is(err, io.EOF) { // the end of the stream: everything is acknowledged
				b.Fatal(err)
			}
			if counted != int(seq)*size {
				b.Fatalf("%d rows were sent, %d arrived", int(seq)*size, counted)
			}
			b.ReportMetric(float64(counted)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(counted), "ns/row")
		})
	}
}
