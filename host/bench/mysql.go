package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// mysqlVariable says where a server for measurements is; deploy/services sets it.
const mysqlVariable = "RIVERGATE_TEST_MYSQL_DSN"

// largeInserts are what the pusher's README advises for a table that is filled at full speed.
var largeInserts = map[string]string{"PLUGIN_MYSQL_BATCH_ROWS": "10000", "PLUGIN_MYSQL_BATCH_BYTES": "8388608", "PLUGIN_MYSQL_ORDER": "none"}

// mysql compares the way through host and plugin with a bare INSERT of the very same rows into a table of the same kind, as
// many rows to a statement. The rows wait in the journal while the pusher is paused, so that the intake takes no time from
// either side.
func (b *bench) mysql(ctx context.Context) (err error) {
	dsn := os.Getenv(mysqlVariable)
	if dsn == "" {
		return fmt.Errorf("no server: run it as `make bench`, or set %s", mysqlVariable)
	}
	db, err := openMySQL(dsn)
	if err != nil {
		return err
	}
	defer func() {
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, dropErr := db.ExecContext(done, "DROP TABLE IF EXISTS "+pushedTable+", "+bareTable)
		err = errors.Join(err, dropErr, db.Close())
	}()
	rows := int64(300_000)
	if b.quick {
		rows = 100_000
	}
	var large, small, bare, durable series
	for range b.rounds {
		byDefault, err := b.pushToMySQL(ctx, db, dsn, rows, nil)
		if err != nil {
			return err
		}
		pushed, err := b.pushToMySQL(ctx, db, dsn, rows, largeInserts)
		if err != nil {
			return err
		}
		columns, values, err := readBackMySQL(ctx, db)
		if err != nil {
			return fmt.Errorf("read the rows back: %w", err)
		}
		whole, err := bareInsert(ctx, db, columns, values, 10_000)
		if err != nil {
			return err
		}
		chunks, err := bareInsert(ctx, db, columns, values, 1000)
		if err != nil {
			return err
		}
		b.say("%d rows: bare INSERT of 10000 rows each %.0f rows/s, pusher with as large batches %.0f (%.0f %%); bare INSERT of 1000 rows each %.0f, pusher by default %.0f (%.0f %%)",
			rows, whole, pushed, 100*pushed/whole, chunks, byDefault, 100*byDefault/chunks)
		large, small, bare, durable = append(large, pushed), append(small, byDefault), append(bare, whole), append(durable, chunks)
	}
	b.report.add(figure{Name: "bare INSERT into MariaDB, 10000 rows per statement", Unit: "rows/s", Runs: bare})
	b.report.add(figure{Name: "mysql pusher with BATCH_ROWS=10000, BATCH_BYTES=8MiB, ORDER=none, counted in the table", Unit: "rows/s", Runs: large})
	ratio := 100 * large.median() / bare.median()
	b.report.add(figure{Name: "… against the bare INSERT of as many rows", Unit: "%", Value: ratio, Noise: large.noise() + bare.noise(),
		Target: "≥ 70", Met: met(ratio >= 70)})
	b.report.add(figure{Name: "bare INSERT into MariaDB, 1000 rows per statement", Unit: "rows/s", Runs: durable})
	b.report.add(figure{Name: "mysql pusher by default (1000 rows per batch), counted in the table", Unit: "rows/s", Runs: small})
	b.report.add(figure{Name: "… against the bare INSERT of as many rows", Unit: "%", Value: 100 * small.median() / durable.median(),
		Noise: small.noise() + durable.noise()})
	return nil
}

// openMySQL opens the database in the way that makes batched inserts fast: statements go as one text, in one round trip.
func openMySQL(dsn string) (*sql.DB, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mysqlVariable, err)
	}
	config.InterpolateParams, config.MaxAllowedPacket, config.Loc, config.ParseTime = true, 0, time.UTC, true
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mysqlVariable, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db, nil
}

