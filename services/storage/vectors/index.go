package vectors

import (
	"context"
	"math"
	"math/bits"
	"math/rand/v2"
)

// The index is a filter in front of exact comparison, after RaBitQ (Gao and Long, SIGMOD 2024; two bits: Gao et al., SIGMOD
// 2025). Each vector belongs to the list of its nearest centre; what is left when the centre is taken away is rotated and
// kept as two bits a dimension. A search estimates the rank of every vector by the first bits, then by both, then compares
// exactly; only a vector whose estimate and its known error are above the k best so far goes on. Hostile data cost time, not
// recall: where the bits say little, more is compared.
//
// A list whose nearest vector cannot be among the best is passed over. No list is left out for another reason.

const (
	// confidence is how many standard errors an estimate may be too low before a vector is missed.
	confidence = 1.9
	// planes is how many bits a number of the query has.
	planes = 4
	// seeds is how many of the best estimates are looked at first, to have a bar for all others.
	seeds = 128
	// perList is how many vectors a list has on average, within the bounds.
	perList            = 3072
	minLists, maxLists = 16, 128
	// Centres are found on a sample, in a few rounds.
	samplesPerList = 64
	rounds         = 6
)

func sqrt(x float64) float64 { return math.Sqrt(x) }

// factor is what an estimate needs of a vector beside its bits.
type factor struct {
	offset float32 // the part of the rank that does not depend on the query
	scale  float32 // of the product of query and signs
	spread float32 // standard error, for a query of length 1
	ones   float32 // how many signs are plus
}

// finer is the same for both bits.
type finer struct{ scale, spread float32 }

type list struct {
	centre  []float32
	rotated []float32 // centre, rotated
	signs   []uint64  // words of each vector in turn: 1 for plus
	halves  []uint64  // the second bit: signs and halves count -3, -1, 1, 3
	factors []factor
	finer   []finer
	slots   []uint32
	radius  float32 // no vector is farther from the centre
	shift   float32 // dot: no vector has a larger offset
}

type place struct{ list, at uint32 }

// nowhere is the place of a slot that is not in the index.
var nowhere = place{math.MaxUint32, 0}

type index struct {
	metric  Metric
	rot     *rotation
	words   int
	lists   []list
	norms   []float32 // squares of the centres' lengths, halved
	places  []place   // by slot
	trained int       // how many vectors there were
	scratch []float32
}

// train finds the centres for the vectors in slots. The caller sees to it that these stay as they are.
func train(ctx context.Context, metric Metric, m *matrix, slots []uint32) (*index, error) {
	n := min(maxLists, max(minLists, len(slots)/perList))
	rot := newRotation(m.dimensions)
	x := &index{metric: metric, rot: rot, words: rot.size / 64, trained: len(slots), scratch: make([]float32, rot.size)}
	random := rand.New(rand.NewPCG(uint64(len(slots)), 1))
	sample := make([][]float32, 0, n*samplesPerList)
	for range min(n*samplesPerList, len(slots)) {
		slot := slots[random.IntN(len(slots))]
		sample = append(sample, scaled(nil, m.at(slot), m.inverse[slot]))
	}
	x.lists, x.norms = make([]list, n), make([]float32, n)
	for i := range x.lists {
		x.move(i, append([]float32(nil), sample[i%len(sample)]...))
	}
	for range rounds {
		sums, counts := make([][]float64, n), make([]int, n)
		for i := range sums {
			sums[i] = make([]float64, m.dimensions)
		}
		for _, v := range sample {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			i := x.nearest(v)
			counts[i]++
			for j, f := range v {
				sums[i][j] += float64(f)
			}
		}
		for i, sum := range sums {
			if counts[i] == 0 { // a centre for nobody begins again somewhere
				x.move(i, append([]float32(nil), sample[random.IntN(len(sample))]...))
				continue
			}
			centre := make([]float32, m.dimensions)
			for j, s := range sum {
				centre[j] = float32(s / float64(counts[i]))
			}
			x.move(i, centre)
		}
	}
	for i := range x.lists {
		l := &x.lists[i]
		l.rotated = make([]float32, rot.size)
		copy(l.rotated, l.centre)
		rot.apply(l.rotated)
		l.shift = float32(math.Inf(-1))
	}
	return x, nil
}

func (x *index) move(i int, centre []float32) {
	x.lists[i].centre, x.norms[i] = centre, dot(centre, centre)/2
}

