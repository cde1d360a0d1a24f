package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// sizes around what chunks make special.
func sizes() *rapid.Generator[int] {
	return rapid.OneOf(
		rapid.SampledFrom([]int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2*ChunkSize - 1, 2 * ChunkSize, 3*ChunkSize + 17}),
		rapid.IntRange(0, 4*ChunkSize),
	)
}

// chopped gives the bytes of r in pieces as a network does, io.EOF with the last of them or after it.
type chopped struct {
	rest []byte
	rng  *rand.Rand
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+c.rng.IntN(100_000))], c.rest)
	c.rest = c.rest[n:]
	if len(c.rest) == 0 && c.rng.IntN(2) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// readBy reads to the end with reads of size bytes.
func readBy(r io.Reader, size int) ([]byte, error) {
	var all []byte
	p := make([]byte, size)
	for {
		n, err := r.Read(p)
		all = append(all, p[:n]...)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func TestAnyRangeOfAnyObjectComesBack(t *testing.T) {
	k := openKeys(t)
	rapid.Check(t, func(t *rapid.T) {
		plain := noise(sizes().Draw(t, "size"))
		size := int64(len(plain))
		reads := rapid.SampledFrom([]int{7 << 10, ChunkSize, ChunkSize + overhead, 1 << 20})
		r, keyID, err := k.Seal(context.Background(), 7, &chopped{plain, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))})
		require.NoError(t, err)
		stored, err := readBy(r, reads.Draw(t, "read"))
		require.NoError(t, err)
		require.Equal(t, StoredSize(size), int64(len(stored)))
		back, ok := PlainSize(int64(len(stored)))
		require.True(t, ok)
		require.Equal(t, size, back)

		at := rapid.Int64Range(0, size).Draw(t, "from")
		length := rapid.Int64Range(-1, size+1).Draw(t, "length")
		want := plain[at:]
		if length >= 0 {
			want = want[:min(length, int64(len(want)))]
		}
		fetched, backend := int64(0), from(stored)
		o, err := k.Open(context.Background(), 7, keyID, size, at, length, func(ctx context.Context, from, length int64) (io.ReadCloser, error) {
			part, err := backend(ctx, from, length)
			return counted{part, &fetched}, err
		})
		require.NoError(t, err)
		got, err := readBy(o, reads.Draw(t, "read"))
		require.NoError(t, err)
		require.NoError(t, o.Close())
		require.True(t, bytes.Equal(want, got), "other bytes")
		require.LessOrEqual(t, fetched, int64(len(want))+2*(ChunkSize+overhead)+int64(headerSize)+overhead*chunks(int64(len(want))))
	})
}

// counted counts the bytes that were read.
type counted struct {
	io.ReadCloser
	n *int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	*c.n += int64(n)
	return n, err
}

func TestPartsMakeTheSameAsTheWhole(t *testing.T) {
	k := openKeys(t)
	rapid.Check(t, func(t *rapid.T) {
		plain := noise(max(1, sizes().Draw(t, "size")))
		part := ChunkSize * rapid.IntRange(1, 3).Draw(t, "chunks a part")
		keyID, err := k.NewID(context.Background(), 7)
		require.NoError(t, err)
		var stored []byte
		for at := 0; at < len(plain); at += part {
			piece, last := plain[at:min(at+part, len(plain))], at+part >= len(plain)
			again := rapid.IntRange(1, 2).Draw(t, "tries")
			for try := range again {
				r, err := k.SealPart(context.Background(), 7, keyID, int64(at), last, bytes.NewReader(piece))
				require.NoError(t, err)
				b, err := io.ReadAll(r)
				require.NoError(t, err)
				require.Equal(t, StoredPart(int64(at), int64(len(piece)), last), int64(len(b)))
				if try == again-1 {
					stored = append(stored, b...)
				}
			}
		}
		require.Equal(t, StoredSize(int64(len(plain))), int64(len(stored)))
		got, err := opened(context.Background(), k, 7, keyID, int64(len(plain)), 0, -1, from(stored))
		require.NoError(t, err)
		require.True(t, bytes.Equal(plain, got))
	})
}

func TestPartsThatCannotBelongTogetherAreRefused(t *testing.T) {
	k := openKeys(t)
	keyID, err := k.NewID(t.Context(), 7)
	require.NoError(t, err)
	_, err = k.SealPart(t.Context(), 7, keyID, 5, true, nil)
	require.ErrorContains(t, err, "no multiple")
	for _, c := range []struct {
		at, size int
		last     bool
		want     string
	}{{0, ChunkSize + 1, false, "ends at byte 1"}, {ChunkSize, 0, true, "is empty"}} {
		r, err := k.SealPart(t.Context(), 7, keyID, int64(c.at), c.last, bytes.NewReader(noise(c.size)))
		require.NoError(t, err)
		_, err = io.ReadAll(r)
		require.ErrorContains(t, err, c.want)
	}
}

