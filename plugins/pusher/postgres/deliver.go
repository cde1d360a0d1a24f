package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rivergate/rivergate/sdk"
)

var (
	// errTimeUp says that a batch took too long; what was not tried is tried with the next one.
	errTimeUp = errors.New("the batch took longer than STATEMENT_TIMEOUT; these rows were not tried yet")
	// errOtherFormat: the connection was lost in the middle of a batch, and the table has other types now.
	errOtherFormat = errors.New("the table was changed while rows were written to it")
)

// Deliver copies the batch in one statement when all is well. When the server names a row that it cannot take, or
// refuses without a name, the batch is cut there, or halved, until the guilty row stands alone; the others are delivered.
// Pieces go in the order of the batch, and after a failure that is not a row's own nothing further is tried.
func (p *Postgres) Deliver(ctx context.Context, b *sdk.Batch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	deadline := time.Now().Add(p.StatementTimeout)
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(time.Second)) // the server gives up first
	defer cancel()

	if p.conn == nil || p.conn.IsClosed() {
		p.text = nil // pgx's COPY into a connection that broke may still be reading it
	}
	known, rows, err := p.storeAll(ctx, b, time.Until(deadline))
	pieces := [][]encoded{rows}
	for whole := true; len(pieces) > 0; whole = false {
		piece := pieces[len(pieces)-1]
		pieces = pieces[:len(pieces)-1]
		if len(piece) == 0 {
			continue
		}
		if !whole {
			if !time.Now().Before(deadline) {
				failAll(b, append(pieces, piece), sdk.Throttle(0, errTimeUp))
				return nil
			}
			known, err = p.store(ctx, piece, time.Until(deadline))
		}
		if err == nil {
			for _, e := range piece {
				if known[e.row.Position()] {
					b.Duplicate(e.row)
				}
			}
			continue
		}
		if state := sqlState(err); (state == wrongBinary || state == shortBinary) && p.conn != nil {
			closeConn(p.conn) // the table was changed: its types are asked for again
			p.conn = nil
		}
		guilty, line := rowError(err, p.target.name)
		switch {
		case !guilty:
			failure := destinationError(err)
			failAll(b, append(pieces, piece), failure)
			return nil
		case len(piece) == 1:
			b.Reject(piece[0].row, sqlState(err), rejection(err))
		default:
			cut := len(piece) / 2
			if line > 0 && line <= len(piece) {
				// The line number comes out of a text: the row is tried alone before it is condemned.
				pieces = append(pieces, piece[line:], piece[line-1:line])
				cut = line - 1
			} else {
				pieces = append(pieces, piece[cut:])
			}
			pieces = append(pieces, piece[:cut])
		}
	}
	return nil
}

func failAll(b *sdk.Batch, pieces [][]encoded, failure error) {
	for _, piece := range pieces {
		for _, e := range piece {
			b.Fail(e.row, failure)
		}
	}
}

// store puts the rows into the table, in one transaction, and returns the positions that were there before (nil: none).
//
// First a COPY straight into the table: one statement, so all or nothing, and the primary key lets no position in twice.
// Only when it reports a position that is there already, the rows take the way over a staging table and
// ON CONFLICT DO NOTHING. Both ways leave the same table; the first is the faster by half and nearly always enough.
func (p *Postgres) store(ctx context.Context, rows []encoded, left time.Duration) (known map[uint64]bool, err error) {
	as := p.format
	conn, err := p.connected(ctx)
	if err != nil {
		return nil, err
	}
	if as != p.format {
		return nil, errOtherFormat
	}
	text := p.text[rows[0].start:rows[len(rows)-1].end]
	_, err = conn.CopyFrom(ctx, as.framed(bytes.NewReader(text)), within(left)+p.target.copy+as.option())
	if !isUniqueViolation(err) {
		return nil, err
	}
	return p.stage(ctx, conn, rows, text, within(left))
}

// storeAll is store for a whole batch, whose lines are written while the server reads them. It returns the lines as well.
func (p *Postgres) storeAll(ctx context.Context, b *sdk.Batch, left time.Duration) (known map[uint64]bool, rows []encoded, err error) {
	conn, err := p.connected(ctx)
	f := newFeed(p.format, b, p.text[:0])
	if err == nil {
		_, err = conn.CopyFrom(ctx, p.format.framed(f), within(left)+p.target.copy+p.format.option())
	}
	rows = f.finish()
	p.text = f.text
	if len(rows) > 0 && isUniqueViolation(err) {
		known, err = p.stage(ctx, conn, rows, f.text, within(left))
	}
	return known, rows, err
}

// within bounds the statements that follow it in the same transaction.
func within(left time.Duration) string {
	return "SET LOCAL statement_timeout = " + strconv.FormatInt(max(left.Milliseconds(), 1), 10) + "; "
}

// stage is the way for rows of which some are in the table. The temporary table lives in the transaction alone, so that
// any pooler may stand between.
func (p *Postgres) stage(ctx context.Context, conn *pgconn.PgConn, rows []encoded, text []byte, limit string) (map[uint64]bool, error) {
	if _, err := conn.CopyFrom(ctx, p.format.framed(bytes.NewReader(text)), "BEGIN; "+limit+p.target.stage+p.format.option()); err != nil {
		return nil, errors.Join(err, rollback(conn))
	}
	results, err := conn.Exec(ctx, p.target.insert+"; COMMIT").ReadAll()
	if err != nil {
		return nil, errors.Join(err, rollback(conn))
	}
	known := make(map[uint64]bool, len(rows))
	for _, e := range rows {
		known[e.row.Position()] = true
	}
	for _, values := range results[0].Rows {
		position, err := strconv.ParseUint(string(values[0]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read an inserted position: %w", err)
		}
		delete(known, position)
	}
	return known, nil
}

// rollback ends a failed transaction so that the connection can be used again; one that cannot even do that is closed.
func rollback(conn *pgconn.PgConn) error {
	if conn.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
		closeConn(conn)
	}
	return nil
}
