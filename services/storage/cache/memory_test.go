package cache

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheOrgThatTakesMostGivesWay(t *testing.T) {
	const share, most = 100 << 10, 200<<10 + 20*orgOverhead
	r := open(t, Options{OrgBytes: share, TotalBytes: most})
	value := `"` + strings.Repeat("x", 1000) + `"`
	r.put(1, "small", `"mine"`)
	for org := uint64(2); org < 12; org++ { // each within its share, all together far beyond what there is
		for i := range 70 {
			r.put(org, fmt.Sprint(i), value)
			require.Equal(t, value, r.value(org, fmt.Sprint(i)))
		}
	}
	require.Equal(t, `"mine"`, r.value(1, "small"))
	m := r.store.(*memory)
	require.LessOrEqual(t, m.bytes.Load(), int64(most))
	require.Greater(t, r.Stats().Bytes, int64(150<<10), "the room is used")
	var least, greatest int64 = most, 0
	for org := uint64(2); org < 12; org++ {
		bytes := m.shelf(org).size().Bytes
		least, greatest = min(least, bytes), max(greatest, bytes)
	}
	require.Greater(t, least, greatest/4, "it is shared about evenly")
}

func TestAnOrgWithoutEntriesTakesNothing(t *testing.T) {
	o := byHand
	o.OrgBytes, o.TotalBytes = 1<<20, 1<<30
	r := open(t, o)
	for org := range uint64(500) {
		r.put(org+1, "k", `1`, Keep{TTL: time.Second})
	}
	r.clock.advance(3 * time.Second)
	r.swept()
	m := r.store.(*memory)
	require.Zero(t, m.bytes.Load())
	for org := range uint64(500) {
		require.Nil(t, m.shelf(org+1))
	}
}
