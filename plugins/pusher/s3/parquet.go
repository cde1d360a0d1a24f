package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"github.com/rivergate/rivergate/plugins/internal/columns"
	"github.com/rivergate/rivergate/sdk"
)

// A row group is ended beyond either of these, so that neither writer nor reader holds much more.
const (
	groupBytes = 128 << 20
	groupRows  = 1_000_000
)

// requestID stands beside what every table of ours has.
const requestID = "request_id"

// kinds are the types of COLUMNS: how the column is declared, and what a value becomes. An error is the row's own fault.
var kinds = map[string]struct {
	field reflect.Type
	tag   string
	value func(sdk.Value) (parquet.Value, error)
}{
	"text": {reflect.TypeFor[string](), "", func(v sdk.Value) (parquet.Value, error) {
		return parquet.ByteArrayValue([]byte(strings.ToValidUTF8(v.String(), "�"))), nil
	}},
	"json": {reflect.TypeFor[string](), ",json", func(v sdk.Value) (parquet.Value, error) {
		return parquet.ByteArrayValue(v.Raw()), nil
	}},
	"bigint":  {reflect.TypeFor[int64](), "", bigint},
	"double":  {reflect.TypeFor[float64](), "", double},
	"boolean": {reflect.TypeFor[bool](), "", boolean},
}

func bigint(v sdk.Value) (parquet.Value, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(v.String()), 10, 64)
	if err != nil {
		return parquet.Value{}, errors.New("is no whole number of 64 bits")
	}
	return parquet.Int64Value(n), nil
}

func double(v sdk.Value) (parquet.Value, error) {
	n, err := strconv.ParseFloat(strings.TrimSpace(v.String()), 64)
	if err != nil || math.IsInf(n, 0) && v.IsNumber() {
		return parquet.Value{}, errors.New("is no number that a double can hold")
	}
	return parquet.DoubleValue(n), nil
}

func boolean(v sdk.Value) (parquet.Value, error) {
	switch v.String() {
	case "true":
		return parquet.BooleanValue(true), nil
	case "false":
		return parquet.BooleanValue(false), nil
	}
	return parquet.Value{}, errors.New("is neither true nor false")
}

var columnName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkColumn(name string) error {
	switch {
	case !columnName.MatchString(name):
		return errors.New("must be letters, digits and _, and not begin with a digit")
	case name == requestID:
		return errors.New("is there already")
	}
	return nil
}

// table is the columns of the objects.
type table struct {
	columns.Mapping
	emptyAsNull bool
}

func newTable(text string, emptyAsNull bool) (*table, error) {
	mapped, err := columns.Parse(text, checkColumn)
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, c := range mapped {
		if _, ok := kinds[c.Type]; !ok {
			problems = append(problems, fmt.Errorf("column %q: the type is one of text, json, bigint, double and boolean, not %q", c.Name, c.Type))
		}
	}
	if len(mapped) == 0 {
		mapped = []columns.Column{{Name: "data", Member: columns.WholeRow, Type: "json"}}
	}
	return &table{columns.NewMapping(mapped), emptyAsNull}, errors.Join(problems...)
}

// schema declares the columns in our order: parquet.Group would sort them by name.
func (t *table) schema() *parquet.Schema {
	fields := []reflect.StructField{
		{Type: reflect.TypeFor[int64](), Tag: `parquet:"position,delta"`},
		{Type: reflect.TypeFor[int64](), Tag: `parquet:"org_id,dict"`},
		{Type: reflect.TypeFor[string](), Tag: `parquet:"uuid,dict"`},
		{Type: reflect.TypeFor[int32](), Tag: `parquet:"index,optional"`},
		{Type: reflect.TypeFor[int64](), Tag: `parquet:"received_at,timestamp(microsecond)"`},
		{Type: reflect.TypeFor[string](), Tag: `parquet:"request_id,optional"`},
	}
	for _, c := range t.Columns {
		kind := kinds[c.Type]
		fields = append(fields, reflect.StructField{Type: kind.field, Tag: reflect.StructTag(`parquet:"` + c.Name + `,optional` + kind.tag + `"`)})
	}
	for i := range fields {
		fields[i].Name = "F" + strconv.Itoa(i)
	}
	return parquet.SchemaOf(reflect.New(reflect.StructOf(fields)).Interface())
}

