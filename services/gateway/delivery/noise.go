package delivery

import (
	"sync"
	"time"
)

const (
	noiseBurst = 10
	noiseEvery = time.Second
)

// noise lets some log lines through: a burst, then one a second. It counts those unsaid.
type noise struct {
	mu     sync.Mutex
	left   int
	last   time.Time
	unsaid int
}

func newNoise() *noise { return &noise{left: noiseBurst} }

// allow tells whether a line may be written, and how many were not since the last one.
func (n *noise) allow(now time.Time) (unsaid int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if more := int(now.Sub(n.last) / noiseEvery); more > 0 {
		n.left, n.last = min(noiseBurst, n.left+more), now
	}
	if n.left == 0 {
		n.unsaid++
		return 0, false
	}
	n.left--
	unsaid, n.unsaid = n.unsaid, 0
	return unsaid, true
}
