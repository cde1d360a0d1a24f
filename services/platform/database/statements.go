package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// kept is how many statements a connection to SQLite keeps ready; to compile one takes longer than to run it. Each has a few kilobytes.
const kept = 64

// connector opens connections that keep their statements. They are kept in the driver, below database/sql: there, a statement that
// is prepared for a pool would wait for a second connection.
type connector struct {
	dsn string
	of  driver.Driver
}

// openKeeping is sql.Open with connections that keep their statements.
func openKeeping(name, dsn string) (*sql.DB, error) {
	plain, err := sql.Open(name, dsn)
	if err != nil {
		return nil, err
	}
	d := plain.Driver()
	if err := plain.Close(); err != nil { // it has opened nothing
		return nil, err
	}
	return sql.OpenDB(&connector{dsn, d}), nil
}

func (c *connector) Driver() driver.Driver { return c.of }

func (c *connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.of.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	full, ok := conn.(session)
	if !ok {
		return nil, errors.Join(errors.New("the driver of SQLite lacks what is needed of it"), conn.Close())
	}
	return &keeping{session: full, ready: map[string]*statement{}}, nil
}

// session is what the driver's connections can do.
type session interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// statement is a compiled one.
type statement struct {
	driver.Stmt
	text string
	used uint64 // when, in the connection's own count
}

// keeping is a connection, which one goroutine uses at a time. A statement is in ready while nobody uses it.
type keeping struct {
	session
	ready map[string]*statement
	count uint64
}

// take finds a statement or compiles it.
func (k *keeping) take(ctx context.Context, text string) (*statement, error) {
	k.count++
	if s, ok := k.ready[text]; ok {
		delete(k.ready, text)
		s.used = k.count
		return s, nil
	}
	made, err := k.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	return &statement{made, text, k.count}, nil
}

// leave keeps a statement for the next time, in the place of the one that was not used for the longest when there are many.
func (k *keeping) leave(s *statement) error {
	if _, ok := k.ready[s.text]; ok { // the same ran within itself
		return s.Close()
	}
	k.ready[s.text] = s
	if len(k.ready) <= kept {
		return nil
	}
	oldest := s
	for _, other := range k.ready {
		if other.used < oldest.used {
			oldest = other
		}
	}
	delete(k.ready, oldest.text)
	return oldest.Close()
}

// QueryContext implements driver.QueryerContext.
func (k *keeping) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := k.take(ctx, text)
	if err != nil {
		return nil, err
	}
	queryer, ok := s.Stmt.(driver.StmtQueryContext)
	if !ok {
		return nil, errors.Join(driver.ErrSkip, s.Close())
	}
	rows, err := queryer.QueryContext(ctx, args)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &reading{rows, k, s}, nil
}

// ExecContext implements driver.ExecerContext.
func (k *keeping) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	s, err := k.take(ctx, text)
	if err != nil {
		return nil, err
	}
	execer, ok := s.Stmt.(driver.StmtExecContext)
	if !ok {
		return nil, errors.Join(driver.ErrSkip, s.Close())
	}
	result, err := execer.ExecContext(ctx, args)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return result, k.leave(s)
}

// Close closes what is ready, too.
func (k *keeping) Close() error {
	var err error
	for _, s := range k.ready {
		err = errors.Join(err, s.Close())
	}
	clear(k.ready)
	return errors.Join(err, k.session.Close())
}

// reading is the answer of a statement, which is free again when it is closed.
type reading struct {
	driver.Rows
	on   *keeping
	with *statement
}

func (r *reading) Close() error {
	if r.with == nil {
		return nil
	}
	s := r.with
	r.with = nil
	if err := r.Rows.Close(); err != nil {
		return errors.Join(err, s.Close())
	}
	return r.on.leave(s)
}
