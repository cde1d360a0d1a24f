package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// benchRow is about 250 bytes, as a relay sends them.
func benchRow(i int) string {
	return fmt.Sprintf(`{"timeElapsed":%d,"odMeasured":0.%04d,"odSetpoint":0.5,"temperature":37.0%d,"pump1":"%012d","pump2":"%012d","pump3":"%012d","stirring":800,"led395":0.125,"led6500":0.75,"note":"turbidostat relay, culture %06d","error":null}`,
		i, i%10000, i%10, i, i*7, i*13, i)
}

// source hands rows to pgx's own COPY.
type source struct {
	next, end int
	at        time.Time
	rows      []string
}

func (s *source) Next() bool { s.next++; return s.next < s.end }
func (s *source) Values() ([]any, error) {
	return []any{int64(s.next), int64(1), "0123456789abcdef", nil, s.at, s.rows[s.next]}, nil
}
func (s *source) Err() error { return nil }

// BenchmarkDeliver puts the same rows into the same kind of table: through pgx's CopyFrom, as one stream and in batches, and
// through Deliver; once with rows that are new and once with batches of which every tenth row is known (the staging way).
// Rates are in rows/s; "bare" appears twice, so that the noise can be seen.
func BenchmarkDeliver(b *testing.B) {
	const total, batch = 100_000, 1000
	rows := make([]string, total)
	for i := range rows {
		rows[i] = benchRow(i)
	}
	at := time.Now().UTC()
	d := newDatabase(b)
	table := d.table("data jsonb NOT NULL")
	columns := []string{"position", "org_id", "uuid", "index", "received_at", "data"}
	bare := func(b *testing.B, from, to int) {
		_, err := d.CopyFrom(context.Background(), pgx.Identifier{d.schema, "rows"}, columns, &source{from - 1, to, at, rows})
		require.NoError(b, err)
	}
	measure := func(name string, prepare string, run func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				d.exec("TRUNCATE " + table)
				if prepare != "" {
					d.exec(prepare)
				}
				d.exec("CHECKPOINT")
				b.StartTimer()
				run(b)
				b.StopTimer()
				require.Equal(b, []string{fmt.Sprint(total)}, d.column("SELECT count(*)::text FROM "+table))
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)*total/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(0, "ns/op")
		})
	}
	p := &Postgres{DSN: sdk.Secret(d.dsn), Table: table, JSON: "jsonb", ConnectTimeout: 5 * time.Second, StatementTimeout: 20 * time.Second}
	require.NoError(b, p.Open(context.Background(), sdk.Env{Instance: "bench", Log: hclog.NewNullLogger()}))
	b.Cleanup(func() { require.NoError(b, p.Close(context.Background())) })
	deliver := func(b *testing.B) {
		for from := 0; from < total; from += batch {
			f := protocol.Frame{OrgID: 1, UUID: "0123456789abcdef", Position: uint64(from), ReceivedAt: at}
			for _, row := range rows[from : from+batch] {
				f.Data = append(f.Data, row...)
				f.Ends = append(f.Ends, uint32(len(f.Data)))
			}
			require.NoError(b, p.Deliver(context.Background(), &sdk.Batch{Batch: protocol.Batch{Frames: []protocol.Frame{f}}}))
		}
	}
	stream := func(b *testing.B) { bare(b, 0, total) }
	batches := func(b *testing.B) {
		for from := 0; from < total; from += batch {
			bare(b, from, from+batch)
		}
	}
	measure("bare_stream", "", stream)
	measure("bare_batches", "", batches)
	measure("deliver", "", deliver)
	measure("bare_stream_again", "", stream)
	measure("bare_batches_again", "", batches)
	measure("deliver_staging", "INSERT INTO "+table+` SELECT n, 1, 'a', NULL, now(), '{}' FROM generate_series(0, 99999, 10) n`, deliver)
}
