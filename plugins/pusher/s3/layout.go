package main

import (
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/rivergate/rivergate/sdk"
)

// Format is what an object is.
type Format string

// Compression is how an object is compressed.
type Compression string

// The words of FORMAT and COMPRESSION.
const (
	jsonLines     Format = "jsonl"
	parquetFormat Format = "parquet"

	byFormat   Compression = "auto"
	plain      Compression = "none"
	gzipped    Compression = "gzip"
	zstandard  Compression = "zstd"
	snappyOnly Compression = "snappy"
)

// rowWriter writes the rows of one object. The same rows give the same bytes.
type rowWriter interface {
	write(row sdk.Row) error
	close() error
}

// writer begins an object.
func (l layout) writer(to io.Writer) (rowWriter, error) {
	if l.Format == parquetFormat {
		return newParquetWriter(to, l)
	}
	w := &lineWriter{to: to, envelope: l.Envelope}
	switch l.Compression {
	case gzipped:
		compressed := gzip.NewWriter(to)
		w.to, w.closer = compressed, compressed
	case zstandard:
		// One goroutine: the bytes do not depend on how many there are, and uploads run side by side already.
		compressed, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("compress: %w", err)
		}
		w.to, w.closer = compressed, compressed
	}
	return w, nil
}
