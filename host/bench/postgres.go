package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// postgresVariable says where a server for measurements is; deploy/services sets it.
const postgresVariable = "RIVERGATE_TEST_POSTGRES_DSN"

// The tables of this measurement. It makes and drops both.
const (
	pushedTable = "rivergate_bench_pushed"
	bareTable   = "rivergate_bench_bare"
)

// largeBatches are what the pusher's README advises for a table that is filled at full speed: each batch is a transaction,
// fewer commits wait for the disk, and keys in the order of the journal grow the index at its end.
var largeBatches = map[string]string{"PLUGIN_POSTGRES_BATCH_ROWS": "10000", "PLUGIN_POSTGRES_BATCH_BYTES": "8388608", "PLUGIN_POSTGRES_ORDER": "none"}

// postgres compares the way through host and plugin with a bare COPY of the very same rows into a table of the same kind.
// The rows wait in the journal while the pusher is paused, so that the intake takes no time from either side.
func (b *bench) postgres(ctx context.Context) (err error) {
	dsn := os.Getenv(postgresVariable)
	if dsn == "" {
		return fmt.Errorf("no server: run it as `make bench`, or set %s", postgresVariable)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, dropErr := conn.Exec(done, "DROP TABLE IF EXISTS "+pushedTable+", "+bareTable)
		err = errors.Join(err, dropErr, conn.Close(done))
	}()
	rows := int64(600_000)
	if b.quick {
		rows = 200_000
	}
	var large, small, bare, durable series
	for range b.rounds {
		byDefault, err := b.pushToPostgres(ctx, conn, dsn, rows, nil)
		if err != nil {
			return err
		}
		pushed, err := b.pushToPostgres(ctx, conn, dsn, rows, largeBatches)
		if err != nil {
			return err
		}
		columns, values, err := readBack(ctx, conn)
		if err != nil {
			return fmt.Errorf("read the rows back: %w", err)
		}
		whole, err := bareCopy(ctx, conn, columns, values, len(values))
		if err != nil {
			return err
		}
		chunks, err := bareCopy(ctx, conn, columns, values, 1000)
		if err != nil {
			return err
		}
		b.say("%d rows: bare COPY %.0f rows/s, pusher with large batches %.0f (%.0f %%); bare COPY with a commit each 1000 rows %.0f, pusher by default %.0f (%.0f %%)",
			rows, whole, pushed, 100*pushed/whole, chunks, byDefault, 100*byDefault/chunks)
		large, small, bare, durable = append(large, pushed), append(small, byDefault), append(bare, whole), append(durable, chunks)
	}
	b.report.add(figure{Name: "bare pgx COPY, one statement for all rows", Unit: "rows/s", Runs: bare})
	b.report.add(figure{Name: "postgres pusher with BATCH_ROWS=10000, BATCH_BYTES=8MiB, ORDER=none, counted in the table", Unit: "rows/s", Runs: large})
	ratio := 100 * large.median() / bare.median()
	b.report.add(figure{Name: "… against the bare COPY in one statement", Unit: "%", Value: ratio, Noise: large.noise() + bare.noise(),
		Target: "≥ 70", Met: met(ratio >= 70)})
	b.report.add(figure{Name: "bare pgx COPY, a commit each 1000 rows", Unit: "rows/s", Runs: durable})
	b.report.add(figure{Name: "postgres pusher by default (1000 rows per batch)", Unit: "rows/s", Runs: small})
	b.report.add(figure{Name: "… against the bare COPY that commits as often", Unit: "%", Value: 100 * small.median() / durable.median(),
		Noise: small.noise() + durable.noise()})
	return nil
}

// pushToPostgres returns rows per second from resume until the last row is in the table.
func (b *bench) pushToPostgres(ctx context.Context, conn *pgx.Conn, dsn string, rows int64, more map[string]string) (rate float64, err error) {
	if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS "+pushedTable+", "+bareTable); err != nil {
		return 0, fmt.Errorf("drop the tables of the last run: %w", err)
	}
	env := map[string]string{
		"PLUGIN_POSTGRES_ENABLED": "true", "PLUGIN_POSTGRES_DSN": dsn,
		"PLUGIN_POSTGRES_TABLE": pushedTable, "PLUGIN_POSTGRES_CREATE_TABLE": "true",
	}
	maps.Copy(env, more)
	return b.push(ctx, push{
		pusher: "postgres", env: env,
		ready: func() error {
			if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil { // the last run's writes are no part of this one
				return fmt.Errorf("checkpoint: %w", err)
			}
			return nil
		},
		count: func() (counted int64, err error) {
			err = conn.QueryRow(ctx, "SELECT count(*) FROM "+pushedTable).Scan(&counted)
			return counted, err
		},
	}, rows)
}

// bareCopy copies the rows into an empty table of the same kind, keys included: chunk rows per statement, each statement
// a transaction of its own.
func bareCopy(ctx context.Context, conn *pgx.Conn, columns []string, rows [][]any, chunk int) (rate float64, err error) {
	if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS "+bareTable); err != nil {
		return 0, fmt.Errorf("drop the bare table: %w", err)
	}
	if _, err := conn.Exec(ctx, "CREATE TABLE "+bareTable+" (LIKE "+pushedTable+" INCLUDING ALL)"); err != nil {
		return 0, fmt.Errorf("create the bare table: %w", err)
	}
	if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
		return 0, fmt.Errorf("checkpoint: %w", err)
	}
	begun := time.Now()
	for some := range slices.Chunk(rows, chunk) {
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{bareTable}, columns, pgx.CopyFromRows(some)); err != nil {
			return 0, fmt.Errorf("copy: %w", err)
		}
	}
	took := time.Since(begun)
	var counted int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM "+bareTable).Scan(&counted); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	if counted != len(rows) {
		return 0, fmt.Errorf("copied %d of %d rows", counted, len(rows))
	}
	return float64(counted) / took.Seconds(), nil
}

// readBack returns the pushed rows as values that COPY encodes with the least work: JSON stays bytes.
func readBack(ctx context.Context, conn *pgx.Conn) (columns []string, all [][]any, err error) {
	found, err := conn.Query(ctx, "SELECT * FROM "+pushedTable+" ORDER BY position")
	if err != nil {
		return nil, nil, err
	}
	defer found.Close()
	fields := found.FieldDescriptions()
	for _, f := range fields {
		columns = append(columns, f.Name)
	}
	for found.Next() {
		values, err := found.Values()
		if err != nil {
			return nil, nil, err
		}
		for i, raw := range found.RawValues() {
			if fields[i].DataTypeOID != pgtype.JSONBOID || raw == nil {
				continue
			}
			if fields[i].Format == pgtype.BinaryFormatCode {
				raw = raw[1:] // the version byte of jsonb's binary form
			}
			values[i] = slices.Clone(raw)
		}
		all = append(all, values)
	}
	return columns, all, found.Err()
}
