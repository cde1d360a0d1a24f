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

// Prefix is how every line of Append begins; the position follows.
const Prefix = `{"position":`

// Append writes what is known of a row around its own bytes, newline included:
//
//	{"position":900,"org_id":1,"uuid":"a1","index":3,"received_at":"2026-01-02T03:04:05.678Z","data":{"keyOne":1.50}}
func Append(line []byte, row sdk.Row) []byte {
	line = append(line, Prefix...)
	line = strconv.AppendUint(line, row.Position(), 10)
	line = append(line, `,"org_id":`...)
	line = strconv.AppendUint(line, row.OrgID(), 10)
	line = append(line, `,"uuid":`...)
	line = appendQuoted(line, row.UUID())
	line = append(line, `,"index":`...)
	if index, ok := row.Index(); ok {
		line = strconv.AppendInt(line, int64(index), 10)
	} else {
		line = append(line, "null"...)
	}
	line = append(line, `,"received_at":"`...)
	line = row.ReceivedAt().UTC().AppendFormat(line, time.RFC3339Nano)
	line = append(line, `","data":`...)
	line = AppendData(line, row.JSON())
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
