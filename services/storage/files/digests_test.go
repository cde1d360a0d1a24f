package files

import (
	"crypto/md5" //nolint:gosec // what Content-MD5 is
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDigestsAreTheSameWhereverTheyAreComputed(t *testing.T) {
	content := make([]byte, 40<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	between, beside := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		d := newDigests([]announced{{md5: true}})
		defer d.settle()
		clock, slow := time.Unix(1, 0), false
		d.now = func() time.Time { // each look takes a moment, which is what hashing takes, as it seems
			clock = clock.Add(time.Microsecond)
			return clock
		}
		size := 0
		for phase := range rapid.IntRange(1, 4).Draw(r, "phases") { // in turn, somebody else is slow, and is not
			if phase > 0 || rapid.Bool().Draw(r, "slow at first") {
				slow = !slow
			}
			for left := rapid.SampledFrom([]int{0, 1, 1 << 20, 9 << 20, 10 << 20}).Draw(r, "bytes"); left > 0; {
				k := min(left, rapid.SampledFrom([]int{1000, 64 << 10, 300_000, 3 << 20}).Draw(r, "at once"))
				if slow {
					clock = clock.Add(time.Second)
				}
				p := append([]byte(nil), content[size:size+k]...)
				d.write(p)
				clear(p) // it is the caller's again
				if left, size = left-k, size+k; d.settled == nil {
					between++
				} else {
					beside++
				}
			}
		}
		sha, sum := sha256.Sum256(content[:size]), md5.Sum(content[:size]) //nolint:gosec // see above
		require.Equal(t, hex.EncodeToString(sha[:]), d.hex())
		require.Equal(t, sum[:], d.md5.Sum(nil))
	})
	require.Positive(t, between)
	require.Positive(t, beside)
}

func TestHashingIsDoneBetweenWhereThereIsTime(t *testing.T) {
	d := newDigests(nil)
	defer d.settle()
	clock := time.Unix(1, 0)
	d.now = func() time.Time {
		clock = clock.Add(time.Microsecond)
		return clock
	}
	piece := make([]byte, hashWindow/16)
	pass := func(windows int, pause time.Duration) {
		for range 16 * windows {
			d.write(piece)
			clock = clock.Add(pause)
		}
	}
	pass(2, 0)
	require.NotNil(t, d.settled, "nothing is waited for")
	pass(2, 10*time.Microsecond)
	require.Nil(t, d.settled, "something is")
	pass(2, time.Microsecond)
	require.NotNil(t, d.settled)
}
