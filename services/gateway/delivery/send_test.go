package delivery

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestWhatWaitsIsGatheredAsFarAsItGoesIntoOneMessage(t *testing.T) {
	batch := func(bytes int) *protocol.Batch {
		return &protocol.Batch{Frames: []protocol.Frame{{Data: make([]byte, bytes)}}}
	}
	for name, c := range map[string]struct {
		waits []int // bytes of the batches
		want  []int // how many go together
	}{
		"small ones":       {[]int{1, 1, 1}, []int{3}},
		"one alone":        {[]int{1}, []int{1}},
		"large ones":       {[]int{protocol.PackBytes, protocol.PackBytes, 1, 1}, []int{1, 1, 2}},
		"until it is full": {[]int{protocol.PackBytes / 2, protocol.PackBytes / 2, 1}, []int{2, 1}},
	} {
		s := &session{outbox: make(chan *protocol.Batch, len(c.waits))}
		for _, bytes := range c.waits {
			s.outbox <- batch(bytes)
		}
		close(s.outbox)
		var got []int
		for b := range s.outbox {
			got = append(got, len(s.gather([]*protocol.Batch{b})))
		}
		require.Equal(t, c.want, got, name)
	}
}
