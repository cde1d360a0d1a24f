package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Querier is what a transaction and a Reader have in common.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *Row
}

// Tx is a transaction.
type Tx struct {
	querier
	tx *sql.Tx
}

func (db *DB) tx(tx *sql.Tx) *Tx { return &Tx{querier{tx, db.dialect}, tx} }

// Reader reads outside of transactions.
type Reader struct{ querier }

// querier gives both dialects the same statements and the same arguments.
type querier struct {
	on interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}
	dialect Dialect
}

// Row is the one row of a query.
type Row struct {
	row *sql.Row
	err error
}

// Scan is as of sql.Row: sql.ErrNoRows when there is none.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	return r.row.Scan(dest...)
}

// Dialect tells the two apart.
func (q querier) Dialect() Dialect { return q.dialect }

// QueryContext runs a query.
func (q querier) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := plain(args); err != nil {
		return nil, err
	}
	return q.on.QueryContext(ctx, q.bind(query), args...)
}

// QueryRowContext runs a query of which at most one row matters.
func (q querier) QueryRowContext(ctx context.Context, query string, args ...any) *Row {
	if err := plain(args); err != nil {
		return &Row{err: err}
	}
	return &Row{row: q.on.QueryRowContext(ctx, q.bind(query), args...)}
}

// ExecContext runs a statement.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := plain(args); err != nil {
		return nil, err
	}
	return tx.on.ExecContext(ctx, tx.bind(query), args...)
}

// ErrEnough, returned by the function given to Each, ends the query early.
var ErrEnough = errors.New("enough")

// Each runs a query and calls fn on each row.
func Each(ctx context.Context, q Querier, fn func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); errors.Is(err, ErrEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return rows.Err()
}

// plain makes arguments what both drivers take in the same way: booleans are whole numbers.
func plain(args []any) error {
	for i, arg := range args {
		value, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return fmt.Errorf("argument %d: %w", i+1, err)
		}
		if yes, ok := value.(bool); ok {
			value = int64(0)
			if yes {
				value = int64(1)
			}
		}
		args[i] = value
	}
	return nil
}

// bind gives PostgreSQL its numbered placeholders. A question mark in a string constant stays.
func (q querier) bind(query string) string {
	if q.dialect != Postgres || !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	b.Grow(len(query) + 16)
	n, quoted := 0, false
	for _, r := range query {
		switch {
		case r == '\'':
			quoted = !quoted
		case r == '?' && !quoted:
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Stmt is a statement that runs often in one transaction. With PostgreSQL it is only its text, since PgBouncer would not know it.
type Stmt struct {
	on    querier
	query string
	stmt  *sql.Stmt // nil with PostgreSQL
}

// PrepareContext makes a Stmt; close it before the transaction ends.
func (tx *Tx) PrepareContext(ctx context.Context, query string) (*Stmt, error) {
	s := &Stmt{on: tx.querier, query: query}
	if tx.dialect == Postgres {
		return s, nil
	}
	var err error
	s.stmt, err = tx.tx.PrepareContext(ctx, query)
	return s, err
}

// QueryRowContext runs it.
func (s *Stmt) QueryRowContext(ctx context.Context, args ...any) *Row {
	if s.stmt == nil {
		return s.on.QueryRowContext(ctx, s.query, args...)
	}
	if err := plain(args); err != nil {
		return &Row{err: err}
	}
	return &Row{row: s.stmt.QueryRowContext(ctx, args...)}
}

// Close forgets it.
func (s *Stmt) Close() error {
	if s.stmt == nil {
		return nil
	}
	return s.stmt.Close()
}
