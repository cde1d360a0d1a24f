package main

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// errTimeUp says that a batch took too long; what was not tried is tried with the next one.
var errTimeUp = errors.New("the batch took longer than STATEMENT_TIMEOUT; these rows were not tried yet")

// Deliver inserts the batch in one transaction when all is well. When the server refuses a row, the batch is cut at the row that
// it names, or halved, until the guilty row stands alone; the others are delivered. Pieces go in the order of the batch,
// and after a failure that is not a row's own nothing further is tried.
func (m *MySQL) Deliver(ctx context.Context, b *sdk.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	deadline := time.Now().Add(m.StatementTimeout)
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(time.Second)) // the server's own limits end first
	defer cancel()
	rows := make([]sdk.Row, 0, b.Len())
	for row := range b.Rows() {
		rows = append(rows, row)
	}
	pieces := [][]sdk.Row{rows}
	for whole := true; len(pieces) > 0; whole = false {
		piece := pieces[len(pieces)-1]
		pieces = pieces[:len(pieces)-1]
		if len(piece) == 0 {
			continue
		}
		if !whole && !time.Now().Before(deadline) {
			failAll(b, append(pieces, piece), sdk.Throttle(0, errTimeUp))
			return nil
		}
		known, err := m.store(ctx, piece)
		if err == nil {
			for _, row := range piece {
				if known[row.Position()] {
					b.Duplicate(row)
				}
			}
			continue
		}
		at := slices.IndexFunc(piece, func(row sdk.Row) bool { return isAt(err, row.Position()) })
		switch {
		case !isRowError(err):
			m.ready = false
			failAll(b, append(pieces, piece), m.destinationError(err))
			return nil
		case len(piece) == 1:
			b.Reject(piece[0], code(err), rejection(err, piece[0]))
		case at >= 0:
			// The place comes out of a text: the row is tried alone before it is condemned.
			pieces = append(pieces, piece[at+1:], piece[at:at+1], piece[:at])
		default:
			pieces = append(pieces, piece[len(piece)/2:], piece[:len(piece)/2])
		}
	}
	return nil
}

func failAll(b *sdk.Batch, pieces [][]sdk.Row, failure error) {
	for _, piece := range pieces {
		for _, row := range piece {
			b.Fail(row, failure)
		}
	}
}

// store puts the rows into the table, in one transaction, and returns the positions that were there before (nil: none).
//
// First a plain INSERT: all or nothing, and the primary key lets no position in twice. Only when it reports a key that is there
// already, the table is asked which positions those are, and the others are inserted. ON DUPLICATE KEY UPDATE and INSERT
// IGNORE would do it in one step, and lose rows in silence: both take any other unique key for a row that is known.
func (m *MySQL) store(ctx context.Context, rows []sdk.Row) (known map[uint64]bool, err error) {
	if err := m.connected(ctx); err != nil {
		return nil, err
	}
	statements := m.statements(rows)
	if len(statements) == 1 { // a transaction of its own
		err = statements[0].run(ctx, m.db)
	} else {
		err = m.inTransaction(ctx, func(tx *sql.Tx) error { return runAll(ctx, tx, statements) })
	}
	if !isDuplicateKey(err) {
		return nil, err
	}
	err = m.inTransaction(ctx, func(tx *sql.Tx) (err error) {
		if known, err = m.known(ctx, tx, rows); err != nil {
			return err
		}
		var fresh []sdk.Row
		for _, row := range rows {
			if !known[row.Position()] {
				fresh = append(fresh, row)
			}
		}
		return runAll(ctx, tx, m.statements(fresh))
	})
	return known, err
}

// inTransaction commits what do has done, or takes it back. The isolation is such that a position that known did not find
// stays absent until the end: nobody else can insert it.
func (m *MySQL) inTransaction(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := m.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // on a connection that broke, the server does it
		return err
	}
	return tx.Commit()
}

// known returns which positions of the rows are in the table, and locks them, and the gaps where others would be.
func (m *MySQL) known(ctx context.Context, tx *sql.Tx, rows []sdk.Row) (map[uint64]bool, error) {
	positions := make([]any, len(rows))
	for i, row := range rows {
		positions[i] = row.Position()
	}
	found, err := tx.QueryContext(ctx, m.target.known+"(?"+strings.Repeat(",?", len(rows)-1)+") FOR UPDATE", positions...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	known := map[uint64]bool{}
	for found.Next() {
		var position uint64
		if err := found.Scan(&position); err != nil {
			return nil, err
		}
		known[position] = true
	}
	return known, found.Err()
}

// statement inserts some rows.
type statement struct {
	text string
	args []any
	rows []sdk.Row
}

// statements cuts the rows so that no statement is longer than the server takes, escaped as it may be.
func (m *MySQL) statements(rows []sdk.Row) []statement {
	var all []statement
	for len(rows) > 0 {
		n, size := 0, len(m.target.insert)
		var args []any
		for ; n < len(rows); n++ {
			from := len(args)
			args = m.target.appendValues(args, rows[n])
			size += sizeOf(args[from:])
			if n > 0 && size > m.maxPacket {
				args = args[:from]
				break
			}
		}
		all = append(all, statement{m.target.insert + m.target.tuple + strings.Repeat(","+m.target.tuple, n-1), args, rows[:n]})
		rows = rows[n:]
	}
	return all
}

// sizeOf is the most that the values of one row take of a statement, bytes.
func sizeOf(values []any) int {
	size := 0
	for _, v := range values {
		size += 32 // numbers, times, quotes and commas
		if text, ok := v.(string); ok {
			size += 2 * len(text)
		}
	}
	return size
}

type executor interface {
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
}

func (s statement) run(ctx context.Context, on executor) error {
	_, err := on.ExecContext(ctx, s.text, s.args...)
	if place := placeIn(err); place > 0 && place <= len(s.rows) {
		return &located{err, s.rows[place-1].Position()}
	}
	return err
}

func runAll(ctx context.Context, tx *sql.Tx, statements []statement) error {
	for _, s := range statements {
		if err := s.run(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}