func TestAnyByteThatIsChangedIsFoundOut(t *testing.T) {
	k := openKeys(t)
	rapid.Check(t, func(t *rapid.T) {
		plain := noise(sizes().Draw(t, "size"))
		stored, keyID := sealedIn(t, k, plain)
		at := rapid.IntRange(0, len(stored)-1).Draw(t, "at")
		stored[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		got, err := opened(context.Background(), k, 7, keyID, int64(len(plain)), 0, -1, from(stored))
		require.ErrorIs(t, err, ErrCorrupt)
		require.True(t, bytes.HasPrefix(plain, got), "what was given before is what was written")
	})
}

func sealedIn(t require.TestingT, k *Keys, plain []byte) ([]byte, string) {
	r, keyID, err := k.Seal(context.Background(), 7, bytes.NewReader(plain))
	require.NoError(t, err)
	stored, err := io.ReadAll(r)
	require.NoError(t, err)
	return stored, keyID
}

func TestChunksCannotBeMovedDroppedAddedOrCutOff(t *testing.T) {
	k := openKeys(t)
	plain := noise(4*ChunkSize + 100)
	size := int64(len(plain))
	stored, keyID := sealed(t, k, 7, plain)
	other, otherID := sealed(t, k, 7, plain)
	chunk := func(s []byte, n int64) []byte { return s[storedAt(n):min(storedAt(n+1), int64(len(s)))] }
	head := stored[:headerSize]
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, c := range map[string]struct {
		stored []byte
		size   int64
	}{
		"two change places":         {join(head, chunk(stored, 1), chunk(stored, 0), chunk(stored, 2), chunk(stored, 3), chunk(stored, 4)), size},
		"one twice":                 {join(head, chunk(stored, 0), chunk(stored, 0), chunk(stored, 2), chunk(stored, 3), chunk(stored, 4)), size},
		"one left out":              {join(head, chunk(stored, 0), chunk(stored, 2), chunk(stored, 3), chunk(stored, 4)), size - ChunkSize},
		"the last cut off":          {stored[:storedAt(4)], 4 * ChunkSize},
		"cut in a chunk":            {stored[:storedAt(4)+50], size},
		"cut, with a shorter size":  {stored[:len(stored)-10], size - 10},
		"all but the header":        {head, 0},
		"nothing":                   {nil, size},
		"a byte behind the end":     {join(stored, []byte{0}), size},
		"a chunk behind the end":    {join(stored, chunk(stored, 4)), size},
		"another object's":          {other, size},
		"another object's chunk":    {join(stored[:storedAt(2)], chunk(other, 2), stored[storedAt(3):]), size},
		"another object's header":   {join(other[:headerSize], stored[headerSize:]), size},
		"the first chunk as a last": {stored[:storedAt(1)], ChunkSize},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := opened(t.Context(), k, 7, keyID, c.size, 0, -1, from(c.stored))
			require.ErrorIs(t, err, ErrCorrupt)
			require.True(t, bytes.HasPrefix(plain, got))
		})
	}
	_, err := opened(t.Context(), k, 7, otherID, size, 0, -1, from(stored))
	require.ErrorIs(t, err, ErrCorrupt, "the ledger's row names another object")
	_, err = opened(t.Context(), k, 8, keyID, size, 0, -1, from(stored))
	require.ErrorIs(t, err, ErrKeyGone, "another org")
}

// Reading is given up with the backend's own error, and a body that fails seals nothing that could be taken for the whole.
func TestErrorsOfOthersComeThrough(t *testing.T) {
	k := openKeys(t)
	sick := errors.New("sick")
	for _, cause := range []error{sick, io.ErrUnexpectedEOF} {
		r, _, err := k.Seal(t.Context(), 7, io.MultiReader(bytes.NewReader(noise(ChunkSize+5)), iotest.ErrReader(cause)))
		require.NoError(t, err)
		stored, err := io.ReadAll(r)
		require.ErrorIs(t, err, cause)
		require.Equal(t, headerSize+ChunkSize+overhead, len(stored))
		_, err = r.Read(make([]byte, 10))
		require.ErrorIs(t, err, cause, "it stays so")
	}
	stored, keyID := sealed(t, k, 7, noise(3*ChunkSize))
	_, err := opened(t.Context(), k, 7, keyID, 3*ChunkSize, 0, -1, func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(stored[:1000]), iotest.ErrReader(sick))), nil
	})
	require.ErrorIs(t, err, sick)
	require.NotErrorIs(t, err, ErrCorrupt)
	_, err = opened(t.Context(), k, 7, keyID, 3*ChunkSize, 0, -1, func(context.Context, int64, int64) (io.ReadCloser, error) { return nil, sick })
	require.ErrorIs(t, err, sick)
}
