package vectors

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// What the processor has is looked up once: POPCNT is in every x86-64 since 2008, FMA and AVX2 since 2013.
var (
	hasPOPCNT = cpu.X86.HasPOPCNT
	hasFMA    = cpu.X86.HasAVX2 && cpu.X86.HasFMA
)

//go:noescape
func weighPOPCNT(codes, levels *uint64, sums *int32, vectors, units int)

//go:noescape
func prefetch(p unsafe.Pointer)

//go:noescape
func dotFMA(a, b *float32, n int) float32

//go:noescape
func distanceFMA(a, b *float32, n int) float32

// lanes is what the assembly takes at once.
const lanes = 32

// weighAll sums, for each code, the levels where it has a 1.
func weighAll(codes, levels []uint64, sums []int32) {
	units := len(levels) / (unitWords * planes)
	if !hasPOPCNT || units == 0 || len(sums) == 0 {
		weighGo(codes, levels, sums)
		return
	}
	_ = codes[len(sums)*units*unitWords-1]
	weighPOPCNT(&codes[0], &levels[0], &sums[0], len(sums), units)
}

func dot(a, b []float32) float32 {
	n := len(a) &^ (lanes - 1)
	if !hasFMA || n == 0 {
		return dotGo(a, b)
	}
	_ = b[len(a)-1]
	s := dotFMA(&a[0], &b[0], n)
	if n < len(a) {
		s += dotGo(a[n:], b[n:])
	}
	return s
}

func squaredDistance(a, b []float32) float32 {
	n := len(a) &^ (lanes - 1)
	if !hasFMA || n == 0 {
		return squaredDistanceGo(a, b)
	}
	_ = b[len(a)-1]
	s := distanceFMA(&a[0], &b[0], n)
	if n < len(a) {
		s += squaredDistanceGo(a[n:], b[n:])
	}
	return s
}
