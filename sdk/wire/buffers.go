package wire

import (
	"math/bits"
	"sync"
)

const (
	smallestBuffer = 10 // 1 KiB, as a power of two
	largestBuffer  = 25 // 32 MiB
)

// bufferPool holds buffers by size, in powers of two. It is a mem.BufferPool whose buffers come as they were left: gRPC's own
// fills each with zeros, and has no size between 32 KiB and 1 MiB, so that a message of 64 KiB costs 1 MiB of zeros.
type bufferPool struct {
	bySize [largestBuffer - smallestBuffer + 1]sync.Pool
}

// buffers are those of the messages that this package writes by itself.
var buffers bufferPool

// Get gives a buffer of that length, with anything in it.
func (p *bufferPool) Get(length int) *[]byte {
	power := smallestBuffer
	if length > 1<<smallestBuffer {
		power = bits.Len(uint(length - 1))
	}
	if power > largestBuffer {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.bySize[power-smallestBuffer].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, 1<<power)
	return &b
}

// Put takes a buffer back that Get gave.
func (p *bufferPool) Put(b *[]byte) {
	power := bits.Len(uint(cap(*b))) - 1
	if power >= smallestBuffer && power <= largestBuffer && cap(*b) == 1<<power {
		p.bySize[power-smallestBuffer].Put(b)
	}
}
