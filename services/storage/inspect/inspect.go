// Package inspect looks at uploads while they stream past: their names, what their first bytes are against what they claim to
// be, and the columns of CSV, JSON and Parquet files. It keeps little of them, opens no archive and believes nothing.
package inspect

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"path"
	"slices"
	"strings"
)

// Rules are those of the host.
type Rules struct {
	// Reject refuses content of another type than it is declared to be; otherwise that is a warning.
	Reject bool
	// Blocked are content types that nothing may have, neither as declared nor as found in its bytes.
	Blocked []string
}

// Claim is what a client says about a file.
type Claim struct {
	Name        string // as FileName returned it
	ContentType string // as declared; empty: not said
	// DataSource has the beginning of a CSV, JSON or Parquet file checked, and its columns recorded.
	DataSource bool
}

// Result is what was found.
type Result struct {
	ContentType string   // what to store; never empty
	Columns     []string // of a data source, where its format tells them
	Warnings    []string // in words for the client
}

// Reader passes a body on as it is, and looks at it.
type Reader struct {
	body    io.Reader
	head    []byte // read, and not passed on yet
	result  Result
	columns columns // nil: none are looked for
	err     error   // how it ended
	done    bool    // the columns are settled
}

// sniffed is how many bytes tell the type.
const sniffed = 3072

// New reads the first bytes of body. ErrType refuses the content type, ErrContent a data source whose content cannot be; the
// latter may come from Read as well. An error of body comes through as it is.
func New(body io.Reader, claim Claim, rules Rules) (*Reader, error) {
	r := &Reader{body: body}
	var err error
	if r.head, err = first(body, sniffed); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r.err = err
	ended := err != nil
	if r.result.ContentType, r.result.Warnings, err = rules.judge(claim, r.head); err != nil {
		return nil, err
	}
	if claim.DataSource {
		if r.columns, err = columnsOf(claim, r.result.ContentType, r.head); err != nil {
			return nil, err
		}
	}
	if r.columns == nil {
		r.done = true
		return r, nil
	}
	if err := r.look(r.head, ended); err != nil {
		return nil, err
	}
	return r, nil
}

// first reads n bytes, or up to the end: then with io.EOF.
func first(body io.Reader, n int) ([]byte, error) {
	head := make([]byte, n)
	have := 0
	for have < n {
		k, err := body.Read(head[have:])
		have += k
		if err != nil {
			return head[:have], err
		}
	}
	return head, nil
}

// ContentType is known from the beginning.
func (r *Reader) ContentType() string { return r.result.ContentType }

func (r *Reader) Read(p []byte) (n int, err error) {
	if len(r.head) > 0 {
		n, r.head = copy(p, r.head), r.head[min(len(p), len(r.head)):]
		return n, nil
	}
	if r.err != nil {
		return 0, r.err
	}
	n, r.err = r.body.Read(p)
	if r.err == nil || errors.Is(r.err, io.EOF) {
		if err := r.look(p[:n], r.err != nil); err != nil {
			r.err = err
			return 0, err // the end of the body is not passed on: it is not to be taken for a whole
		}
	}
	if n > 0 && errors.Is(r.err, io.EOF) {
		return n, nil
	}
	return n, r.err
}

// look shows bytes to the columns.
func (r *Reader) look(p []byte, ended bool) error {
	if r.done {
		return nil
	}
	settled, err := r.columns.feed(p, ended)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrContent, err)
	}
	if !settled {
		return nil
	}
	r.done = true
	names, warnings := r.columns.names()
	r.result.Columns, r.result.Warnings = names, append(r.result.Warnings, warnings...)
	r.columns = nil
	return nil
}

// Result is complete once Read has returned io.EOF.
func (r *Reader) Result() Result { return r.result }

// columns finds the columns of one format.
type columns interface {
	// feed shows the bytes that come next. settled: it needs no more of them. The error says why the content cannot be that format.
	feed(p []byte, ended bool) (settled bool, err error)
	names() (names, warnings []string)
}

// columnsOf chooses by what the file says it is: its declared type, else its name. nil: a format without columns.
func columnsOf(claim Claim, contentType string, head []byte) (columns, error) {
	format := formats[contentType]
	if format == "" {
		format = formats[base(claim.ContentType)]
	}
	if byName := extensions[strings.ToLower(path.Ext(claim.Name))]; format == "" || format == "csv" && byName == "tsv" {
		format = byName
	}
	switch format {
	case "csv":
		return &csvHeader{}, nil
	case "tsv":
		return &csvHeader{comma: '\t'}, nil
	case "json":
		return &jsonHeader{}, nil
	case "parquet":
		return newParquetFooter(head)
	}
	return nil, nil
}

var formats = map[string]string{
	"text/csv": "csv", "application/csv": "csv", "text/tab-separated-values": "tsv",
	"application/json": "json", "text/json": "json", "application/x-ndjson": "json", "application/ndjson": "json", "application/jsonl": "json",
	"application/vnd.apache.parquet": "parquet", "application/x-parquet": "parquet", "application/parquet": "parquet",
}

var extensions = map[string]string{
	".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".json": "json", ".ndjson": "json", ".jsonl": "json", ".parquet": "parquet", ".pq": "parquet",
}

// base is a content type without its parameters, in lower case; what is none is empty.
func base(contentType string) string {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.Contains(mediaType, "/") {
		return ""
	}
	return mediaType
}

// unnamed warns of columns that a reader will call something else.
func unnamed(names []string) (warnings []string) {
	seen := map[string]bool{}
	var twice []string
	empty := 0
	for _, name := range names {
		if name == "" {
			empty++
		} else if seen[name] && !slices.Contains(twice, name) {
			twice = append(twice, name)
		}
		seen[name] = true
	}
	if empty > 0 {
		warnings = append(warnings, fmt.Sprintf("%d columns have no name", empty))
	}
	if len(twice) > 0 {
		warnings = append(warnings, fmt.Sprintf("columns have the same name: %.200q", twice[:min(len(twice), 5)]))
	}
	return warnings
}
