package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/rivergate/rivergate/plugins/internal/columns"
	"github.com/rivergate/rivergate/sdk"
)

// SQLite inserts batches into one table of one file, a transaction each. The row position is the table's primary key, so a row
// that comes again changes nothing.
type SQLite struct {
	Path             string        `config:"path" default:"out/rivergate.sqlite" doc:"The database file; it is made when it is not there, and its folder too. A relative path starts in the folder in which the host was started."`
	Table            string        `config:"table" default:"rivergate_rows" doc:"Target table; taken exactly as written."`
	CreateTable      bool          `config:"create_table" default:"true" doc:"Create the table when it is not there."`
	Columns          string        `config:"columns" doc:"Columns to fill from members of the row, as column=member:type, comma separated; the type is text when left out, the member * is the whole row. Empty: one column data." example:"time=timeElapsed:real,od=odMeasured:text"`
	EmptyAsNull      bool          `config:"empty_as_null" default:"false" doc:"An empty string becomes NULL in a mapped column that is not text."`
	MaxSize          sdk.Bytes     `config:"max_size" default:"0" doc:"Size at which the database takes no more rows, in pages of 4 KiB; 0: when the disk is full."`
	StatementTimeout time.Duration `config:"statement_timeout" default:"10s" min:"100ms" max:"1h" doc:"Longest wait for another process that holds the file locked; keep it below TIMEOUT."`

	target target
	db     *sql.DB

	mu    sync.Mutex // guards what follows
	ready bool       // the table is there
}

// pageSize is SQLite's own default, bytes.
const pageSize = 4096

// Open checks what can be checked without the file, which the process before may still be writing to.
func (s *SQLite) Open(context.Context, sdk.Env) error {
	switch {
	case s.Path == "", strings.HasSuffix(s.Path, "/"), strings.ContainsRune(s.Path, 0):
		return sdk.FieldError("path", errors.New("must name a file"))
	case s.Path == ":memory:", strings.HasPrefix(s.Path, "file:"):
		return sdk.FieldError("path", errors.New("must be the path of a file, not :memory: or a URI"))
	}
	if info, err := os.Stat(s.Path); err == nil && !info.Mode().IsRegular() {
		return sdk.FieldError("path", errors.New("is there and no file"))
	}
	if err := checkIdentifier(s.Table); err != nil {
		return sdk.FieldError("table", err)
	}
	mapped, err := columns.Parse(s.Columns, checkIdentifier)
	if err == nil {
		err = checkTypes(mapped)
	}
	if err != nil {
		return sdk.FieldError("columns", err)
	}
	if len(mapped) == 0 {
		mapped = []columns.Column{{Name: "data", Member: columns.WholeRow, Type: "text"}}
	}
	s.target = newTarget(s.Table, columns.NewMapping(mapped), s.EmptyAsNull)
	path, err := filepath.Abs(s.Path)
	if err != nil {
		return sdk.FieldError("path", err)
	}
	options := url.Values{
		// WAL: readers do not stop the pusher, nor it them. FULL: a commit waits for the disk.
		"_pragma": {"busy_timeout(" + strconv.FormatInt(s.StatementTimeout.Milliseconds(), 10) + ")", "journal_mode(WAL)", "synchronous(FULL)"},
		"_txlock": {"immediate"},
	}
	if pages := int64(s.MaxSize) / pageSize; s.MaxSize > 0 {
		options.Add("_pragma", "max_page_count("+strconv.FormatInt(max(pages, 1), 10)+")")
	}
	if s.db, err = sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}).String()); err != nil {
		return fmt.Errorf("open %s: %w", s.Path, err)
	}
	s.db.SetMaxOpenConns(1)
	return nil
}

// connected makes folder and table once, and again after a failure that was not a row's own.
func (s *SQLite) connected(ctx context.Context) error {
	if s.ready {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o755); err != nil { //nolint:gosec // as the pusher file does: the umask decides
		return err
	}
	if s.CreateTable {
		if _, err := s.db.ExecContext(ctx, s.target.create); err != nil {
			return err
		}
	}
	// Reading makes SQLite take in what others have changed in the schema; preparing an INSERT does not always.
	if err := s.read(ctx); err != nil {
		return err
	}
	s.ready = true
	return nil
}

func (s *SQLite) read(ctx context.Context) error {
	var one int
	if err := s.db.QueryRowContext(ctx, "SELECT 1 FROM sqlite_schema LIMIT 1").Scan(&one); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return nil
}

// Health asks whether the file can be used, unless a batch is on its way and shows it.
func (s *SQLite) Health(ctx context.Context) error {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	if err := s.connected(ctx); err != nil {
		return fmt.Errorf("%s: %s", s.Path, words(err))
	}
	if err := s.read(ctx); err != nil {
		return fmt.Errorf("%s: %s", s.Path, words(err))
	}
	return nil
}

// Close closes the file.
func (s *SQLite) Close(context.Context) error { return s.db.Close() }
