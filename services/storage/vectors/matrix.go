package vectors

import "math/bits"

// blockVectors is how many vectors lie in one piece of memory: a matrix grows without copying what is there.
const blockVectors = 256

// matrix holds vectors by slot. Vectors are written once: a slot is written again only after it was free.
type matrix struct {
	dimensions int
	blocks     [][]float32
	inverse    []float32 // see Metric.inverse
}

func (m *matrix) at(slot uint32) []float32 {
	at := int(slot%blockVectors) * m.dimensions
	return m.blocks[slot/blockVectors][at : at+m.dimensions : at+m.dimensions]
}

// grow makes room for one slot more and returns it.
func (m *matrix) grow() uint32 {
	slot := uint32(len(m.inverse))
	if slot%blockVectors == 0 {
		m.blocks = append(m.blocks, make([]float32, blockVectors*m.dimensions))
	}
	m.inverse = append(m.inverse, 0)
	return slot
}

// set is a set of slots.
type set []uint64

func (s set) has(slot uint32) bool { return s[slot/64]>>(slot%64)&1 != 0 }
func (s set) add(slot uint32)      { s[slot/64] |= 1 << (slot % 64) }
func (s set) remove(slot uint32)   { s[slot/64] &^= 1 << (slot % 64) }

func (s set) count() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// each calls fn with all slots, in their order; fn may remove the one it is given.
func (s set) each(fn func(slot uint32)) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			fn(uint32(i*64 + bits.TrailingZeros64(word)))
		}
	}
}
