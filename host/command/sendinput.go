package command

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

const (
	maxUUID = 128      // characters, as the host has it
	maxLine = 16 << 20 // bytes; more than a host takes in one request by default
)

// inputRow is one row of the input, ready to be posted.
type inputRow struct {
	line  int
	uuid  string
	index *int64
	data  []byte // a JSON object
}

// rowError is a line that is no row. Reading can go on after it.
type rowError struct {
	line   int
	reason string
}

func (e *rowError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.reason) }

// rowReader reads the input row by row: io.EOF at the end, *rowError for a bad line. read is the bytes consumed.
type rowReader interface {
	next() (inputRow, error)
	read() int64
}

func openRows(r io.Reader, o *sendOptions) rowReader {
	in := &counted{r: r}
	if o.format == "csv" {
		c := csv.NewReader(in)
		c.ReuseRecord = true
		return &csvRows{in: in, csv: c, options: o}
	}
	return &jsonRows{in: in, buffered: bufio.NewReaderSize(in, 1<<20), options: o}
}

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// jsonRows reads JSON Lines. Empty lines are passed over.
type jsonRows struct {
	in       *counted
	buffered *bufio.Reader
	options  *sendOptions
	line     int
}

func (j *jsonRows) read() int64 { return j.in.n }

func (j *jsonRows) next() (inputRow, error) {
	for {
		line, err := j.readLine()
		if err != nil {
			return inputRow{}, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return j.parse(line)
		}
	}
}

// readLine returns the next line in memory of its own. A line that is too long is passed over.
func (j *jsonRows) readLine() ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := j.buffered.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read input: %w", err)
		case err != nil && len(line) == 0 && !long:
			return nil, io.EOF
		}
		j.line++
		if j.line == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if long {
			return nil, &rowError{line: j.line, reason: fmt.Sprintf("longer than %s", size(maxLine))}
		}
		return line, nil
	}
}

func (j *jsonRows) parse(line []byte) (inputRow, error) {
	row := inputRow{line: j.line, uuid: j.options.uuid, data: line}
	bad := func(format string, args ...any) (inputRow, error) {
		return inputRow{}, &rowError{line: j.line, reason: fmt.Sprintf(format, args...)}
	}
	if !json.Valid(line) {
		return bad("not JSON: %v", json.Unmarshal(line, new(any)))
	}
	if !utf8.Valid(line) {
		return bad("not UTF-8")
	}
	if line[0] != '{' {
		return bad("not a JSON object")
	}
	uuidField, indexField := j.options.uuidField, j.options.indexField
	if j.options.wrapped && indexField == "" {
		indexField = "index"
	}
	if uuidField == "" && indexField == "" {
		return row, nil
	}

	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		return bad("not a JSON object: %v", err)
	}
	if uuidField != "" {
		value, ok := members[uuidField]
		if !ok {
			return bad("no field %q for the uuid", uuidField)
		}
		if err := json.Unmarshal(value, &row.uuid); err != nil {
			row.uuid = string(value) // a number's own text
			if value[0] == '{' || value[0] == '[' || value[0] == 't' || value[0] == 'f' {
				return bad("field %q, the uuid, is neither a text nor a number", uuidField)
			}
		}
		if reason := checkUUID(row.uuid); reason != "" {
			return bad("field %q: %s", uuidField, reason)
		}
	}
	if value, ok := members[indexField]; ok && string(value) != "null" {
		index, reason := parseIndex(string(value))
		if reason != "" {
			return bad("field %q: %s", indexField, reason)
		}
		row.index = index
	} else if !ok && j.options.indexField != "" {
		return bad("no field %q for the index", indexField)
	}
	if j.options.wrapped {
		data, ok := members["data"]
		if !ok || data[0] != '{' {
			return bad(`no object "data"`)
		}
		row.data = data
	}
	return row, nil
}

// csvRows reads CSV with a header. The columns keep their order.
type csvRows struct {
	in          *counted
	csv         *csv.Reader
	options     *sendOptions
	keys        [][]byte // `"name":` of each column
	uuid, index int      // columns, -1 for none
}

func (c *csvRows) read() int64 { return c.in.n }

func (c *csvRows) next() (inputRow, error) {
	if c.keys == nil {
		if err := c.header(); err != nil {
			return inputRow{}, err
		}
	}
	record, err := c.csv.Read()
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse):
		return inputRow{}, &rowError{line: parse.StartLine, reason: parse.Err.Error()}
	case err != nil:
		return inputRow{}, err // io.EOF, or what reading gave
	}
	line, _ := c.csv.FieldPos(0)
	row := inputRow{line: line, uuid: c.options.uuid}
	if c.uuid >= 0 {
		row.uuid = record[c.uuid]
		if reason := checkUUID(row.uuid); reason != "" {
			return inputRow{}, &rowError{line: line, reason: fmt.Sprintf("column %q: %s", c.options.uuidField, reason)}
		}
	}
	if c.index >= 0 && record[c.index] != "" {
		index, reason := parseIndex(record[c.index])
		if reason != "" {
			return inputRow{}, &rowError{line: line, reason: fmt.Sprintf("column %q: %s", c.options.indexField, reason)}
		}
		row.index = index
	}
	row.data = append(row.data, '{')
	for i, value := range record {
		if !utf8.ValidString(value) {
			return inputRow{}, &rowError{line: line, reason: "not UTF-8"}
		}
		if i > 0 {
			row.data = append(row.data, ',')
		}
		row.data = append(row.data, c.keys[i]...)
		row.data = appendString(row.data, value)
	}
	row.data = append(row.data, '}')
	return row, nil
}

func (c *csvRows) header() error {
	record, err := c.csv.Read()
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if err != nil {
		return fmt.Errorf("read header of the CSV: %w", err)
	}
	c.uuid, c.index = -1, -1
	seen := map[string]bool{}
	for i, name := range record {
		if i == 0 {
			name = trimBOM(name)
		}
		if name == "" || seen[name] || !utf8.ValidString(name) {
			return fmt.Errorf("header of the CSV: column %d is %q; names must be there, different and UTF-8", i+1, name)
		}
		seen[name] = true
		c.keys = append(c.keys, append(appendString(nil, name), ':'))
		switch name {
		case c.options.uuidField:
			c.uuid = i
		case c.options.indexField:
			c.index = i
		}
	}
	if c.options.uuidField != "" && c.uuid < 0 {
		return fmt.Errorf("the CSV has no column %q for the uuid", c.options.uuidField)
	}
	if c.options.indexField != "" && c.index < 0 {
		return fmt.Errorf("the CSV has no column %q for the index", c.options.indexField)
	}
	return nil
}

func trimBOM(s string) string { return string(bytes.TrimPrefix([]byte(s), []byte("\xef\xbb\xbf"))) }

func checkUUID(s string) string {
	switch n := utf8.RuneCountInString(s); {
	case n == 0:
		return "the uuid is empty"
	case n > maxUUID:
		return fmt.Sprintf("the uuid is longer than %d characters", maxUUID)
	}
	return ""
}

func parseIndex(s string) (index *int64, reason string) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return nil, fmt.Sprintf("the index %.40q is not an integer of 0 or more", s)
	}
	return &n, ""
}

// appendString appends s as a JSON string, without escapes that only HTML needs.
func appendString(b []byte, s string) []byte {
	simple := true
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			simple = false
			break
		}
	}
	if simple {
		return append(append(append(b, '"'), s...), '"')
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string always encodes
	return append(b, bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))...)
}
