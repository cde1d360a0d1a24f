package vectors

import "math/bits"

// The inner loops in plain Go. On amd64 assembly does the same; see kernels_amd64.s.

// dotGo adds up in eight places: one sum would wait for itself at every step.
func dotGo(a, b []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	n := len(a) &^ 15
	for i := 0; i < n; i += 16 {
		x, y := (*[16]float32)(a[i:i+16]), (*[16]float32)(b[i:i+16])
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		s2 += x[2] * y[2]
		s3 += x[3] * y[3]
		s4 += x[4] * y[4]
		s5 += x[5] * y[5]
		s6 += x[6] * y[6]
		s7 += x[7] * y[7]
		s0 += x[8] * y[8]
		s1 += x[9] * y[9]
		s2 += x[10] * y[10]
		s3 += x[11] * y[11]
		s4 += x[12] * y[12]
		s5 += x[13] * y[13]
		s6 += x[14] * y[14]
		s7 += x[15] * y[15]
	}
	for i := n; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
}

func squaredDistanceGo(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	n := len(a) &^ 7
	for i := 0; i < n; i += 8 {
		x, y := (*[8]float32)(a[i:i+8]), (*[8]float32)(b[i:i+8])
		d0, d1, d2, d3 := x[0]-y[0], x[1]-y[1], x[2]-y[2], x[3]-y[3]
		d4, d5, d6, d7 := x[4]-y[4], x[5]-y[5], x[6]-y[6], x[7]-y[7]
		s0 += d0*d0 + d4*d4
		s1 += d1*d1 + d5*d5
		s2 += d2*d2 + d6*d6
		s3 += d3*d3 + d7*d7
	}
	for i := n; i < len(a); i++ {
		d := a[i] - b[i]
		s0 += d * d
	}
	return (s0 + s1) + (s2 + s3)
}

func weighGo(codes, levels []uint64, sums []int32) {
	words := len(levels) / planes
	for i := range sums {
		sums[i] = int32(weigh(codes[i*words:i*words+words], levels))
	}
}

// weigh sums the levels where the code has a 1.
func weigh(code, levels []uint64) int {
	var n0, n1, n2, n3 int
	for len(code) >= unitWords && len(levels) >= unitWords*planes {
		c, p := (*[unitWords]uint64)(code), (*[unitWords * planes]uint64)(levels)
		n0 += bits.OnesCount64(c[0]&p[0]) + bits.OnesCount64(c[1]&p[4]) + bits.OnesCount64(c[2]&p[8]) +
			bits.OnesCount64(c[3]&p[12]) + bits.OnesCount64(c[4]&p[16]) + bits.OnesCount64(c[5]&p[20])
		n1 += bits.OnesCount64(c[0]&p[1]) + bits.OnesCount64(c[1]&p[5]) + bits.OnesCount64(c[2]&p[9]) +
			bits.OnesCount64(c[3]&p[13]) + bits.OnesCount64(c[4]&p[17]) + bits.OnesCount64(c[5]&p[21])
		n2 += bits.OnesCount64(c[0]&p[2]) + bits.OnesCount64(c[1]&p[6]) + bits.OnesCount64(c[2]&p[10]) +
			bits.OnesCount64(c[3]&p[14]) + bits.OnesCount64(c[4]&p[18]) + bits.OnesCount64(c[5]&p[22])
		n3 += bits.OnesCount64(c[0]&p[3]) + bits.OnesCount64(c[1]&p[7]) + bits.OnesCount64(c[2]&p[11]) +
			bits.OnesCount64(c[3]&p[15]) + bits.OnesCount64(c[4]&p[19]) + bits.OnesCount64(c[5]&p[23])
		code, levels = code[unitWords:], levels[unitWords*planes:]
	}
	return n0 + 2*n1 + 4*n2 + 8*n3
}
