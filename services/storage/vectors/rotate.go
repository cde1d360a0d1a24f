package vectors

import (
	"math/bits"
	"math/rand/v2"
)

// rotation is an orthogonal map that spreads what a vector has in few coordinates over all of them: rounds of random signs
// and Walsh-Hadamard transforms of two overlapping parts. n log n steps instead of the n² of a matrix.
type rotation struct {
	size  int // of the result, a multiple of unit
	part  int // the largest power of two that is not above size
	signs [][]float32
}

const rotationRounds = 2

// unit is how many dimensions are counted at once. More bits than dimensions are not lost: estimates get better.
const (
	unitWords = 6
	unit      = unitWords * 64
)

// newRotation is the same for the same dimensions: what was rotated by one can be compared with what another did.
func newRotation(dimensions int) *rotation {
	size := (dimensions + unit - 1) / unit * unit
	r := &rotation{size: size, part: 1 << (bits.Len(uint(size)) - 1)}
	random := rand.New(rand.NewPCG(uint64(dimensions), 0x9e3779b97f4a7c15))
	for range rotationRounds * 2 {
		signs := make([]float32, size)
		for i := range signs {
			signs[i] = float32(int(random.Uint32()&1)*2 - 1)
		}
		r.signs = append(r.signs, signs)
	}
	return r
}

// apply rotates v in place; it has r.size numbers, zero beyond its dimensions.
func (r *rotation) apply(v []float32) {
	scale := float32(1 / sqrt(float64(r.part)))
	for i := 0; i < len(r.signs); i += 2 {
		flip(v, r.signs[i])
		hadamard(v[:r.part], scale)
		if r.part < r.size {
			flip(v, r.signs[i+1])
			hadamard(v[r.size-r.part:], scale)
		}
	}
}

func flip(v, signs []float32) {
	signs = signs[:len(v)]
	for i := range v {
		v[i] *= signs[i]
	}
}

// hadamard is the Walsh-Hadamard transform times scale, in place.
func hadamard(v []float32, scale float32) {
	h := 1
	for ; h*4 <= len(v); h *= 4 { // two steps at once
		for i := 0; i < len(v); i += h * 4 {
			a, b, c, d := v[i:i+h], v[i+h:i+2*h], v[i+2*h:i+3*h], v[i+3*h:i+4*h]
			b, c, d = b[:len(a)], c[:len(a)], d[:len(a)]
			for j := range a {
				s, t, u, w := a[j]+b[j], a[j]-b[j], c[j]+d[j], c[j]-d[j]
				a[j], b[j], c[j], d[j] = s+u, t+w, s-u, t-w
			}
		}
	}
	for ; h < len(v); h *= 2 {
		for i := 0; i < len(v); i += h * 2 {
			a, b := v[i:i+h], v[i+h:i+2*h]
			b = b[:len(a)]
			for j := range a {
				a[j], b[j] = a[j]+b[j], a[j]-b[j]
			}
		}
	}
	for i := range v {
		v[i] *= scale
	}
}
