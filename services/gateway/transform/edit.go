package transform

import (
	"errors"
	"fmt"
)

var errNotObject = errors.New("the row is not a JSON object")

// Append appends the row as it goes out. The error says why it cannot be made, and dst is what it was.
func (t *Transform) Append(dst, row []byte) ([]byte, error) {
	if !t.Edits() {
		return append(dst, row...), nil
	}
	start := len(dst)
	out, end, err := t.root.edit(dst, row, blank(row, 0))
	if err == nil && blank(row, end) != len(row) {
		err = errNotObject
	}
	if err != nil {
		return dst[:start], err
	}
	return out, nil
}

// Check tells whether Append can make the row. scratch is used for that, and returned.
func (t *Transform) Check(scratch, row []byte) ([]byte, error) {
	if !t.Edits() {
		return scratch, nil
	}
	return t.Append(scratch[:0], row)
}

// edit appends the object that starts at i, and returns where it ends.
func (n *node) edit(dst, row []byte, i int) (out []byte, end int, err error) {
	if i >= len(row) || row[i] != '{' {
		return dst, i, errNotObject
	}
	if n.whole {
		return n.editWhole(dst, row, i)
	}
	return n.editSelected(dst, row, i)
}

// editWhole copies an object with the new names of some members.
func (n *node) editWhole(dst, row []byte, i int) ([]byte, int, error) {
	copied := i
	var found, taken uint64 // members that are renamed, and their new names when others have them
	end, err := members(row, i, func(key, keyEnd, value, valueEnd int) error {
		name := unquote(row[key:keyEnd])
		c := n.byName[string(name)]
		if c == nil || c.as == nil {
			if at, ok := n.targets[string(name)]; ok {
				taken |= 1 << at
			}
		}
		if c == nil {
			return nil
		}
		if c.as != nil {
			if found&(1<<c.place) != 0 {
				return fmt.Errorf("RENAME: the row has %q twice", c.name)
			}
			found |= 1 << c.place
			dst = append(append(dst, row[copied:key]...), c.as...)
			copied = keyEnd
		}
		if len(c.order) > 0 && row[value] == '{' {
			dst = append(dst, row[copied:value]...)
			var err error
			if dst, _, err = c.edit(dst, row, value); err != nil {
				return err
			}
			copied = valueEnd
		}
		return nil
	})
	if err != nil {
		return dst, i, err
	}
	if both := found & taken; both != 0 {
		for _, c := range n.order {
			if both&(1<<c.place) != 0 {
				return dst, i, fmt.Errorf("RENAME: %q cannot become %s, which the row has already", c.name, c.as)
			}
		}
	}
	return append(dst, row[copied:end]...), end, nil
}

// span is where a member stands.
type span struct{ key, keyEnd, value, valueEnd int }

// editSelected writes the selected members that are there, in the order of SELECT. Of a name that comes twice the last one
// counts, as JSON readers have it.
func (n *node) editSelected(dst, row []byte, i int) ([]byte, int, error) {
	var few [16]span
	spans := few[:]
	if len(n.order) > len(few) {
		spans = make([]span, len(n.order))
	}
	end, err := members(row, i, func(key, keyEnd, value, valueEnd int) error {
		if c := n.byName[string(unquote(row[key:keyEnd]))]; c != nil {
			spans[c.place] = span{key, keyEnd, value, valueEnd}
		}
		return nil
	})
	if err != nil {
		return dst, i, err
	}
	dst = append(dst, '{')
	empty := len(dst)
	for _, c := range n.order {
		s := spans[c.place]
		if s.keyEnd == 0 {
			continue
		}
		inside := len(c.order) > 0
		if inside && !c.whole && row[s.value] != '{' {
			continue // it has no such parts
		}
		before := len(dst)
		if before > empty {
			dst = append(dst, ',')
		}
		if c.as != nil {
			dst = append(dst, c.as...)
		} else {
			dst = append(dst, row[s.key:s.keyEnd]...)
		}
		dst = append(dst, ':')
		if !inside || row[s.value] != '{' {
			dst = append(dst, row[s.value:s.valueEnd]...)
			continue
		}
		from := len(dst)
		if dst, _, err = c.edit(dst, row, s.value); err != nil {
			return dst, i, err
		}
		if !c.whole && len(dst)-from == len("{}") {
			dst = dst[:before] // none of its parts is there
		}
	}
	return append(dst, '}'), end, nil
}
