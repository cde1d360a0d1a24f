package main

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/rivergate/rivergate/plugins/internal/jsonline"
	"github.com/rivergate/rivergate/sdk"
)

// Format is how a row becomes text.
type Format string

// The formats.
const (
	jsonLines Format = "jsonl"
	csv       Format = "csv"
)

const (
	linePrefix = jsonline.Prefix
	csvHeader  = "position,org_id,uuid,index,received_at,data\n"
)

// errNotALine: the text does not start like one of ours.
var errNotALine = errors.New("not a line of this pusher")

// header opens every new file.
func (f Format) header() string {
	if f == csv {
		return csvHeader
	}
	return ""
}

// appendLine writes one row, newline included.
func (f Format) appendLine(lines *jsonline.Lines, line []byte, row sdk.Row) []byte {
	if f == csv {
		return appendCSV(line, row)
	}
	return lines.Append(line, row)
}

func appendCSV(line []byte, row sdk.Row) []byte {
	line = strconv.AppendUint(line, row.Position(), 10)
	line = append(line, ',')
	line = strconv.AppendUint(line, row.OrgID(), 10)
	line = append(line, ',')
	line = appendField(line, []byte(row.UUID()))
	line = append(line, ',')
	if index, ok := row.Index(); ok {
		line = strconv.AppendInt(line, int64(index), 10)
	}
	line = append(line, ',')
	line = row.ReceivedAt().UTC().AppendFormat(line, time.RFC3339Nano)
	line = append(line, ',')
	line = appendField(line, jsonline.AppendData(nil, row.JSON()))
	return append(line, '\n')
}

// appendField quotes as RFC 4180 says, where it must.
func appendField(line, value []byte) []byte {
	if !bytes.ContainsAny(value, "\",\r\n") {
		return append(line, value...)
	}
	line = append(line, '"')
	line = append(line, bytes.ReplaceAll(value, []byte(`"`), []byte(`""`))...)
	return append(line, '"')
}

// formatOf tells by the first byte of a record which format it is in: a configuration may have changed since.
func formatOf(text []byte) Format {
	if len(text) > 0 && (text[0] >= '0' && text[0] <= '9' || bytes.HasPrefix(text, []byte(csvHeader))) {
		return csv
	}
	return jsonLines
}

// recordEnd is the length of the first whole record of text, newline included; 0 when there is none.
func recordEnd(text []byte) int {
	if formatOf(text) != csv {
		return bytes.IndexByte(text, '\n') + 1
	}
	quoted := false
	for i, c := range text {
		switch {
		case c == '"':
			quoted = !quoted
		case c == '\n' && !quoted:
			return i + 1
		}
	}
	return 0
}

// sector is the least that a disk writes at once, bytes, and so the least that it leaves out.
const sector = 512

var zeros [sector]byte

// holed tells whether a part of a record was never written: it stands there as zeros. No record of ours holds a zero byte, but
// for the uuid in CSV, which is shorter than a sector.
func holed(record []byte, ours bool) bool {
	if ours && formatOf(record) == csv {
		return bytes.Contains(record, zeros[:])
	}
	return bytes.IndexByte(record, 0) >= 0
}

// readPosition reads the position back out of a record.
func readPosition(record []byte) (uint64, error) {
	if formatOf(record) != csv {
		var ok bool
		if record, ok = bytes.CutPrefix(record, []byte(linePrefix)); !ok {
			return 0, errNotALine
		}
	}
	digits, _, ok := bytes.Cut(record, []byte(","))
	position, err := strconv.ParseUint(string(digits), 10, 64)
	if !ok || err != nil {
		return 0, errNotALine
	}
	return position, nil
}
