package inspect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// The types of Thrift's compact protocol (thrift-compact-protocol.md of Apache Thrift).
const (
	thriftStop   = 0
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
	thriftUUID   = 13
)

const maxThriftDepth = 32

var errThrift = errors.New("it is damaged")

// thrift reads from the front of b. It copies nothing and never goes further than b does.
type thrift struct{ b []byte }

func (t *thrift) take(n uint64) ([]byte, error) {
	if n > uint64(len(t.b)) {
		return nil, errThrift
	}
	p := t.b[:n]
	t.b = t.b[n:]
	return p, nil
}

func (t *thrift) byte() (byte, error) {
	p, err := t.take(1)
	if err != nil {
		return 0, err
	}
	return p[0], nil
}

func (t *thrift) varint() (uint64, error) {
	v, n := binary.Uvarint(t.b)
	if n <= 0 {
		return 0, errThrift
	}
	t.b = t.b[n:]
	return v, nil
}

func (t *thrift) int() (int64, error) {
	v, err := t.varint()
	return int64(v>>1) ^ -int64(v&1), err
}

func (t *thrift) binary() ([]byte, error) {
	n, err := t.varint()
	if err != nil {
		return nil, err
	}
	return t.take(n)
}

// field reads the head of a struct's field; last is the number of the one before.
func (t *thrift) field(last int) (id int, kind byte, err error) {
	head, err := t.byte()
	if err != nil || head == thriftStop {
		return 0, thriftStop, err
	}
	if step := int(head >> 4); step > 0 {
		return last + step, head & 15, nil
	}
	n, err := t.int()
	return int(int16(n)), head & 15, err //nolint:gosec // a field's number is an i16
}

// list reads the head of a list or a set.
func (t *thrift) list() (kind byte, n uint64, err error) {
	head, err := t.byte()
	if err != nil {
		return 0, 0, err
	}
	if n = uint64(head >> 4); n == 15 {
		n, err = t.varint()
	}
	return head & 15, n, err
}

// skip passes over a field's value.
func (t *thrift) skip(kind byte, depth int) error {
	if depth > maxThriftDepth {
		return errThrift
	}
	switch kind {
	case thriftTrue, thriftFalse: // the value is in the head
		return nil
	case thriftByte:
		_, err := t.byte()
		return err
	case thriftI16, thriftI32, thriftI64:
		_, err := t.varint()
		return err
	case thriftDouble:
		_, err := t.take(8)
		return err
	case thriftUUID:
		_, err := t.take(16)
		return err
	case thriftBinary:
		_, err := t.binary()
		return err
	case thriftList, thriftSet:
		kind, n, err := t.list()
		if err != nil {
			return err
		}
		return t.elements(n, depth, kind)
	case thriftMap:
		n, err := t.varint()
		if err != nil || n == 0 {
			return err
		}
		kinds, err := t.byte()
		if err != nil {
			return err
		}
		return t.elements(n, depth, kinds>>4, kinds&15)
	case thriftStruct:
		for id := 0; ; {
			var kind byte
			var err error
			if id, kind, err = t.field(id); err != nil || kind == thriftStop {
				return err
			}
			if err := t.skip(kind, depth+1); err != nil {
				return err
			}
		}
	}
	return errThrift
}

// elements passes over n values, or n pairs of them. Each has at least a byte, so n is bounded by what is there.
func (t *thrift) elements(n uint64, depth int, kinds ...byte) error {
	if n > uint64(len(t.b)) {
		return errThrift
	}
	for range n {
		for _, kind := range kinds {
			if kind == thriftTrue || kind == thriftFalse {
				kind = thriftByte // in a list, unlike in a struct, a truth value is a byte
			}
			if err := t.skip(kind, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// schema reads a list of SchemaElement, the tree of the columns in depth-first order, and returns the names of the root's children.
func (t *thrift) schema() (names []string, err error) {
	kind, n, err := t.list()
	switch {
	case err != nil:
		return nil, err
	case kind != thriftStruct || n == 0 || n > uint64(len(t.b)):
		return nil, errThrift
	}
	_, children, err := t.element()
	if err != nil {
		return nil, err
	}
	if children < 0 || uint64(children) >= n {
		return nil, errThrift
	}
	if children > maxColumns {
		return nil, fmt.Errorf("it has %d columns, %d are allowed", children, maxColumns)
	}
	left := n - 1 // elements that were not read yet
	for range children {
		for below, first := int64(1), true; below > 0; below, first = below-1, false { // the child, and all that is under it
			if left == 0 {
				return nil, errThrift
			}
			left--
			found, more, err := t.element()
			if err != nil {
				return nil, err
			}
			if more < 0 || uint64(more) > left {
				return nil, errThrift
			}
			if first {
				names = append(names, found)
			}
			below += more
		}
	}
	return names, nil
}

// element reads the name of a SchemaElement and the number of its children.
func (t *thrift) element() (name string, children int64, err error) {
	for id := 0; ; {
		var kind byte
		if id, kind, err = t.field(id); err != nil || kind == thriftStop {
			return name, children, err
		}
		switch {
		case id == 4 && kind == thriftBinary:
			text, err := t.binary()
			if err != nil {
				return "", 0, err
			}
			if !utf8.Valid(text) {
				return "", 0, errors.New("a column's name is not UTF-8")
			}
			name = string(text)
		case id == 5 && kind == thriftI32:
			if children, err = t.int(); err != nil {
				return "", 0, err
			}
		default:
			if err := t.skip(kind, 0); err != nil {
				return "", 0, err
			}
		}
	}
}