// pushToMySQL returns rows per second from resume until the last row is in the table.
func (b *bench) pushToMySQL(ctx context.Context, db *sql.DB, dsn string, rows int64, more map[string]string) (rate float64, err error) {
	if _, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS "+pushedTable+", "+bareTable); err != nil {
		return 0, fmt.Errorf("drop the tables of the last run: %w", err)
	}
	env := map[string]string{
		"PLUGIN_MYSQL_ENABLED": "true", "PLUGIN_MYSQL_DSN": dsn,
		"PLUGIN_MYSQL_TABLE": pushedTable, "PLUGIN_MYSQL_CREATE_TABLE": "true",
	}
	maps.Copy(env, more)
	return b.push(ctx, push{
		pusher: "mysql", env: env,
		ready: func() error { return flushed(ctx, db) }, // the last run's writes are no part of this one
		count: func() (counted int64, err error) {
			err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+pushedTable).Scan(&counted)
			return counted, err
		},
	}, rows)
}

// flushed waits until InnoDB has written what is dirty, so that one run does not pay for the one before.
func flushed(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var before float64
	if err := db.QueryRowContext(ctx, "SELECT @@GLOBAL.innodb_max_dirty_pages_pct").Scan(&before); err != nil {
		return fmt.Errorf("ask for innodb_max_dirty_pages_pct: %w", err)
	}
	if _, err := db.ExecContext(ctx, "SET GLOBAL innodb_max_dirty_pages_pct = 0"); err != nil {
		return fmt.Errorf("have the dirty pages written: %w", err)
	}
	wait := func() error {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			var dirty int64
			const ask = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'Innodb_buffer_pool_pages_dirty'"
			if err := db.QueryRowContext(ctx, ask).Scan(&dirty); err != nil {
				return fmt.Errorf("ask for dirty pages: %w", err)
			}
			if dirty < 10 {
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("%d pages are still dirty: %w", dirty, ctx.Err())
			}
		}
	}
	err := wait()
	_, setErr := db.ExecContext(ctx, "SET GLOBAL innodb_max_dirty_pages_pct = ?", before)
	return errors.Join(err, setErr)
}

// bareInsert inserts the rows into an empty table of the same kind, keys included: chunk rows per statement, each statement a
// transaction of its own.
func bareInsert(ctx context.Context, db *sql.DB, columns []string, rows [][]any, chunk int) (rate float64, err error) {
	for _, text := range []string{"DROP TABLE IF EXISTS " + bareTable, "CREATE TABLE " + bareTable + " LIKE " + pushedTable} {
		if _, err := db.ExecContext(ctx, text); err != nil {
			return 0, fmt.Errorf("make the bare table: %w", err)
		}
	}
	if err := flushed(ctx, db); err != nil {
		return 0, err
	}
	tuple := "(?" + strings.Repeat(",?", len(columns)-1) + ")"
	begun := time.Now()
	for some := range slices.Chunk(rows, chunk) {
		args := make([]any, 0, len(columns)*len(some))
		for _, row := range some {
			args = append(args, row...)
		}
		text := "INSERT INTO " + bareTable + " (`" + strings.Join(columns, "`,`") + "`) VALUES " + tuple + strings.Repeat(","+tuple, len(some)-1)
		if _, err := db.ExecContext(ctx, text, args...); err != nil {
			return 0, fmt.Errorf("insert: %w", err)
		}
	}
	took := time.Since(begun)
	var counted int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+bareTable).Scan(&counted); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	if counted != len(rows) {
		return 0, fmt.Errorf("inserted %d of %d rows", counted, len(rows))
	}
	return float64(counted) / took.Seconds(), nil
}

// readBackMySQL returns the pushed rows as values that an INSERT takes with the least work.
func readBackMySQL(ctx context.Context, db *sql.DB) (columns []string, all [][]any, err error) {
	found, err := db.QueryContext(ctx, "SELECT * FROM "+pushedTable+" ORDER BY position")
	if err != nil {
		return nil, nil, err
	}
	defer found.Close()
	if columns, err = found.Columns(); err != nil {
		return nil, nil, err
	}
	for found.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := found.Scan(into...); err != nil {
			return nil, nil, err
		}
		for i, v := range values {
			if text, ok := v.([]byte); ok { // bytes would go as a binary string
				values[i] = string(text)
			}
		}
		all = append(all, values)
	}
	return columns, all, found.Err()
}