// scaled appends v times factor to dst.
func scaled(dst, v []float32, factor float32) []float32 {
	for _, f := range v {
		dst = append(dst, f*factor)
	}
	return dst
}

// nearest is the list whose centre is closest.
func (x *index) nearest(v []float32) int {
	best, most := 0, float32(math.Inf(-1))
	for i := range x.lists {
		if s := dot(v, x.lists[i].centre) - x.norms[i]; s > most {
			best, most = i, s
		}
	}
	return best
}

// add puts the vector of a slot into its list.
func (x *index) add(slot uint32, v []float32, inverse float32) {
	for int(slot) >= len(x.places) {
		x.places = append(x.places, nowhere)
	}
	rest := scaled(x.scratch[:0], v, inverse)
	at := x.nearest(rest)
	l := &x.lists[at]
	var square, shift float32
	for i, c := range l.centre {
		rest[i] -= c
		square += rest[i] * rest[i]
		shift += rest[i] * c
	}
	rest = rest[:x.rot.size]
	clear(rest[len(l.centre):])
	x.rot.apply(rest)
	x.places[slot] = place{uint32(at), uint32(len(l.slots))}
	l.slots = append(l.slots, slot)
	length := float32(sqrt(float64(square)))
	far := length * farther / float32(sqrt(float64(x.rot.size)))
	var one, two float32 // Σ|rest|, and Σ rest·(both bits)
	ones, large := 0, 0
	for w := range x.words {
		var signs, halves uint64
		for i, f := range rest[w*64 : w*64+64] {
			sign := uint64(1 ^ math.Float32bits(f)>>31)
			f = float32(math.Abs(float64(f)))
			half := uint64(0)
			if f > far {
				half = 1
			}
			one += f
			two += f * float32(1+2*half)
			large += int(half)
			signs |= sign << i
			halves |= (1 ^ sign ^ half) << i
		}
		ones += bits.OnesCount64(signs)
		l.signs = append(l.signs, signs)
		l.halves = append(l.halves, halves)
	}
	f, g := factor{ones: float32(ones)}, finer{}
	f.scale, f.spread = x.estimator(square, one, x.rot.size)
	g.scale, g.spread = x.estimator(square, two, x.rot.size+8*large)
	switch x.metric {
	case Cosine: // of vectors of length 1: 1 - d²/2
		f.offset = -square / 2
	case L2:
		f.offset = -square
		f.scale, f.spread, g.scale, g.spread = 2*f.scale, 2*f.spread, 2*g.scale, 2*g.spread
	case Dot:
		f.offset = shift
	}
	l.factors = append(l.factors, f)
	l.finer = append(l.finer, g)
	l.radius, l.shift = max(l.radius, length), max(l.shift, shift)
}

// farther is where the second bit begins, in standard deviations of a number.
const farther = 0.9957

// estimator turns a product with the code, whose length squared is codeSquare, into one with the vector: product is that of
// vector and code. The error comes from the part of the code that is at right angles to the vector.
func (x *index) estimator(square, product float32, codeSquare int) (scale, spread float32) {
	if product <= 0 {
		return 0, 0
	}
	miss := max(0, float64(codeSquare)*float64(square)/(float64(product)*float64(product))-1)
	return square / product, float32(sqrt(float64(square) * miss / float64(x.rot.size-1)))
}

// remove takes the slot out of its list; the last of the list fills the gap.
func (x *index) remove(slot uint32) {
	if int(slot) >= len(x.places) || x.places[slot] == nowhere {
		return
	}
	p := x.places[slot]
	x.places[slot] = nowhere
	l, w := &x.lists[p.list], x.words
	last := uint32(len(l.slots) - 1)
	if p.at != last {
		l.slots[p.at], l.factors[p.at], l.finer[p.at] = l.slots[last], l.factors[last], l.finer[last]
		copy(l.signs[int(p.at)*w:], l.signs[int(last)*w:])
		copy(l.halves[int(p.at)*w:], l.halves[int(last)*w:])
		x.places[l.slots[p.at]].at = p.at
	}
	l.slots, l.factors, l.finer = l.slots[:last], l.factors[:last], l.finer[:last]
	l.signs, l.halves = l.signs[:int(last)*w], l.halves[:int(last)*w]
}

func (x *index) has(slot uint32) bool { return int(slot) < len(x.places) && x.places[slot] != nowhere }
