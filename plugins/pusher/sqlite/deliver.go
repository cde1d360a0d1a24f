package main

import (
	"context"
	"errors"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// Deliver inserts the batch in one transaction. A row that the table refuses is rejected, and the others go on; anything else
// takes the whole batch back.
func (s *SQLite) Deliver(ctx context.Context, b *sdk.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.StatementTimeout+5*time.Second) // the wait for a lock ends by itself before
	defer cancel()
	duplicates, refused, err := s.store(ctx, b)
	if err != nil {
		s.ready = false
		return s.destinationError(err)
	}
	for _, row := range duplicates {
		b.Duplicate(row)
	}
	for _, r := range refused {
		b.Reject(r.row, code(r.err), errors.New(words(r.err)))
	}
	return nil
}

// refusal is a row that the table does not take.
type refusal struct {
	row sdk.Row
	err error
}

// store returns the rows that were in the table before, and those that it refuses, when all others are safe.
func (s *SQLite) store(ctx context.Context, b *sdk.Batch) (duplicates []sdk.Row, refused []refusal, err error) {
	if err := s.connected(ctx); err != nil {
		return nil, nil, err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback() // SQLite may have done it already
		}
	}()
	insert, err := tx.PrepareContext(ctx, s.target.insert)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	var values []any
	for row := range b.Rows() {
		values = s.target.appendValues(values[:0], row)
		result, err := insert.ExecContext(ctx, values...)
		if isRowError(err) {
			refused = append(refused, refusal{row, err})
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return nil, nil, err
		}
		if n == 0 {
			duplicates = append(duplicates, row)
		}
	}
	return duplicates, refused, tx.Commit()
}
