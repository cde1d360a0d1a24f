package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rivergate/rivergate/plugins/internal/columns"
	"github.com/rivergate/rivergate/sdk"
)

// maxIdentifier is the server's limit, characters.
const maxIdentifier = 64

// bookkeeping is the types of the columns that every table has, in their order. Times are in UTC.
var bookkeeping = []string{"bigint unsigned NOT NULL PRIMARY KEY", "bigint unsigned NOT NULL", "varchar(128) NOT NULL", "int NULL", "datetime(6) NOT NULL"}

// target is the table, with the statements that use it.
type target struct {
	columns.Mapping
	emptyAsNull bool
	database    string // "": that of the connection
	name        string

	create, insert string
	tuple          string // the placeholders of one row
	keys           string // counts the table, and its unique keys on position alone
	known          string // asks which positions are there; a list in brackets follows
}

func newTarget(database, name string, mapping columns.Mapping, emptyAsNull bool) target {
	t := target{Mapping: mapping, emptyAsNull: emptyAsNull, database: database, name: name}
	table := quoted(name)
	if database != "" {
		table = quoted(database) + "." + table
	}
	var names, definitions []string
	for i, name := range columns.Bookkeeping() {
		names, definitions = append(names, quoted(name)), append(definitions, quoted(name)+" "+bookkeeping[i])
	}
	for _, c := range mapping.Columns {
		names, definitions = append(names, quoted(c.Name)), append(definitions, quoted(c.Name)+" "+c.Type+" NULL")
	}
	t.create = "CREATE TABLE IF NOT EXISTS " + table + " (" + strings.Join(definitions, ", ") +
		") ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
	t.insert = "INSERT INTO " + table + " (" + strings.Join(names, ", ") + ") VALUES "
	t.tuple = "(?" + strings.Repeat(",?", len(names)-1) + ")"
	t.known = "SELECT `position` FROM " + table + " WHERE `position` IN "
	const ours = "TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ?"
	t.keys = "SELECT (SELECT COUNT(*) FROM information_schema.TABLES WHERE " + ours + "), (SELECT COUNT(*) FROM " +
		"(SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE " + ours +
		" AND NON_UNIQUE = 0 GROUP BY INDEX_NAME HAVING COUNT(*) = 1 AND MAX(COLUMN_NAME) = 'position') AS k)"
	return t
}

// where is the arguments of keys.
func (t *target) where() []any {
	var database any
	if t.database != "" {
		database = t.database
	}
	return []any{database, t.name, database, t.name}
}

// quoted is the identifier as a statement takes it.
func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func checkIdentifier(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case utf8.RuneCountInString(name) > maxIdentifier:
		return fmt.Errorf("is longer than %d characters", maxIdentifier)
	case strings.ContainsRune(name, 0):
		return errors.New("holds a NUL")
	case strings.HasSuffix(name, " "):
		return errors.New("ends with a space")
	case strings.ContainsRune(name, '?'):
		return errors.New("holds a question mark") // the driver would take it for a placeholder
	}
	return nil
}

// appendValues appends what fills the columns for the row; true and false become 1 and 0.
func (t *target) appendValues(to []any, row sdk.Row) []any {
	var index any
	if n, ok := row.Index(); ok {
		index = int64(n)
	}
	to = append(to, row.Position(), row.OrgID(), row.UUID(), index, row.ReceivedAt())
	return t.AppendArguments(to, row, t.emptyAsNull)
}
