package journal

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const benchRow = 256

func benchRecord(rows int) *Record {
	row := append(append([]byte(`{"k":"`), bytes.Repeat([]byte("v"), benchRow-8)...), `"}`...)
	r := &Record{Frame: protocol.Frame{OrgID: 1, UUID: "0123456789abcdef", RequestID: "0190a0b0-0000-7000-8000-000000000000"}}
	for range rows {
		r.Data = append(r.Data, row...)
		r.Ends = append(r.Ends, uint32(len(r.Data)))
	}
	return r
}

// BenchmarkAppend: 64 clients append, each waiting for its own record to be durable.
func BenchmarkAppend(b *testing.B) {
	for _, rows := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			f := open(b, Options{Dir: b.TempDir(), MaxBytes: 64 << 30})
			var wg sync.WaitGroup
			work := make(chan int, 64)
			const clients = 64
			b.ResetTimer()
			for c := range clients {
				n := b.N / clients
				if c < b.N%clients {
					n++
				}
				work <- n
			}
			close(work)
			for n := range work {
				wg.Go(func() {
					r := benchRecord(rows)
					for range n {
						if _, err := f.Append(context.Background(), r); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N*rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

// BenchmarkRead: one reader over a backlog.
func BenchmarkRead(b *testing.B) {
	for _, rows := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			f := open(b, Options{Dir: b.TempDir(), MaxBytes: 64 << 30})
			r := benchRecord(rows)
			var wg sync.WaitGroup
			for range 64 {
				mine := *r
				wg.Go(func() {
					for range max(1, 200_000/rows/64) {
						if _, err := f.Append(context.Background(), &mine); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ResetTimer()
			total := 0
			for total < b.N {
				reader := f.Read(0)
				for total < b.N {
					fr, ok, err := reader.TryNext()
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
					total += fr.Len()
				}
				reader.Close()
			}
			b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkOpen: a start on a backlog of a million rows, 280 MB.
func BenchmarkOpen(b *testing.B) {
	o := Options{Dir: b.TempDir(), SegmentBytes: 16 << 20}
	f := open(b, o)
	r := benchRecord(1000)
	for range 1000 {
		appendOne(b, f, r)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
