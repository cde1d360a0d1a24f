package delivery

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSettledSpansAgreeWithASetOfRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 60
		s, model := settled{cursor: 5}, map[uint64]bool{}
		for at := range uint64(5) {
			model[at] = true
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			from := rapid.Uint64Range(0, size).Draw(t, "from")
			to := rapid.Uint64Range(from, size).Draw(t, "to")
			s.add(from, to)
			for at := from; at < to; at++ {
				model[at] = true
			}
			cursor := uint64(0)
			for model[cursor] {
				cursor++
			}
			if s.cursor != cursor {
				t.Fatalf("cursor %d, want %d", s.cursor, cursor)
			}
			last := s.cursor
			for _, a := range s.spans {
				if a.from <= last || a.to <= a.from {
					t.Fatalf("spans %v touch each other or the cursor %d", s.spans, s.cursor)
				}
				last = a.to
			}
			lo := rapid.Uint64Range(0, size).Draw(t, "lo")
			hi := rapid.Uint64Range(lo, size).Draw(t, "hi")
			want, inside := 0, 0
			for at := lo; at < hi; at++ {
				if model[at] {
					want++
				}
			}
			for _, a := range s.within(lo, hi) {
				inside += int(a.to - a.from)
			}
			if got := s.count(lo, hi); got != want || inside != want {
				t.Fatalf("%d (%d within) of [%d, %d), want %d", got, inside, lo, hi, want)
			}
		}
	})
}

func TestNotesSurvivePacking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var notes []note
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			from := rapid.Uint64Range(1<<51, 1<<51+1000).Draw(t, "from")
			notes = append(notes, note{from, from + rapid.Uint64Range(1, 500).Draw(t, "len"), noteKind(rapid.IntRange(1, 4).Draw(t, "kind")), rapid.IntRange(0, 1<<20).Draw(t, "attempts")})
		}
		lo, hi, blob := packNotes(notes)
		got, err := unpackNotes(lo, blob)
		require.NoError(t, err)
		require.Equal(t, notes, got)
		for _, n := range notes {
			require.LessOrEqual(t, lo, n.from)
			require.GreaterOrEqual(t, hi, n.to)
		}
	})
}

func TestADeliveryIDHasOneSpelling(t *testing.T) {
	for _, position := range []uint64{0, 35, 36, 1732131215 << 20, maxPosition - 1} {
		got, err := ParseDeliveryID(DeliveryID(position))
		require.NoError(t, err)
		require.Equal(t, position, got)
	}
	for _, id := range []string{"", "dlv-", "dlv-0a", "dlv-A", "dlv-+1", "dlv--1", "dlq-1", "1", "dlv-zzzzzzzzzzzzz", "dlv-1 ", DeliveryID(maxPosition)} {
		_, err := ParseDeliveryID(id)
		require.ErrorIs(t, err, ErrBadID, id)
	}
}
