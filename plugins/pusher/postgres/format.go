package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rivergate/rivergate/plugins/internal/columns"
	"github.com/rivergate/rivergate/sdk"
)

// The two formats of COPY; see "File Formats" under COPY in the PostgreSQL manual. Text goes through the input function of each
// column's type and so fits any table. Binary costs the server a third less, and is taken when the columns' types are exactly
// those that CREATE_TABLE gives them.
const (
	binaryOption = " WITH (FORMAT binary)"
	binaryHead   = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // signature, flags, length of the extension
	binaryTail   = "\xff\xff"
	jsonbVersion = 1
)

var errNulInUUID = errors.New("the uuid holds \\u0000, which PostgreSQL cannot store")

// format is how rows are written on one connection.
type format struct {
	*target
	binary bool
}

// fitsBinary tells from the answer to target.types whether rows may go in binary.
func (t *target) fitsBinary(types []*pgconn.Result) bool {
	return t.binaryTypes != "" && len(types) == 1 && len(types[0].Rows) == 1 && string(types[0].Rows[0][0]) == t.binaryTypes
}

// option is what a COPY statement says of the format.
func (f format) option() string {
	if f.binary {
		return binaryOption
	}
	return ""
}

// framed is rows as a whole COPY stream.
func (f format) framed(rows io.Reader) io.Reader {
	if !f.binary {
		return rows
	}
	return io.MultiReader(strings.NewReader(binaryHead), rows, strings.NewReader(binaryTail))
}

// appendInstant writes what rows of a frame share: when they were received.
func (f format) appendInstant(to []byte, row sdk.Row) []byte {
	if f.binary {
		return binary.BigEndian.AppendUint64(to, uint64(row.ReceivedAt().Sub(epoch).Microseconds())) //nolint:gosec // two's complement is meant
	}
	return row.ReceivedAt().UTC().AppendFormat(to, "2006-01-02 15:04:05.999999Z")
}

// epoch is the zero of PostgreSQL's timestamps.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// appendRow writes the row, received at instant. An error means that PostgreSQL could not store it.
func (f format) appendRow(to []byte, row sdk.Row, instant []byte) ([]byte, error) {
	if strings.IndexByte(row.UUID(), 0) >= 0 {
		return nil, errNulInUUID
	}
	if f.binary {
		return f.appendTuple(to, row, instant), nil
	}
	return f.appendLine(to, row, instant)
}

// appendTuple writes the row in the binary format: a count of fields, then length and value of each.
func (f format) appendTuple(to []byte, row sdk.Row, instant []byte) []byte {
	to = binary.BigEndian.AppendUint16(to, uint16(len(bookkeeping)+1))
	to = binary.BigEndian.AppendUint64(appendLength(to, 8), row.Position())
	to = binary.BigEndian.AppendUint64(appendLength(to, 8), row.OrgID())
	to = append(appendLength(to, len(row.UUID())), row.UUID()...)
	if index, ok := row.Index(); ok {
		to = binary.BigEndian.AppendUint32(appendLength(to, 4), uint32(index)) //nolint:gosec // 0 to 2^31-1, checked at the intake
	} else {
		to = appendLength(to, -1) // NULL
	}
	to = append(appendLength(to, len(instant)), instant...)
	data := row.JSON()
	if f.Columns[0].Type == "jsonb" {
		return append(append(appendLength(to, len(data)+1), jsonbVersion), data...)
	}
	return append(appendLength(to, len(data)), data...)
}

func appendLength(to []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(to, uint32(int32(n))) //nolint:gosec // a row is bounded far below 2 GiB
}

// appendLine writes the row, received at instant, as a line of COPY text.
func (t *target) appendLine(line []byte, row sdk.Row, instant []byte) ([]byte, error) {
	line = strconv.AppendUint(line, row.Position(), 10)
	line = append(line, '\t')
	line = strconv.AppendUint(line, row.OrgID(), 10)
	line = append(line, '\t')
	line = appendEscaped(line, []byte(row.UUID()))
	line = append(line, '\t')
	if index, ok := row.Index(); ok {
		line = strconv.AppendInt(line, int64(index), 10)
	} else {
		line = append(line, `\N`...)
	}
	line = append(line, '\t')
	line = append(line, instant...)
	if t.WholeRowOnly() {
		line = appendEscaped(append(line, '\t'), row.JSON())
		return append(line, '\n'), nil
	}
	values := t.Values(row)
	for i, c := range t.Columns {
		line = append(line, '\t')
		if c.Member == columns.WholeRow {
			line = appendEscaped(line, row.JSON())
			continue
		}
		if values[i].IsNull() {
			line = append(line, `\N`...)
			continue
		}
		text := values[i].Raw()
		if !c.JSON() {
			text = []byte(values[i].String())
		}
		if len(text) == 0 && t.emptyAsNull && !c.Text() {
			line = append(line, `\N`...)
			continue
		}
		if bytes.IndexByte(text, 0) >= 0 {
			return nil, fmt.Errorf("member %q holds \\u0000, which PostgreSQL cannot store", c.Member)
		}
		line = appendEscaped(line, text)
	}
	return append(line, '\n'), nil
}

// appendEscaped escapes what has a meaning in COPY text. Most values hold none of it, and four searches for one byte each
// are faster by far than one look at every byte.
func appendEscaped(line, value []byte) []byte {
	if bytes.IndexByte(value, '\\') < 0 && bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\t') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return append(line, value...)
	}
	start := 0
	for i, b := range value {
		var escape byte
		switch b {
		case '\\':
			escape = '\\'
		case '\n':
			escape = 'n'
		case '\r':
			escape = 'r'
		case '\t':
			escape = 't'
		default:
			continue
		}
		line = append(append(line, value[start:i]...), '\\', escape)
		start = i + 1
	}
	return append(line, value[start:]...)
}
