// Package embed makes vectors of texts, always the same and without a model file: hashed words and pieces of words. It finds
// texts that share words, or spell them a little differently; it knows nothing of meaning.
package embed

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"
)

// Model names the embedder, for those who keep its vectors: another name is another space.
const Model = "hashed-ngrams-384-v1"

// Dimensions of every vector.
const Dimensions = 384

const (
	wordWeight  = 1.0
	pieceWeight = 0.5
	shortest    = 3 // runes of a piece
	longest     = 5
)

// Text returns a vector of length 1, or of zeros when the text has neither letters nor digits.
func Text(text string) []float32 {
	counts := make(map[uint64]float64)
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) }) {
		counts[hash("w", word)] += wordWeight
		runes := []rune("<" + word + ">")
		for n := shortest; n <= longest; n++ {
			for i := 0; i+n <= len(runes); i++ {
				counts[hash("p", string(runes[i:i+n]))] += pieceWeight
			}
		}
	}
	sums := make([]float64, Dimensions)
	for _, h := range slices.Sorted(maps.Keys(counts)) { // in one order: sums of floats depend on it
		weight := math.Log1p(counts[h]) // what is repeated counts less each time
		if h>>63 == 1 {
			weight = -weight
		}
		sums[h%Dimensions] += weight
	}
	var square float64
	for _, s := range sums {
		square += s * s
	}
	vector := make([]float32, Dimensions)
	if square == 0 {
		return vector
	}
	length := math.Sqrt(square)
	for i, s := range sums {
		vector[i] = float32(s / length)
	}
	return vector
}

// hash is FNV-1a, stirred: its low bits alone are not even enough.
func hash(sort, text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(sort))
	h.Write([]byte(text))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}
