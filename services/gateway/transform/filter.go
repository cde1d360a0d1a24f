package transform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// filter is a boolean expression of expr-lang over a row and what is known of it. Its cost is bounded by its own size times
// that of the row: there are no loops (predicates, ranges), no functions that make text longer, and none that give another
// answer at another time, so that a replay decides alike.
type filter struct {
	program *vm.Program
	fields  map[string]bool // of the row that it reads; nil: it may read any
}

// scope is what an expression sees.
type scope struct {
	Row        map[string]any `expr:"row"`
	UUID       string         `expr:"uuid"`
	Index      any            `expr:"index"` // nil: the client gave none
	Org        int            `expr:"org"`
	User       int            `expr:"user"`
	Position   int            `expr:"position"`
	ReceivedAt time.Time      `expr:"received_at"`
	RequestID  string         `expr:"request_id"`
}

// functions are those of expr-lang that an expression may use.
var functions = []string{
	"len", "type", "abs", "ceil", "floor", "round", "int", "float", "string", "max", "min", "lower", "upper", "trim", "trimPrefix",
	"trimSuffix", "hasPrefix", "hasSuffix", "indexOf", "lastIndexOf", "get", "date", "duration",
}

const maxNodes = 500

// compileFilter makes the filter, or says what is wrong, with the place.
func compileFilter(source string) (*filter, string) {
	look := &reader{fields: map[string]bool{}}
	options := []expr.Option{expr.Env(scope{}), expr.AsBool(), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins(), expr.Patch(look)}
	for _, name := range functions {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err := expr.Compile(source, options...)
	if err != nil {
		return nil, place(source, err) + hint(err)
	}
	if look.loop != nil {
		return nil, place(source, &file.Error{Location: *look.loop, Message: "loops are not allowed here (ranges, predicates): they have no bound"})
	}
	f := &filter{program: program, fields: look.fields}
	if look.rows != look.members {
		f.fields = nil
	}
	return f, ""
}

// reader notes which fields of the row an expression reads, and whether it loops.
type reader struct {
	fields        map[string]bool
	rows, members int
	loop          *file.Location
}

func (r *reader) Visit(n *ast.Node) {
	switch n := (*n).(type) {
	case *ast.IdentifierNode:
		if n.Value == "row" {
			r.rows++
		}
	case *ast.MemberNode:
		if of, ok := n.Node.(*ast.IdentifierNode); ok && of.Value == "row" {
			if name, ok := n.Property.(*ast.StringNode); ok {
				r.members++
				r.fields[name.Value] = true
			}
		}
	case *ast.PredicateNode:
		at := n.Location()
		r.loop = &at
	case *ast.BinaryNode:
		if n.Operator == ".." {
			at := n.Location()
			r.loop = &at
		}
	}
}

// place is an error of expr-lang on one line, with where it is.
func place(source string, err error) string {
	var e *file.Error
	if !errors.As(err, &e) {
		return strings.Join(strings.Fields(err.Error()), " ")
	}
	line, column := e.Line, e.Column+1
	if line == 0 {
		before := []rune(source)
		before = before[:min(max(e.From, 0), len(before))]
		line, column = 1+strings.Count(string(before), "\n"), len(before)-strings.LastIndex(string(before), "\n")
	}
	return fmt.Sprintf("line %d, column %d: %s", line, column, strings.Join(strings.Fields(e.Message), " "))
}

func hint(err error) string {
	if text := err.Error(); strings.Contains(text, "unknown name") {
		return "; a field of the row is row.name or row[\"a name\"], beside it there are uuid, index, org, user, position, received_at and request_id"
	}
	return ""
}

// Keeps tells whether row i of a frame goes to the pusher. The error says why the expression cannot tell, with the place.
func (t *Transform) Keeps(f *protocol.Frame, i int) (bool, error) {
	if t == nil || t.filter == nil {
		return true, nil
	}
	row, err := t.filter.decode(f.Row(i))
	if err != nil {
		return false, fmt.Errorf("FILTER: %w", err)
	}
	s := scope{Row: row, UUID: f.UUID, Org: int(f.OrgID), User: int(f.UserID), Position: int(f.Position) + i, ReceivedAt: f.ReceivedAt, RequestID: f.RequestID}
	if f.Index != nil && f.Index[i] != protocol.NoIndex {
		s.Index = int(f.Index[i])
	}
	out, err := vm.Run(t.filter.program, s)
	if err != nil {
		return false, fmt.Errorf("FILTER, %s", place(t.filter.program.Source().String(), err))
	}
	keeps, ok := out.(bool)
	if !ok {
		return false, fmt.Errorf("FILTER gives %T, neither true nor false", out)
	}
	return keeps, nil
}

// decode reads the fields that the expression uses.
func (f *filter) decode(row []byte) (map[string]any, error) {
	start := blank(row, 0)
	if start >= len(row) || row[start] != '{' {
		return nil, errNotObject
	}
	out := make(map[string]any, len(f.fields))
	_, err := members(row, start, func(key, keyEnd, value, valueEnd int) error {
		name := unquote(row[key:keyEnd])
		if f.fields != nil && !f.fields[string(name)] {
			return nil
		}
		v, err := decodeValue(row[value:valueEnd])
		out[string(name)] = v
		return err
	})
	return out, err
}

func decodeValue(raw []byte) (any, error) {
	switch raw[0] {
	case '"':
		return string(unquote(raw)), nil
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case 'n':
		return nil, nil
	case '{', '[':
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var v any
		if err := decoder.Decode(&v); err != nil {
			return nil, errMalformed
		}
		return numbers(v), nil
	}
	return number(string(raw)), nil
}

// number is an int where the text is one that fits, else the nearest float.
func number(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return int(n)
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return text
	}
	return x
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return number(v.String())
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}