// values gives the mapped columns of a row; their places begin behind the six of every row.
func (t *table) values(to parquet.Row, row sdk.Row) (parquet.Row, error) {
	var members []sdk.Value
	if !t.WholeRowOnly() {
		members = t.Values(row)
	}
	for i, c := range t.Columns {
		at := len(to)
		if c.Member == columns.WholeRow {
			to = append(to, parquet.ByteArrayValue(row.JSON()).Level(0, 1, at))
			continue
		}
		v := members[i]
		if v.IsNull() || t.emptyAsNull && !c.Text() && v.IsString() && v.String() == "" {
			to = append(to, parquet.NullValue().Level(0, 0, at))
			continue
		}
		value, err := kinds[c.Type].value(v)
		if err != nil {
			return to, fmt.Errorf("column %s: the member %q %w", c.Name, c.Member, err)
		}
		to = append(to, value.Level(0, 1, at))
	}
	return to, nil
}

// takes tells whether the columns can hold a row; buf is for its values.
func (t *table) takes(row sdk.Row) error {
	if t.WholeRowOnly() {
		return nil
	}
	_, err := t.values(nil, row)
	return err
}

// parquetWriter writes rows into row groups.
type parquetWriter struct {
	*table
	file  *parquet.GenericWriter[any]
	row   [1]parquet.Row
	rows  int
	bytes int
}

func newParquetWriter(to io.Writer, l layout) (*parquetWriter, error) {
	t, err := newTable(l.Columns, l.EmptyAsNull)
	if err != nil {
		return nil, err
	}
	codec := map[Compression]compress.Codec{plain: &parquet.Uncompressed, gzipped: &parquet.Gzip, zstandard: &parquet.Zstd, snappyOnly: &parquet.Snappy}[l.Compression]
	return &parquetWriter{table: t, file: parquet.NewGenericWriter[any](to, t.schema(), parquet.Compression(codec), parquet.CreatedBy("rivergate-pusher-s3", version, ""))}, nil
}

func (w *parquetWriter) write(row sdk.Row) error {
	index := parquet.NullValue().Level(0, 0, 3)
	if n, ok := row.Index(); ok {
		index = parquet.Int32Value(int32(n)).Level(0, 1, 3) //nolint:gosec // the protocol has 32 bits
	}
	request := parquet.NullValue().Level(0, 0, 5)
	if row.RequestID() != "" {
		request = parquet.ByteArrayValue([]byte(row.RequestID())).Level(0, 1, 5)
	}
	values := append(w.row[0][:0],
		parquet.Int64Value(int64(row.Position())).Level(0, 0, 0), //nolint:gosec // below 2^53
		parquet.Int64Value(int64(row.OrgID())).Level(0, 0, 1),    //nolint:gosec // as every table of ours has it
		parquet.ByteArrayValue([]byte(strings.ToValidUTF8(row.UUID(), "�"))).Level(0, 0, 2),
		index,
		parquet.Int64Value(row.ReceivedAt().UnixMicro()).Level(0, 0, 4),
		request,
	)
	values, err := w.values(values, row)
	if err != nil {
		return err // takes said otherwise
	}
	w.row[0] = values
	if _, err := w.file.WriteRows(w.row[:]); err != nil {
		return err
	}
	w.rows++
	w.bytes += len(row.JSON())
	if w.rows < groupRows && w.bytes < groupBytes {
		return nil
	}
	w.rows, w.bytes = 0, 0
	return w.file.Flush()
}

func (w *parquetWriter) close() error { return w.file.Close() }
