package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// parquetFooter reads the schema at the end of a Parquet file. Only the schema's own bytes are parsed, by what is needed of
// Thrift's compact protocol: a library would build all that a hostile footer announces.
type parquetFooter struct {
	tail  []byte // the last bytes, maxFooter or more of them
	size  int64
	found []string
	large bool
}

const (
	maxFooter    = 2 << 20 // bytes; the schema of a file with a larger one is not read
	parquetFrame = 8       // length of the footer, and the magic word
)

var (
	parquetMagic  = []byte("PAR1")
	parquetSecret = []byte("PARE") // the footer is encrypted
)

func newParquetFooter(head []byte) (*parquetFooter, error) {
	if !bytes.HasPrefix(head, parquetMagic) && !bytes.HasPrefix(head, parquetSecret) {
		return nil, fmt.Errorf("%w: the file is no Parquet file: it does not begin with PAR1", ErrContent)
	}
	return &parquetFooter{}, nil
}

func (f *parquetFooter) feed(p []byte, ended bool) (settled bool, err error) {
	f.size += int64(len(p))
	if len(p) > maxFooter {
		p, f.tail = p[len(p)-maxFooter:], f.tail[:0]
	}
	if len(f.tail)+len(p) > 2*maxFooter {
		f.tail = f.tail[:copy(f.tail, f.tail[len(f.tail)-maxFooter:])]
	}
	f.tail = append(f.tail, p...)
	if !ended {
		return false, nil
	}
	err = f.parse()
	f.tail = nil
	return true, err
}

func (f *parquetFooter) parse() error {
	end := len(f.tail) - parquetFrame
	if f.size < int64(len(parquetMagic)+parquetFrame) || end < 0 {
		return fmt.Errorf("the Parquet file has only %d bytes", f.size)
	}
	if bytes.Equal(f.tail[end+4:], parquetSecret) {
		return errors.New("the Parquet file is encrypted: its columns cannot be read")
	}
	if !bytes.Equal(f.tail[end+4:], parquetMagic) {
		return errors.New("the Parquet file does not end with PAR1: it is not whole")
	}
	length := int64(binary.LittleEndian.Uint32(f.tail[end:]))
	if length > f.size-int64(len(parquetMagic)+parquetFrame) {
		return fmt.Errorf("the footer of the Parquet file says that it has %d bytes, more than the file", length)
	}
	if length > int64(end) {
		f.large = true
		return nil
	}
	names, err := topColumns(f.tail[end-int(length) : end])
	if err != nil {
		return fmt.Errorf("the footer of the Parquet file: %w", err)
	}
	f.found = names
	return nil
}

func (f *parquetFooter) names() (names, warnings []string) {
	if f.large {
		return nil, []string{fmt.Sprintf("the footer of the Parquet file has more than %d bytes; its columns are not recorded", maxFooter)}
	}
	return f.found, unnamed(f.found)
}

// topColumns returns the names of the columns of a FileMetaData: the children of the schema's root.
func topColumns(footer []byte) (names []string, err error) {
	t := &thrift{b: footer}
	for id := 0; ; {
		var kind byte
		if id, kind, err = t.field(id); err != nil {
			return nil, err
		}
		switch {
		case kind == thriftStop:
			return nil, errors.New("it has no schema")
		case id == 2 && kind == thriftList:
			return t.schema() // what follows is not needed
		}
		if err := t.skip(kind, 0); err != nil {
			return nil, err
		}
	}
}
