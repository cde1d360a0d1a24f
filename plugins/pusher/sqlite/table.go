package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/plugins/internal/columns"
	"github.com/rivergate/rivergate/sdk"
)

// bookkeeping is the types of the columns that every table has, in their order.
var bookkeeping = []string{"INTEGER PRIMARY KEY", "INTEGER NOT NULL", "TEXT NOT NULL", "INTEGER", "TEXT NOT NULL"}

// types are those of a STRICT table, and json, which is text there.
var types = []string{"text", "integer", "int", "real", "any", "blob", "json"}

// instant is received_at in a form that sorts, and that SQLite's date functions read.
const instant = "2006-01-02T15:04:05.000000Z"

// target is the table, with the statements that use it.
type target struct {
	columns.Mapping
	emptyAsNull    bool
	create, insert string
}

func newTarget(name string, mapping columns.Mapping, emptyAsNull bool) target {
	t := target{Mapping: mapping, emptyAsNull: emptyAsNull}
	var names, definitions []string
	for i, name := range columns.Bookkeeping() {
		names, definitions = append(names, quoted(name)), append(definitions, quoted(name)+" "+bookkeeping[i])
	}
	for _, c := range mapping.Columns {
		sqlType := c.Type
		if c.JSON() {
			sqlType = "text"
		}
		names, definitions = append(names, quoted(c.Name)), append(definitions, quoted(c.Name)+" "+strings.ToUpper(sqlType))
	}
	t.create = "CREATE TABLE IF NOT EXISTS " + quoted(name) + " (" + strings.Join(definitions, ", ") + ") STRICT"
	t.insert = "INSERT INTO " + quoted(name) + " (" + strings.Join(names, ", ") + ") VALUES (?" + strings.Repeat(",?", len(names)-1) +
		") ON CONFLICT (position) DO NOTHING"
	return t
}

// quoted is the identifier as a statement takes it.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func checkIdentifier(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case strings.ContainsRune(name, 0):
		return errors.New("holds a NUL")
	case strings.HasPrefix(strings.ToLower(name), "sqlite_"):
		return errors.New("begins with sqlite_, which SQLite keeps for itself")
	}
	return nil
}

func checkTypes(mapped []columns.Column) error {
	for _, c := range mapped {
		if !slices.Contains(types, c.Type) {
			return fmt.Errorf("column %q: SQLite has no type %q; there are %s", c.Name, c.Type, strings.Join(types, ", "))
		}
	}
	return nil
}

// appendValues appends what fills the columns for the row; true and false become 1 and 0.
func (t *target) appendValues(to []any, row sdk.Row) []any {
	var index any
	if n, ok := row.Index(); ok {
		index = int64(n)
	}
	to = append(to, int64(row.Position()), int64(row.OrgID()), row.UUID(), index, row.ReceivedAt().UTC().Format(instant)) //nolint:gosec // both are far below 2^63
	return t.AppendArguments(to, row, t.emptyAsNull)
}
