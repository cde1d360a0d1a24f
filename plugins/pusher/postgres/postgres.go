package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/rivergate/rivergate/plugins/internal/columns"
	"github.com/rivergate/rivergate/sdk"
)

// JSONType is the column type of the row's data.
type JSONType string

// Postgres copies batches into one table. The row position is the table's primary key, so a row that comes again changes
// nothing.
type Postgres struct {
	DSN              sdk.Secret    `config:"dsn" required:"true" doc:"Where the database is, as postgres://user:password@host:5432/database or key=value pairs."`
	Table            string        `config:"table" default:"rivergate_rows" doc:"Target table, as name or schema.name; taken exactly as written, case included."`
	CreateTable      bool          `config:"create_table" default:"false" doc:"Create the table when it is not there."`
	Columns          string        `config:"columns" doc:"Columns to fill from members of the row, as column=member:type, comma separated; the type is text when left out, the member * is the whole row. Empty: one column data." example:"time=timeElapsed:double precision,od=odMeasured:text"`
	JSON             JSONType      `config:"json" default:"jsonb" enum:"jsonb,json,text" doc:"Type of the column data: jsonb; json or text keep the client's bytes, and with them \\u0000."`
	EmptyAsNull      bool          `config:"empty_as_null" default:"false" doc:"An empty string becomes NULL in a mapped column that is not text."`
	ConnectTimeout   time.Duration `config:"connect_timeout" default:"5s" min:"100ms" max:"1m" doc:"Longest wait for a connection."`
	StatementTimeout time.Duration `config:"statement_timeout" default:"20s" min:"100ms" max:"1h" doc:"Longest work on one batch, in the server too; keep it below TIMEOUT."`

	log    sdk.Logger
	config *pgconn.Config
	target target

	mu     sync.Mutex // guards what follows
	conn   *pgconn.PgConn
	format format // of conn
	text   []byte // one batch as COPY takes it, kept for its capacity
}

// Open checks what can be checked without the database: one that is down is no configuration problem.
func (p *Postgres) Open(_ context.Context, env sdk.Env) error {
	p.log = env.Log
	var err error
	if p.config, err = pgconn.ParseConfig(p.DSN.Reveal()); err != nil {
		return sdk.FieldError("dsn", errors.New("is not a PostgreSQL URL or key=value string")) // the parser's text may quote it
	}
	p.config.ConnectTimeout = p.ConnectTimeout
	if p.config.RuntimeParams["application_name"] == "" {
		p.config.RuntimeParams["application_name"] = "rivergate"
	}
	// A context that ends cancels the statement in the server too; a broken network costs a second more.
	p.config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Second}
	}
	schema, name, err := columns.ParseTable(p.Table, "schema", checkIdentifier)
	if err != nil {
		return sdk.FieldError("table", err)
	}
	mapped, err := columns.Parse(p.Columns, checkIdentifier)
	if err != nil {
		return sdk.FieldError("columns", err)
	}
	if len(mapped) == 0 {
		mapped = []columns.Column{{Name: "data", Member: columns.WholeRow, Type: string(p.JSON)}}
	}
	p.target = newTarget(schema, name, columns.NewMapping(mapped), p.EmptyAsNull)
	p.format = format{target: &p.target}
	return nil
}

// connected returns the connection, a new one when there is none or the last one broke.
func (p *Postgres) connected(ctx context.Context) (*pgconn.PgConn, error) {
	if p.conn != nil && !p.conn.IsClosed() {
		return p.conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.ConnectTimeout)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, p.config)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	if p.CreateTable {
		if _, err := conn.Exec(ctx, p.target.create).ReadAll(); err != nil && !createdMeanwhile(err) {
			closeConn(conn)
			return nil, fmt.Errorf("create table %s: %w", p.Table, err)
		}
	}
	types, err := conn.Exec(ctx, p.target.types).ReadAll()
	if err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("ask for the columns of %s: %w", p.Table, err)
	}
	p.conn, p.format = conn, format{target: &p.target, binary: p.target.fitsBinary(types)}
	return conn, nil
}

// Health asks the server for an answer, unless a batch is on its way and shows it.
func (p *Postgres) Health(ctx context.Context) error {
	if !p.mu.TryLock() {
		return nil
	}
	defer p.mu.Unlock()
	conn, err := p.connected(ctx)
	if err != nil {
		return err
	}
	if err := conn.Ping(ctx); err != nil {
		return fmt.Errorf("ping PostgreSQL: %w", err)
	}
	return nil
}

// Close ends the connection.
func (p *Postgres) Close(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		closeConn(p.conn)
		p.conn = nil
	}
	return nil
}

// closeConn says goodbye to the server, which may not listen.
func closeConn(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // it is closed either way
}
