// Package columns is what the pushers that fill tables share: COLUMNS, which says what members of a row go into which columns,
// and TABLE.
package columns

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/rivergate/rivergate/sdk"
)

// WholeRow as a member stands for the row itself.
const WholeRow = "*"

// Position is the first of Bookkeeping, and the key of every table.
const Position = "position"

// Bookkeeping is the columns that every table has, in their order.
func Bookkeeping() []string { return []string{Position, "org_id", "uuid", "index", "received_at"} }

// Column is one column of the table and the member of the row that fills it.
type Column struct {
	Name, Member, Type string
}

// JSON tells whether the column takes JSON: such a value goes in as the client wrote it, quotes included.
func (c Column) JSON() bool { return c.Type == "json" || c.Type == "jsonb" }

// Text tells whether the column takes any text.
func (c Column) Text() bool {
	for _, prefix := range []string{"text", "varchar", "character", "char", "citext", "name", "tinytext", "mediumtext", "longtext"} {
		if strings.HasPrefix(c.Type, prefix) {
			return true
		}
	}
	return false
}

// Mapping is the columns that rows fill.
type Mapping struct {
	Columns  []Column
	byMember map[string][]int
}

// NewMapping makes the mapping of these columns.
func NewMapping(columns []Column) Mapping {
	m := Mapping{Columns: columns, byMember: map[string][]int{}}
	for i, c := range columns {
		m.byMember[c.Member] = append(m.byMember[c.Member], i)
	}
	return m
}

// WholeRowOnly: there is one column, and it holds the row.
func (m Mapping) WholeRowOnly() bool { return len(m.Columns) == 1 && m.Columns[0].Member == WholeRow }

// Values are the values of the columns in a row: of a repeated member the last one, and the zero Value where there is none,
// or the column takes the whole row.
func (m Mapping) Values(row sdk.Row) []sdk.Value {
	values := make([]sdk.Value, len(m.Columns))
	for member, value := range row.Fields() {
		for _, i := range m.byMember[member] {
			values[i] = value
		}
	}
	return values
}

// AppendArguments appends what fills the columns for the row, as arguments of a statement: text as text, which the database
// converts; true and false as such where a column takes no text. emptyAsNull makes "" NULL there.
func (m Mapping) AppendArguments(to []any, row sdk.Row, emptyAsNull bool) []any {
	if m.WholeRowOnly() {
		return append(to, string(row.JSON()))
	}
	values := m.Values(row)
	for i, c := range m.Columns {
		value := values[i]
		switch {
		case c.Member == WholeRow:
			to = append(to, string(row.JSON()))
		case value.IsNull():
			to = append(to, nil)
		case c.JSON():
			to = append(to, string(value.Raw()))
		case c.Text():
			to = append(to, value.String())
		default:
			truth, err := value.Bool()
			switch text := value.String(); {
			case err == nil:
				to = append(to, truth)
			case text == "" && emptyAsNull:
				to = append(to, nil)
			case c.Type == "blob":
				to = append(to, []byte(text))
			default:
				to = append(to, text)
			}
		}
	}
	return to
}

// sqlTypes: a name of one or more words, perhaps with a schema, a precision and array brackets. It goes into CREATE TABLE
// as it stands, so nothing else may pass.
var sqlTypes = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?( [A-Za-z_][A-Za-z0-9_]*)*( ?\([0-9]+( ?, ?[0-9]+)?\))?( [A-Za-z ]+)?(\[\])*$`)

// Parse reads "column=member:type, …". check is the database's own rule for names.
func Parse(text string, check func(name string) error) ([]Column, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var columns []Column
	var problems []error
	seen := map[string]bool{}
	for _, name := range Bookkeeping() {
		seen[name] = true
	}
	for _, part := range split(text) {
		name, rest, found := strings.Cut(strings.TrimSpace(part), "=")
		if !found {
			problems = append(problems, fmt.Errorf("%q: must be column=member or column=member:type", strings.TrimSpace(part)))
			continue
		}
		c := Column{Name: strings.TrimSpace(name), Member: strings.TrimSpace(rest), Type: "text"}
		if i := strings.LastIndexByte(rest, ':'); i >= 0 {
			c.Member, c.Type = strings.TrimSpace(rest[:i]), strings.ToLower(strings.TrimSpace(rest[i+1:]))
		}
		switch {
		case check(c.Name) != nil:
			problems = append(problems, fmt.Errorf("column %q: %w", c.Name, check(c.Name)))
		case seen[c.Name]:
			problems = append(problems, fmt.Errorf("column %q: is there already (position, org_id, uuid, index and received_at always are)", c.Name))
		case c.Member == "":
			problems = append(problems, fmt.Errorf("column %q: names no member", c.Name))
		case !sqlTypes.MatchString(c.Type):
			problems = append(problems, fmt.Errorf("column %q: %q is no type", c.Name, c.Type))
		default:
			columns = append(columns, c)
		}
		seen[c.Name] = true
	}
	return columns, errors.Join(problems...)
}

// split splits at commas outside brackets: numeric(10,2) has one inside.
func split(text string) []string {
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

// ParseTable splits name or schema.name. what is the database's own word for a schema.
func ParseTable(text, what string, check func(name string) error) (schema, name string, err error) {
	name = text
	if before, after, found := strings.Cut(text, "."); found {
		schema, name = before, after
		if err := check(schema); err != nil {
			return "", "", fmt.Errorf("%s %q: %w", what, schema, err)
		}
	}
	if strings.Contains(name, ".") {
		return "", "", fmt.Errorf("must be name or %s.name", what)
	}
	if err := check(name); err != nil {
		return "", "", fmt.Errorf("table %q: %w", name, err)
	}
	return schema, name, nil
}
