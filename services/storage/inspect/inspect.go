// Package inspect looks at uploads while they stream past: what their first bytes are against what they claim to
// be, and the columns of CSV, JSON and Parquet files. It keeps little of them, opens no archive and believes nothing.
package inspect

import (
	"fmt"
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
	Name        string // the client's name for it
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

// Inspection looks at one file as its bytes pass, in their order.
type Inspection struct {
	claim   Claim
	rules   Rules
	head    []byte // kept until there is enough to judge by
	judged  bool
	result  Result
	columns columns // nil: none are looked for, or they are settled
	err     error   // how it ended
}

// sniffed is how many bytes tell the type.
const sniffed = 3072

// New begins with a file.
func New(claim Claim, rules Rules) *Inspection { return &Inspection{claim: claim, rules: rules} }

// Write takes all of p, or refuses the file: ErrType for its content type, ErrContent for a data source whose content cannot be.
func (i *Inspection) Write(p []byte) (int, error) {
	if i.err == nil {
		i.err = i.pass(p)
	}
	if i.err != nil {
		return 0, i.err
	}
	return len(p), nil
}

func (i *Inspection) pass(p []byte) error {
	if !i.judged {
		n := min(len(p), sniffed-len(i.head))
		i.head, p = append(i.head, p[:n]...), p[n:]
		if len(i.head) < sniffed {
			return nil
		}
		if err := i.judge(false); err != nil {
			return err
		}
	}
	return i.look(p, false)
}

// Settled: the bytes to come change nothing.
func (i *Inspection) Settled() bool { return i.judged && i.columns == nil }

// Finish is called behind the last byte. The errors are those of Write.
func (i *Inspection) Finish() (Result, error) {
	if i.err == nil && !i.judged {
		i.err = i.judge(true)
	} else if i.err == nil {
		i.err = i.look(nil, true)
	}
	return i.result, i.err
}

// judge looks at the first bytes.
func (i *Inspection) judge(ended bool) (err error) {
	head := i.head
	i.judged, i.head = true, nil
	if i.result.ContentType, i.result.Warnings, err = i.rules.judge(i.claim, head); err != nil {
		return err
	}
	if i.claim.DataSource {
		if i.columns, err = columnsOf(i.claim, i.result.ContentType, head); err != nil {
			return err
		}
	}
	return i.look(head, ended)
}

// look shows bytes to the columns.
func (i *Inspection) look(p []byte, ended bool) error {
	if i.columns == nil {
		return nil
	}
	settled, err := i.columns.feed(p, ended)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrContent, err)
	}
	if settled {
		names, warnings := i.columns.names()
		i.result.Columns, i.result.Warnings = names, append(i.result.Warnings, warnings...)
		i.columns = nil
	}
	return nil
}

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
