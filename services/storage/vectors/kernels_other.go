//go:build !amd64

package vectors

import "unsafe"

func weighAll(codes, levels []uint64, sums []int32) { weighGo(codes, levels, sums) }

func dot(a, b []float32) float32 { return dotGo(a, b) }

func squaredDistance(a, b []float32) float32 { return squaredDistanceGo(a, b) }

func prefetch(unsafe.Pointer) {}
