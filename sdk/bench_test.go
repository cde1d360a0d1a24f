package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// BenchmarkStream sends 256-byte rows over a unix socket to a null pusher in the same process, eight batches in flight,
// one frame a batch. Rows are counted in the pusher.
func BenchmarkStream(b *testing.B) {
	row := `{"x":"` + strings.Repeat("y", 248) + `"}`
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("rows=%d", size), func(b *testing.B) {
			counted := 0
			h := plugintest.Connect(b, sdk.Plugin{Name: "null", Version: "1.0.0", Pusher: func() sdk.Pusher { return &null{&counted} }})
			if problems := h.Configure(nil); len(problems) > 0 {
				b.Fatal(problems)
			}
			stream, err := h.Client.Deliver(b.Context(), plugintest.Instance)
			if err != nil {
				b.Fatal(err)
			}
			rows := make([]string, size)
			for i := range rows {
				rows[i] = row
			}
			frames := []protocol.Frame{plugintest.Frame("a1b2c3d4e5f60718", rows...)}
			const window = 8
			free := make(chan struct{}, window)
			done := make(chan error, 1)
			go func() {
				for {
					ack, err := stream.Recv()
					if err != nil {
						done <- err
						return
					}
					if len(ack.Outcomes) > 0 {
						done <- fmt.Errorf("outcomes: %v", ack.Outcomes[0])
						return
					}
					<-free
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
		})
	}
}
