// Package jsonline is a row as a line of JSON, for pushers that write files and objects.
package jsonline

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rivergate/rivergate/sdk"
)

// Prefix is how every line of Lines begins; the position follows.
const Prefix = `{"position":`

// Lines writes rows with what is known of them around their own bytes, one a line:
//
//	{"position":900,"org_id":1,"uuid":"a1","index":3,"received_at":"2026-01-02T03:04:05.678Z","data":{"keyOne":1.50}}
//
// What the rows of a request share is made once. The zero value is ready; it is not for several goroutines.
type Lines struct {
	frame         *sdk.Frame // of the last row
	before, after []byte     // the index
}

// Append writes one row, newline included.
func (l *Lines) Append(line []byte, row sdk.Row) []byte {
	if frame, _ := row.Frame(); frame != l.frame {
		l.frame = frame
		l.before = strconv.AppendUint(append(l.before[:0], `,"org_id":`...), row.OrgID(), 10)
		l.before = append(appendQuoted(append(l.before, `,"uuid":`...), row.UUID()), `,"index":`...)
		l.after = row.ReceivedAt().UTC().AppendFormat(append(l.after[:0], `,"received_at":"`...), time.RFC3339Nano)
		l.after = append(l.after, `","data":`...)
	}
	line = strconv.AppendUint(append(line, Prefix...), row.Position(), 10)
	line = append(line, l.before...)
	if index, ok := row.Index(); ok {
		line = strconv.AppendInt(line, int64(index), 10)
	} else {
		line = append(line, "null"...)
	}
	line = AppendData(append(line, l.after...), row.JSON())
	return append(line, "}\n"...)
}

// AppendData writes the client's own bytes. A raw newline can only be white space between two tokens (inside a string
// JSON forbids it); as a line must stay one line, the white space goes then, and nothing else.
func AppendData(line, data []byte) []byte {
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return append(line, data...)
	}
	buf := bytes.NewBuffer(line)
	if err := json.Compact(buf, data); err != nil {
		return append(line, bytes.Map(newlineToBlank, data)...)
	}
	return buf.Bytes()
}

func newlineToBlank(r rune) rune {
	if r == '\n' || r == '\r' {
		return ' '
	}
	return r
}

func appendQuoted(line []byte, text string) []byte {
	plain := utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) < 0
	if plain {
		line = append(line, '"')
		line = append(line, text...)
		return append(line, '"')
	}
	quoted, err := json.Marshal(text)
	if err != nil { // a string always marshals
		return append(line, `""`...)
	}
	return append(line, quoted...)
}
