package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

const (
	// wholeRow as a member stands for the row itself.
	wholeRow = "*"
	// stagingTable is the temporary table of a batch of which some rows are there already.
	stagingTable = "rivergate_staging"
	// maxIdentifier is PostgreSQL's limit, bytes; a longer name would be cut in silence.
	maxIdentifier = 63
)

// bookkeeping is the columns that every table has, in the order of a line.
var bookkeeping = []column{
	{name: "position", sqlType: "bigint PRIMARY KEY"},
	{name: "org_id", sqlType: "bigint NOT NULL"},
	{name: "uuid", sqlType: "text NOT NULL"},
	{name: "index", sqlType: "integer"},
	{name: "received_at", sqlType: "timestamptz NOT NULL"},
}

// column is one column of the table and the member of the row that fills it.
type column struct {
	name, member, sqlType string
}

// json tells whether the column takes JSON: such a value goes in as the client wrote it, quotes included.
func (c column) json() bool { return c.sqlType == "json" || c.sqlType == "jsonb" }

func (c column) text() bool {
	for _, prefix := range []string{"text", "varchar", "character", "char", "citext", "name"} {
		if strings.HasPrefix(c.sqlType, prefix) {
			return true
		}
	}
	return false
}

// target is the table, with the statements that use it.
type target struct {
	name        string // without schema, as PostgreSQL names it in the context of an error
	columns     []column
	byMember    map[string][]int // columns that a member fills
	emptyAsNull bool

	create, copy, stage, insert string
	types                       string // asks for the types of the table's columns
	binaryTypes                 string // what it answers when rows may go in COPY's binary format; "": never
}

func newTarget(schema, name string, columns []column, emptyAsNull bool) target {
	t := target{name: name, columns: columns, emptyAsNull: emptyAsNull, byMember: map[string][]int{}}
	identifier := pgx.Identifier{name}
	if schema != "" {
		identifier = pgx.Identifier{schema, name}
	}
	table := identifier.Sanitize()
	var names, definitions, literals []string
	for _, c := range bookkeeping {
		literals = append(literals, literal(c.name))
		names = append(names, pgx.Identifier{c.name}.Sanitize())
		definitions = append(definitions, pgx.Identifier{c.name}.Sanitize()+" "+c.sqlType)
	}
	for i, c := range columns {
		literals = append(literals, literal(c.name))
		names = append(names, pgx.Identifier{c.name}.Sanitize())
		definitions = append(definitions, pgx.Identifier{c.name}.Sanitize()+" "+c.sqlType)
		t.byMember[c.member] = append(t.byMember[c.member], i)
	}
	list := strings.Join(names, ", ")
	t.create = "CREATE TABLE IF NOT EXISTS " + table + " (" + strings.Join(definitions, ", ") + ")"
	t.copy = "COPY " + table + " (" + list + ") FROM STDIN"
	t.stage = "CREATE TEMPORARY TABLE " + stagingTable + " ON COMMIT DROP AS SELECT " + list + " FROM " + table + " WITH NO DATA; " +
		"COPY pg_temp." + stagingTable + " (" + list + ") FROM STDIN"
	t.types = "SELECT string_agg(format_type(a.atttypid, NULL), ',' ORDER BY n.place) FROM unnest(ARRAY[" + strings.Join(literals, ", ") + "]) " +
		"WITH ORDINALITY AS n (name, place) JOIN pg_attribute a ON a.attname = n.name AND a.attrelid = to_regclass(" + literal(table) + ")"
	if len(columns) == 1 && columns[0].member == wholeRow {
		t.binaryTypes = "bigint,bigint,text,integer,timestamp with time zone," + columns[0].sqlType
	}
	t.insert = "INSERT INTO " + table + " (" + list + ") SELECT " + list + " FROM pg_temp." + stagingTable +
		" ON CONFLICT (position) DO NOTHING RETURNING position"
	return t
}

// literal quotes a string constant; DSNs that turn standard_conforming_strings off are beyond help.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// parseTable splits name or schema.name.
func parseTable(text string) (schema, name string, err error) {
	name = text
	if before, after, found := strings.Cut(text, "."); found {
		schema, name = before, after
		if err := checkIdentifier(schema); err != nil {
			return "", "", fmt.Errorf("schema %q: %w", schema, err)
		}
	}
	if strings.Contains(name, ".") {
		return "", "", errors.New("must be name or schema.name")
	}
	if err := checkIdentifier(name); err != nil {
		return "", "", fmt.Errorf("table %q: %w", name, err)
	}
	return schema, name, nil
}

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

// sqlTypes: a name of one or more words, perhaps with a schema, a precision and array brackets. It goes into CREATE TABLE
// as it stands, so nothing else may pass.
var sqlTypes = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?( [A-Za-z_][A-Za-z0-9_]*)*( ?\([0-9]+( ?, ?[0-9]+)?\))?( [A-Za-z ]+)?(\[\])*$`)

// parseColumns reads "column=member:type, …".
func parseColumns(text string) ([]column, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var columns []column
	var problems []error
	seen := map[string]bool{}
	for _, c := range bookkeeping {
		seen[c.name] = true
	}
	for _, part := range splitColumns(text) {
		name, rest, found := strings.Cut(strings.TrimSpace(part), "=")
		if !found {
			problems = append(problems, fmt.Errorf("%q: must be column=member or column=member:type", strings.TrimSpace(part)))
			continue
		}
		c := column{name: strings.TrimSpace(name), member: strings.TrimSpace(rest), sqlType: "text"}
		if i := strings.LastIndexByte(rest, ':'); i >= 0 {
			c.member, c.sqlType = strings.TrimSpace(rest[:i]), strings.ToLower(strings.TrimSpace(rest[i+1:]))
		}
		switch {
		case checkIdentifier(c.name) != nil:
			problems = append(problems, fmt.Errorf("column %q: %w", c.name, checkIdentifier(c.name)))
		case seen[c.name]:
			problems = append(problems, fmt.Errorf("column %q: is there already (position, org_id, uuid, index and received_at always are)", c.name))
		case c.member == "":
			problems = append(problems, fmt.Errorf("column %q: names no member", c.name))
		case !sqlTypes.MatchString(c.sqlType):
			problems = append(problems, fmt.Errorf("column %q: %q is no type", c.name, c.sqlType))
		default:
			columns = append(columns, c)
		}
		seen[c.name] = true
	}
	return columns, errors.Join(problems...)
}

// splitColumns splits at commas outside brackets: numeric(10,2) has one inside.
func splitColumns(text string) []string {
	var parts []string
	depth, start := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				parts = append(parts, text[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, text[start:])
}
