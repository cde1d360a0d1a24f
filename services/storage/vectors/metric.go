package vectors

import (
	"fmt"
	"math"
)

// Metric says what near means in a collection. A score is higher the nearer, in each of them.
type Metric string

// The metrics, and their scores: the cosine of the angle, -1 to 1; the inner product; 1/(1+d) of the Euclidean distance d,
// 1 for the same vector.
const (
	Cosine Metric = "cosine"
	Dot    Metric = "dot"
	L2     Metric = "l2"
)

const (
	// maxSquare keeps every product and distance of two vectors within float32.
	maxSquare = 8e37
	// minNorm: a shorter vector has no direction that float32 could hold.
	minNorm = 1e-30
)

func (m Metric) known() bool { return m == Cosine || m == Dot || m == L2 }

// check refuses vectors whose scores would not be numbers.
func (m Metric) check(v []float32) error {
	var square float64
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	switch {
	case math.IsNaN(square) || math.IsInf(square, 0):
		return fmt.Errorf("must be finite numbers")
	case square > maxSquare:
		return fmt.Errorf("are too large: the length of the vector must stay below %.0e", math.Sqrt(maxSquare))
	case m == Cosine && square < minNorm*minNorm:
		return fmt.Errorf("are all zero, or nearly: such a vector has no direction, which cosine needs")
	}
	return nil
}

// inverse is what a vector is multiplied with before it is compared: 1 over its length under cosine.
func (m Metric) inverse(v []float32) float32 {
	if m != Cosine {
		return 1
	}
	var square float64
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	return float32(1 / math.Sqrt(square))
}

// rank orders vectors, higher is nearer. Under cosine the query is of length 1. score makes of it what the client sees.
func (m Metric) rank(query, v []float32, inverse float32) float32 {
	switch m {
	case Cosine:
		return dot(query, v) * inverse
	case L2:
		return -squaredDistance(query, v)
	}
	return dot(query, v)
}

func (m Metric) score(rank float32) float64 {
	switch m {
	case Cosine:
		return min(1, max(-1, float64(rank)))
	case L2:
		return 1 / (1 + math.Sqrt(max(0, -float64(rank))))
	}
	return float64(rank)
}
