package vectors

import (
	"cmp"
	"slices"
)

// found is one vector of an answer.
type found struct {
	slot uint32
	rank float32
}

// top keeps the k best: a heap with the worst of them first.
type top struct {
	k    int
	heap []found
}

// bar is the rank that a vector must be above to be among the best; ok is false while there is room for any.
func (t *top) bar() (rank float32, ok bool) {
	if len(t.heap) < t.k {
		return 0, false
	}
	return t.heap[0].rank, true
}

func (t *top) offer(slot uint32, rank float32) {
	if len(t.heap) < t.k {
		t.heap = append(t.heap, found{slot, rank})
		for i := len(t.heap) - 1; i > 0; {
			parent := (i - 1) / 2
			if t.heap[parent].rank <= t.heap[i].rank {
				break
			}
			t.heap[parent], t.heap[i] = t.heap[i], t.heap[parent]
			i = parent
		}
		return
	}
	if rank <= t.heap[0].rank {
		return
	}
	t.heap[0] = found{slot, rank}
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(t.heap) {
			break
		}
		if child+1 < len(t.heap) && t.heap[child+1].rank < t.heap[child].rank {
			child++
		}
		if t.heap[i].rank <= t.heap[child].rank {
			break
		}
		t.heap[i], t.heap[child] = t.heap[child], t.heap[i]
		i = child
	}
}

// best empties the heap, best first; equal ranks in the order of their slots.
func (t *top) best() []found {
	slices.SortFunc(t.heap, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.slot, b.slot))
	})
	return t.heap
}
