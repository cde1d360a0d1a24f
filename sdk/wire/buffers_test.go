package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
)

var _ mem.BufferPool = &bufferPool{}

func TestABufferHasItsLengthAndWastesLessThanHalf(t *testing.T) {
	var p bufferPool
	for _, length := range []int{0, 1, 1 << 10, 1<<10 + 1, 64<<10 + 40, 1 << 20, 1<<20 + 1, 1 << 25, 1<<25 + 1} {
		for range 2 { // a new one, and perhaps the one that was given back
			b := p.Get(length)
			require.Len(t, *b, length)
			require.Less(t, cap(*b), max(2*length, 1<<10+1))
			*b = (*b)[:length/2] // as its user may leave it
			p.Put(b)
		}
	}
	foreign := make([]byte, 1500)
	p.Put(&foreign)
	require.GreaterOrEqual(t, cap(*p.Get(2000)), 2000)
}
