package vectors

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sort"
	"sync"
	"unsafe"
)

// probe is a query against one list.
type probe struct {
	list  *list
	bound float32 // no rank in the list is above it
	base  float32 // of every rank in it, with what rounding may take away
	shift float32 // how much of factor.offset counts
	whole bool    // dot: the query is taken as it is, without the centre
	from  int     // its first vector in worker.bounds

	length float32 // of the query, rotated and without the centre: the numbers below are of that
	low    float32 // its numbers are low + step·level
	step   float32
	total  float32
	spread float32  // for factor.spread
	fine   float32  // for finer.spread
	levels []uint64 // planes words for each word of a code
}

// worker is the memory of one search.
type worker struct {
	rotated  []float32
	rest     []float32
	words    []uint64
	probes   []probe
	sums     []int32   // of each vector that was estimated: see weighAll
	bounds   []float32 // what its rank can be
	seeds    top       // the best of bounds
	passed   []uint32  // of one list: what is looked at by both bits
	one      [1]int32
	finals   []found // what is left to be compared, by its better bound
	compared int     // exactly
}

var workers = sync.Pool{New: func() any { return new(worker) }}

var never = float32(math.Inf(-1))

// ahead is how many vectors before its turn one is asked of the memory: they lie anywhere in it, and waiting for it would be
// most of the time.
const ahead = 6

// slack covers what rounding takes from a bound.
const slack = 1e-5

// search fills t with the best of the slots in allowed (nil: all that are indexed), and returns how many vectors it compared
// exactly. query is as Metric.rank wants it.
func (x *index) search(m *matrix, query []float32, allowed set, t *top) int {
	w := workers.Get().(*worker)
	defer workers.Put(w)
	w.begin(x, query)
	square := dot(query, query)
	for i := range x.lists {
		if len(x.lists[i].slots) > 0 {
			w.probes = append(w.probes, x.probe(&x.lists[i], query, square))
		}
	}
	slices.SortFunc(w.probes, func(a, b probe) int { return cmp.Compare(b.bound, a.bound) })
	planted, used := 0, 0
	for ; used < len(w.probes); used++ {
		p := &w.probes[used]
		if bar, full := t.bar(); full && p.bound <= bar {
			break // the bounds fall from here on
		}
		w.prepare(x, p)
		w.estimate(p, allowed)
		if len(w.bounds) > 4*planted { // a better bar after each time three times as much as before
			w.plant(x, m, query, used+1, t)
			planted = len(w.bounds)
		}
	}
	w.plant(x, m, query, used, t)
	bar, full := t.bar()
	for i := range w.probes[:used] {
		p := &w.probes[i]
		w.passed = w.passed[:0]
		for at, bound := range w.bounds[p.from : p.from+len(p.list.slots)] {
			if (!full || bound > bar) && bound != never {
				w.passed = append(w.passed, uint32(at))
			}
		}
		for i, at := range w.passed {
			if i+ahead < len(w.passed) {
				next := int(w.passed[i+ahead])
				prefetch(unsafe.Pointer(&p.list.halves[next*x.words]))
				prefetch(unsafe.Pointer(&p.list.finer[next]))
			}
			if bound := w.refine(x, p, int(at)); !full || bound > bar {
				w.finals = append(w.finals, found{p.list.slots[at], bound})
			}
		}
	}
	slices.SortFunc(w.finals, func(a, b found) int { return cmp.Compare(b.rank, a.rank) })
	for i, f := range w.finals {
		if i+ahead < len(w.finals) {
			prefetch(unsafe.Pointer(&m.at(w.finals[i+ahead].slot)[0]))
		}
		if bar, full := t.bar(); full && f.rank <= bar {
			break
		}
		w.compare(x, m, query, f.slot, t)
	}
	return w.compared
}

func (w *worker) begin(x *index, query []float32) {
	size := x.rot.size
	if len(w.rotated) != size {
		w.rotated, w.rest = make([]float32, size), make([]float32, size)
	}
	clear(w.rotated[copy(w.rotated, query):])
	x.rot.apply(w.rotated)
	w.words = slices.Grow(w.words[:0], len(x.lists)*x.words*planes)
	w.probes, w.sums, w.bounds, w.finals, w.compared = w.probes[:0], w.sums[:0], w.bounds[:0], w.finals[:0], 0
	w.seeds = top{k: seeds, heap: w.seeds.heap[:0]}
}

