package seal

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainly hides what else a reader can do, so that it is read as a body is.
type plainly struct{ io.Reader }
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkSeal(b *testing.B) {
	k := openKeys(b)
	for _, size := range []int{64 << 10, 64 << 20} {
		plain := noise(size)
		for name, frame := range map[string]int{"frames of 32 KiB": 32 << 10, "frames of 1 MiB": 1 << 20} {
			b.Run(name+"/"+bytesWord(size), func(b *testing.B) {
				buffer := make([]byte, frame)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					r, _, err := k.Seal(context.Background(), 7, plainly{bytes.NewReader(plain)})
					require.NoError(b, err)
					copyOut(b, r, buffer)
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	k := openKeys(b)
	for _, size := range []int{64 << 10, 64 << 20} {
		stored, keyID := sealed(b, k, 7, noise(size))
		for name, frame := range map[string]int{"frames of 32 KiB": 32 << 10, "frames of 1 MiB": 1 << 20} {
			b.Run(name+"/"+bytesWord(size), func(b *testing.B) {
				buffer := make([]byte, frame)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					r, err := k.Open(context.Background(), 7, keyID, int64(size), 0, -1, from(stored))
					require.NoError(b, err)
					copyOut(b, r, buffer)
					require.NoError(b, r.Close())
				}
			})
		}
	}
}

func copyOut(b *testing.B, r io.Reader, buffer []byte) {
	_, err := io.CopyBuffer(discard{}, r, buffer)
	require.NoError(b, err)
}

func bytesWord(n int) string {
	if n >= 1<<20 {
		return "large"
	}
	return "64 KiB"
}
