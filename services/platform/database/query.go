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
	prepare preparer
}

// preparer is a sql.Tx, or the sql.Conn that a transaction was begun on.
type preparer interface {
	handle
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

func (db *DB) tx(on preparer) *Tx { return &Tx{querier{on, db.dialect}, on} }

// Reader reads outside of transactions.
type Reader struct {
	querier
	pool *sql.DB // with SQLite
}

// QueryRowContext runs a query of which at most one row matters; it is to be a short one. With SQLite, ctx bounds the wait for a
// connection alone: for each query that could be broken off, two goroutines would watch.
func (r *Reader) QueryRowContext(ctx context.Context, query string, args ...any) *Row {
	if r.pool == nil {
		return r.querier.QueryRowContext(ctx, query, args...)
	}
	conn, err := r.pool.Conn(ctx)
	if err != nil {
		return &Row{err: err}
	}
	row := querier{conn, r.dialect}.QueryRowContext(context.WithoutCancel(ctx), query, args...)
	row.conn = conn
	return row
}

// querier gives both dialects the same statements and the same arguments.
type querier struct {
	on      handle
	dialect Dialect
}

// handle is what statements run on.
type handle interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Row is the one row of a query.
type Row struct {
	row  *sql.Row
	conn *sql.Conn // that is this query's alone; nil: none
	err  error
}

// Scan is as of sql.Row: sql.ErrNoRows when there is none.
func (r *Row) Scan(dest ...any) error {
	err := r.err
	if err == nil {
		err = r.row.Scan(dest...)
	}
	if r.conn != nil {
		_ = r.conn.Close() // back into the pool
	}
	return err
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

// bind gives PostgreSQL its numbered placeholders. As in SQLite, ?3 is the third argument, a bare ? the one behind the highest so far. A
// question mark in a string constant stays.
func (q querier) bind(query string) string {
	if q.dialect != Postgres || !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	b.Grow(len(query) + 16)
	highest, quoted := 0, false
	for i := 0; i < len(query); i++ {
		if query[i] == '\'' {
			quoted = !quoted
		}
		if query[i] != '?' || quoted {
			b.WriteByte(query[i])
			continue
		}
		n := 0
		for ; i+1 < len(query) && query[i+1]-'0' <= 9; i++ {
			n = 10*n + int(query[i+1]-'0')
		}
		if n == 0 {
			n = highest + 1
		}
		highest = max(highest, n)
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
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
	s.stmt, err = tx.prepare.PrepareContext(ctx, query)
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
