package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// quantile of sorted values, by the nearest rank.
func quantile[T cmp.Ordered](sorted []T, q float64) T {
	return sorted[min(len(sorted)-1, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// series is the same measurement, several times.
type series []float64

func (s series) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// noise compares the even runs with the odd ones: both measure the same, so what they differ by is the machine's. As a
// part of the median.
func (s series) noise() float64 {
	var even, odd series
	for i, v := range s {
		if i%2 == 0 {
			even = append(even, v)
		} else {
			odd = append(odd, v)
		}
	}
	if len(odd) == 0 {
		return math.NaN()
	}
	return math.Abs(even.median()-odd.median()) / s.median()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (s series) mean() float64 {
	var sum float64
	for _, v := range s {
		sum += v
	}
	return sum / float64(len(s))
}

func (s series) min() float64 { return slices.Min(s) }
func (s series) max() float64 { return slices.Max(s) }