// probe tells how good the vectors of a list can be.
func (x *index) probe(l *list, query []float32, square float32) probe {
	product := dot(query, l.centre)
	length := float32(sqrt(float64(squaredDistance(query, l.centre))))
	p := probe{list: l, length: length, shift: 1}
	near := max(0, length-l.radius)
	switch x.metric {
	case Cosine:
		p.base, p.bound = 1-length*length/2, 1-near*near/2
	case L2:
		p.base, p.bound = -length*length, -near*near
	case Dot:
		p.base, p.bound = product, product+l.shift+length*l.radius
		if whole := float32(sqrt(float64(square))); whole < length {
			p.whole, p.shift, p.length, p.bound = true, 0, whole, product+whole*l.radius
		}
	}
	p.bound += slack * float32(math.Abs(float64(p.bound)))
	p.base += slack * float32(math.Abs(float64(p.base)))
	return p
}

// prepare makes the query's own codes for a list.
func (w *worker) prepare(x *index, p *probe) {
	rest, rotated := w.rest, w.rotated[:len(w.rest)]
	if p.whole {
		copy(rest, rotated)
	} else {
		for i, c := range p.list.rotated[:len(rest)] {
			rest[i] = rotated[i] - c
		}
	}
	low, high, total := float32(math.Inf(1)), never, float32(0)
	for _, f := range rest {
		low, high, total = min(low, f), max(high, f), total+f
	}
	step := max((high-low)/(1<<planes-1), math.SmallestNonzeroFloat32)
	n := len(w.words)
	w.words = w.words[:n+x.words*planes]
	p.levels = w.words[n:]
	inverse := 1 / step
	for at := range x.words {
		var level [planes]uint64
		for i, f := range rest[at*64 : at*64+64] {
			n := min(uint64((f-low)*inverse+0.5), 1<<planes-1)
			for j := range level {
				level[j] |= n >> j & 1 << i
			}
		}
		copy(p.levels[at*planes:], level[:])
	}
	p.low, p.step, p.total = low, step, total
	// The query's numbers are rounded to steps: an error beside that of the code, which for Gaussian numbers is 0.75 of the
	// length over √size with one bit and 0.37 with two.
	rounding := float64(step) * sqrt(float64(x.rot.size)/12)
	p.spread = float32(confidence * math.Hypot(float64(p.length), rounding/0.75))
	p.fine = float32(confidence * math.Hypot(float64(p.length), rounding/0.37))
}

// estimate appends what the rank of each vector of the list can be, by the first bits.
func (w *worker) estimate(p *probe, allowed set) {
	l := p.list
	p.from = len(w.bounds)
	w.bounds = slices.Grow(w.bounds, len(l.slots))[:p.from+len(l.slots)]
	w.sums = slices.Grow(w.sums, len(l.slots))[:len(w.bounds)]
	sums := w.sums[p.from:]
	weighAll(l.signs, p.levels, sums)
	bar, full := w.seeds.bar()
	scale, low := 2*p.step, 2*p.low
	bounds, factors := w.bounds[p.from:], l.factors
	for i := range bounds {
		f := &factors[i]
		bound := p.base + p.shift*f.offset + f.scale*(scale*float32(sums[i])+low*f.ones-p.total) + f.spread*p.spread
		bounds[i] = bound
		if full && bound <= bar || allowed != nil && !allowed.has(l.slots[i]) {
			continue
		}
		w.seeds.offer(uint32(p.from+i), bound)
		bar, full = w.seeds.bar()
	}
	if allowed != nil {
		for i, slot := range l.slots {
			if !allowed.has(slot) {
				bounds[i] = never
			}
		}
	}
}

// plant looks at the seeds, so that there is a bar for the others.
func (w *worker) plant(x *index, m *matrix, query []float32, used int, t *top) {
	for _, s := range w.seeds.best() {
		if bar, full := t.bar(); full && s.rank <= bar {
			break
		}
		i := sort.Search(used, func(i int) bool { return w.probes[i].from > int(s.slot) }) - 1
		p := &w.probes[i]
		at := int(s.slot) - p.from
		bound := w.refine(x, p, at)
		if bar, full := t.bar(); !full || bound > bar {
			w.compare(x, m, query, p.list.slots[at], t)
		}
		w.bounds[s.slot] = never
	}
	w.seeds.heap = w.seeds.heap[:0]
}

// refine is what the rank of a vector can be, by both bits.
func (w *worker) refine(x *index, p *probe, at int) float32 {
	l := p.list
	f, g := &l.factors[at], &l.finer[at]
	halves, ones := l.halves[at*x.words:at*x.words+x.words], 0
	for _, h := range halves {
		ones += bits.OnesCount64(h)
	}
	weighAll(halves, p.levels, w.one[:])
	plus := p.low*f.ones + p.step*float32(w.sums[p.from+at])
	half := p.low*float32(ones) + p.step*float32(w.one[0])
	return p.base + p.shift*f.offset + g.scale*(4*plus+2*half-3*p.total) + g.spread*p.fine
}

func (w *worker) compare(x *index, m *matrix, query []float32, slot uint32, t *top) {
	w.compared++
	t.offer(slot, x.metric.rank(query, m.at(slot), m.inverse[slot]))
}
