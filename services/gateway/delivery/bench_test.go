package delivery

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/journal"
)

// null takes everything at once.
type null struct{}

type nullSession struct {
	acks chan protocol.Ack
	over chan struct{}
}

func (null) Open(context.Context) (Session, error) {
	return &nullSession{acks: make(chan protocol.Ack, 64), over: make(chan struct{})}, nil
}

func (s *nullSession) Send(batches ...*protocol.Batch) error {
	s.acks <- protocol.Ack{ThroughSeq: batches[len(batches)-1].Seq}
	return nil
}

func (s *nullSession) Recv() (protocol.Ack, error) {
	select {
	case a := <-s.acks:
		return a, nil
	case <-s.over:
		return protocol.Ack{}, io.EOF
	}
}
func (s *nullSession) CloseSend() error         { return nil }
func (s *nullSession) Limits() protocol.Limits  { return protocol.Limits{} }
func (s *nullSession) NeedsTrigger() bool       { return false }
func (s *nullSession) Crashed() (string, bool)  { return "", false }
func (s *nullSession) Retired() <-chan struct{} { return nil }
func (s *nullSession) Kill(string)              {}
func (s *nullSession) Close()                   { close(s.over) }

// BenchmarkDeliver takes a backlog of rows of 256 bytes through one pusher to a destination that costs nothing.
func BenchmarkDeliver(b *testing.B) {
	for _, order := range []Order{OrderKey, OrderNone} {
		for _, size := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("order=%s/rows=%d", order, size), func(b *testing.B) { benchmarkDeliver(b, order, size) })
		}
	}
}

func benchmarkDeliver(b *testing.B, order Order, size int) {
	p := pusher("null", null{})
	p.Order, p.BatchRows = order, 1000
	r := newRig(b, p)
	r.open()
	f := protocol.Frame{OrgID: 1}
	for range size {
		f.Data = append(f.Data, make([]byte, 256)...)
		f.Ends = append(f.Ends, uint32(len(f.Data)))
	}
	var last *protocol.Frame
	rows := 0
	for i := 0; rows < b.N; i++ {
		rec := &journal.Record{Frame: f}
		rec.UUID = fmt.Sprintf("key-%d", i%64)
		_, err := r.journal.Append(context.Background(), rec)
		require.NoError(b, err)
		r.Accepted(&rec.Frame)
		last, rows = &rec.Frame, rows+size
	}
	whole := &protocol.Frame{OrgID: 1, Position: firstPosition, Ends: make([]uint32, last.Position+uint64(last.Len())-firstPosition)}
	b.ReportAllocs()
	b.ResetTimer()
	started := time.Now()
	r.run()
	r.chain("null").wait(context.Background(), whole)
	b.ReportMetric(float64(rows)/time.Since(started).Seconds(), "rows/s")
	b.StopTimer()
	require.NoError(b, r.halt())
}
