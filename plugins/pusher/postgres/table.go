package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rivergate/rivergate/plugins/internal/columns"
)

const (
	// stagingTable is the temporary table of a batch of which some rows are there already.
	stagingTable = "rivergate_staging"
	// maxIdentifier is PostgreSQL's limit, bytes; a longer name would be cut in silence.
	maxIdentifier = 63
)

// bookkeeping is the types of the columns that every table has, in their order.
var bookkeeping = []string{"bigint PRIMARY KEY", "bigint NOT NULL", "text NOT NULL", "integer", "timestamptz NOT NULL"}

// target is the table, with the statements that use it.
type target struct {
	name string // without schema, as PostgreSQL names it in the context of an error
	columns.Mapping
	emptyAsNull bool

	create, copy, stage, insert string
	types                       string // asks for the types of the table's columns
	binaryTypes                 string // what it answers when rows may go in COPY's binary format; "": never
}

func newTarget(schema, name string, mapping columns.Mapping, emptyAsNull bool) target {
	t := target{name: name, Mapping: mapping, emptyAsNull: emptyAsNull}
	identifier := pgx.Identifier{name}
	if schema != "" {
		identifier = pgx.Identifier{schema, name}
	}
	table := identifier.Sanitize()
	var names, definitions, literals []string
	add := func(name, sqlType string) {
		literals = append(literals, literal(name))
		names = append(names, pgx.Identifier{name}.Sanitize())
		definitions = append(definitions, pgx.Identifier{name}.Sanitize()+" "+sqlType)
	}
	for i, name := range columns.Bookkeeping() {
		add(name, bookkeeping[i])
	}
	for _, c := range mapping.Columns {
		add(c.Name, c.Type)
	}
	list := strings.Join(names, ", ")
	t.create = "CREATE TABLE IF NOT EXISTS " + table + " (" + strings.Join(definitions, ", ") + ")"
	t.copy = "COPY " + table + " (" + list + ") FROM STDIN"
	t.stage = "CREATE TEMPORARY TABLE " + stagingTable + " ON COMMIT DROP AS SELECT " + list + " FROM " + table + " WITH NO DATA; " +
		"COPY pg_temp." + stagingTable + " (" + list + ") FROM STDIN"
	t.types = "SELECT string_agg(format_type(a.atttypid, NULL), ',' ORDER BY n.place) FROM unnest(ARRAY[" + strings.Join(literals, ", ") + "]) " +
		"WITH ORDINALITY AS n (name, place) JOIN pg_attribute a ON a.attname = n.name AND a.attrelid = to_regclass(" + literal(table) + ")"
	if mapping.WholeRowOnly() {
		t.binaryTypes = "bigint,bigint,text,integer,timestamp with time zone," + mapping.Columns[0].Type
	}
	t.insert = "INSERT INTO " + table + " (" + list + ") SELECT " + list + " FROM pg_temp." + stagingTable +
		" ON CONFLICT (position) DO NOTHING RETURNING position"
	return t
}

// literal quotes a string constant; DSNs that turn standard_conforming_strings off are beyond help.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func checkIdentifier(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > maxIdentifier:
		return fmt.Errorf("is longer than %d bytes", maxIdentifier)
	case strings.ContainsRune(name, 0):
		return errors.New("holds a NUL")
	}
	return nil
}
