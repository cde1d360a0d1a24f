package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rivergate/rivergate/plugins/internal/columns"
	"github.com/rivergate/rivergate/sdk"
)

// JSONType is the column type of the row's data.
type JSONType string

// MySQL inserts batches into one table. The row position is the table's primary key, so a row that comes again changes
// nothing.
type MySQL struct {
	DSN              sdk.Secret    `config:"dsn" required:"true" doc:"Where the database is, as user:password@tcp(host:3306)/database; options of go-sql-driver/mysql may follow, such as ?tls=true."`
	Table            string        `config:"table" default:"rivergate_rows" doc:"Target table, as name or database.name; taken exactly as written, case included."`
	CreateTable      bool          `config:"create_table" default:"false" doc:"Create the table when it is not there."`
	Columns          string        `config:"columns" doc:"Columns to fill from members of the row, as column=member:type, comma separated; the type is text when left out, the member * is the whole row. Empty: one column data." example:"time=timeElapsed:double,od=odMeasured:text"`
	JSON             JSONType      `config:"json" default:"json" enum:"json,longtext" doc:"Type of the column data: json, which the server checks; longtext keeps the client's bytes in MySQL, too."`
	EmptyAsNull      bool          `config:"empty_as_null" default:"false" doc:"An empty string becomes NULL in a mapped column that is not text."`
	ConnectTimeout   time.Duration `config:"connect_timeout" default:"5s" min:"100ms" max:"1m" doc:"Longest wait for a connection."`
	StatementTimeout time.Duration `config:"statement_timeout" default:"20s" min:"100ms" max:"1h" doc:"Longest work on one batch; keep it below TIMEOUT."`

	target  target
	address string // for messages
	db      *sql.DB

	mu        sync.Mutex // guards what follows
	ready     bool       // the table was looked at
	maxPacket int        // of the server, bytes: the longest statement
}

// mode is what every statement runs under: a value that does not fit is an error, never another value.
const mode = "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION'"

// Open checks what can be checked without the database: one that is down is no configuration problem.
func (m *MySQL) Open(context.Context, sdk.Env) error {
	config, err := mysql.ParseDSN(m.DSN.Reveal())
	if err != nil {
		return sdk.FieldError("dsn", errors.New("must be user:password@tcp(host:3306)/database")) // the parser's text may quote it
	}
	database, name, err := columns.ParseTable(m.Table, "database", checkIdentifier)
	if err != nil {
		return sdk.FieldError("table", err)
	}
	if config.DBName == "" && database == "" {
		return sdk.FieldError("dsn", errors.New("names no database, and TABLE neither"))
	}
	mapped, err := columns.Parse(m.Columns, checkIdentifier)
	if err != nil {
		return sdk.FieldError("columns", err)
	}
	if len(mapped) == 0 {
		mapped = []columns.Column{{Name: "data", Member: columns.WholeRow, Type: string(m.JSON)}}
	}
	m.target = newTarget(database, name, columns.NewMapping(mapped), m.EmptyAsNull)

	config.Timeout, config.Loc = m.ConnectTimeout, time.UTC
	config.MaxAllowedPacket = 0 // the server's
	config.InterpolateParams, config.MultiStatements, config.ClientFoundRows, config.AllowAllFiles = true, false, false, false
	config.Logger = &mysql.NopLogger{} // what fails is said by outcomes and by Health
	if err := config.Apply(mysql.Charset("utf8mb4", "")); err != nil {
		return sdk.FieldError("dsn", errors.New("has options that do not go together"))
	}
	if config.Params == nil {
		config.Params = map[string]string{}
	}
	config.Params["sql_mode"], config.Params["time_zone"] = mode, "'+00:00'"
	// A connection that is cut off does not end its statement in the server; its wait for a lock must end by itself.
	wait := strconv.Itoa(int(math.Ceil(m.StatementTimeout.Seconds())))
	config.Params["lock_wait_timeout"], config.Params["innodb_lock_wait_timeout"] = wait, wait
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return sdk.FieldError("dsn", errors.New("has options that do not go together"))
	}
	m.address, m.db = config.Addr, sql.OpenDB(connector)
	m.db.SetMaxOpenConns(1)
	return nil
}

// connected looks at the table once, and again after a failure that was not a row's own.
func (m *MySQL) connected(ctx context.Context) error {
	if m.ready {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.ConnectTimeout)
	defer cancel()
	if err := m.db.PingContext(ctx); err != nil {
		return fmt.Errorf("connect to MySQL at %s: %w", m.address, err)
	}
	if m.CreateTable {
		if _, err := m.db.ExecContext(ctx, m.target.create); err != nil {
			return fmt.Errorf("create table %s: %w", m.Table, err)
		}
	}
	var tables, keys int
	if err := m.db.QueryRowContext(ctx, "SELECT @@max_allowed_packet").Scan(&m.maxPacket); err != nil {
		return fmt.Errorf("ask for max_allowed_packet: %w", err)
	}
	if err := m.db.QueryRowContext(ctx, m.target.keys, m.target.where()...).Scan(&tables, &keys); err != nil {
		return fmt.Errorf("ask for the keys of %s: %w", m.Table, err)
	}
	if tables > 0 && keys == 0 {
		return errNoKey
	}
	m.ready = true
	return nil
}

// Health asks the server for an answer, unless a batch is on its way and shows it.
func (m *MySQL) Health(ctx context.Context) error {
	if !m.mu.TryLock() {
		return nil
	}
	defer m.mu.Unlock()
	if err := m.connected(ctx); err != nil {
		return fmt.Errorf("%s: %s", m.address, words(err))
	}
	if err := m.db.PingContext(ctx); err != nil {
		return fmt.Errorf("ping MySQL at %s: %w", m.address, err)
	}
	return nil
}

// Close ends the connection.
func (m *MySQL) Close(context.Context) error { return m.db.Close() }
