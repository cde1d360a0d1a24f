package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/plugins/internal/template"
)

// cut is what becomes of a sealed segment: its objects, their names and how they are written. It is durable before the first of them is
// put, and does not change any more. Whatever is killed when, and whatever is configured later: the same rows go to the same key.
type cut struct {
	Size    int64    `json:"size"` // of the segment that belongs to it, bytes
	Path    string   `json:"path"` // the template
	Objects []object `json:"objects"`
	Damaged bool     `json:"damaged,omitempty"` // acknowledged rows of this segment cannot be read
	layout
}

// layout is how rows become an object.
type layout struct {
	Format      Format      `json:"format"`
	Compression Compression `json:"compression"`
	Envelope    bool        `json:"envelope"`
	Columns     string      `json:"columns,omitempty"`
	EmptyAsNull bool        `json:"empty_as_null,omitempty"`
}

// object is the rows of one segment with the same path. Every position is in one object, so path, spool and positions name it.
type object struct {
	Path  string `json:"path"`
	Rows  int64  `json:"rows"`
	First uint64 `json:"first"` // the lowest position
	Last  uint64 `json:"last"`  // the highest
}

// key is the object's name in the bucket.
func (c *cut) key(o object, spool string) string {
	path := o.Path
	if path != "" {
		path += "/"
	}
	return fmt.Sprintf("%s%s-%016d-%016d%s", path, spool, o.First, o.Last, c.extension())
}

func (l layout) extension() string {
	if l.Format == parquetFormat {
		return ".parquet"
	}
	return ".jsonl" + map[Compression]string{gzipped: ".gz", zstandard: ".zst"}[l.Compression]
}

func (l layout) contentType() string {
	switch {
	case l.Format == parquetFormat:
		return "application/vnd.apache.parquet"
	case l.Compression == gzipped:
		return "application/gzip"
	case l.Compression == zstandard:
		return "application/zstd"
	}
	return "application/x-ndjson"
}

// keyTail is what key adds to a path at most, bytes.
const keyTail = 1 + spoolIDSize*2 + 2*(1+16) + len(".jsonl.zst")

// maxKey is S3's own bound of a key, bytes.
const maxKey = 1024

// parsePath reads PATH.
func parsePath(text string) (template.Template, error) {
	t, err := template.Parse(text, template.Date, template.Hour)
	if err != nil {
		return t, err
	}
	for _, part := range strings.Split(text, "/") {
		switch {
		case part == "":
			return t, errors.New("must not begin or end with /, or hold //")
		case part == "." || part == "..":
			return t, fmt.Errorf("must not hold the part %s", part)
		}
	}
	if strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) >= 0 {
		return t, errors.New("must not hold control characters or backslashes")
	}
	return t, nil
}

// tally gathers the objects of a segment while it grows.
type tally struct {
	objects []object
	byPath  map[string]int
	rows    int64
}

func (t *tally) add(path string, first uint64, rows int) {
	if t.byPath == nil {
		t.byPath = map[string]int{}
	}
	i, ok := t.byPath[path]
	if !ok {
		i = len(t.objects)
		t.byPath[path] = i
		t.objects = append(t.objects, object{Path: path, First: first})
	}
	o := &t.objects[i]
	o.Rows += int64(rows)
	o.First, o.Last = min(o.First, first), max(o.Last, first+uint64(rows)-1) //nolint:gosec // rows is not below 1
	t.rows += int64(rows)
}

// text is the cut as a file: JSON, and a checksum in a line of its own.
func (c *cut) text() ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(append(text, '\n'), "end %08x\n", crc32.ChecksumIEEE(text)), nil
}

func parseCut(text []byte) (*cut, error) {
	body, end, _ := bytes.Cut(text, []byte("\n"))
	if want := fmt.Sprintf("end %08x\n", crc32.ChecksumIEEE(body)); string(end) != want {
		return nil, errors.New("is damaged")
	}
	c := new(cut)
	if err := json.Unmarshal(body, c); err != nil {
		return nil, fmt.Errorf("is no cut of a segment: %w", err)
	}
	if _, err := parsePath(c.Path); err != nil {
		return nil, fmt.Errorf("holds a path that %w", err)
	}
	if !slices.Contains([]Format{jsonLines, parquetFormat}, c.Format) {
		return nil, fmt.Errorf("holds the format %q, which this version does not know", c.Format)
	}
	if !slices.Contains([]Compression{plain, gzipped, zstandard, snappyOnly}, c.Compression) {
		return nil, fmt.Errorf("holds the compression %q, which this version does not know", c.Compression)
	}
	return c, nil
}
