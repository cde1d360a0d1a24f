package vectors

// maxColumns of a collection are kept; with more, they begin anew.
const maxColumns = 64

// column is one field of all metadata, read once: a filter looks at it slot by slot.
type column struct {
	field string
	kinds []kind
	bits  []uint64 // of text: its number
	texts []string
	known map[string]uint64
}

func (c *column) set(slot uint32, metadata string) {
	for int(slot) >= len(c.kinds) {
		c.kinds, c.bits = append(c.kinds, nothing), append(c.bits, 0)
	}
	v := member(metadata, c.field)
	c.kinds[slot], c.bits[slot] = v.kind, v.bits
	if v.kind == text {
		n, ok := c.known[v.text]
		if !ok {
			n = uint64(len(c.texts))
			c.known[v.text], c.texts = n, append(c.texts, v.text)
		}
		c.bits[slot] = n
	}
}

func (c *column) value(slot uint32) value {
	if int(slot) >= len(c.kinds) {
		return value{}
	}
	v := value{kind: c.kinds[slot], bits: c.bits[slot]}
	if v.kind == text {
		v.text = c.texts[v.bits]
	}
	return v
}

// keep leaves in s the slots for which the condition holds.
func (c *column) keep(s set, on *condition) {
	var answers []int8 // by text: each is compared once
	if len(c.texts) > 0 {
		answers = make([]int8, len(c.texts))
	}
	s.each(func(slot uint32) {
		v := c.value(slot)
		if v.kind != text {
			if !on.holds(v) {
				s.remove(slot)
			}
			return
		}
		if answers[v.bits] == 0 {
			answers[v.bits] = -1
			if on.holds(v) {
				answers[v.bits] = 1
			}
		}
		if answers[v.bits] < 0 {
			s.remove(slot)
		}
	})
}
