package main

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what S3 compares
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABodyIsTheSameInMemoryAndInAFile(t *testing.T) {
	piece := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	for name, c := range map[string]struct {
		size   int64 // as it is expected
		pieces int
		file   bool
	}{
		"fits":                    {4 << 20, 4, false},
		"nobody knows":            {0, 4, false},
		"larger than expected":    {1 << 20, 4, false},
		"becomes too large":       {0, heldBody>>20 + 1, true},
		"is known to be large":    {heldBody + 1, heldBody>>20 + 1, true},
		"smaller than is thought": {heldBody + 1, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "object")
			b := newBody(path, []byte("left of another object"), c.size)
			want := md5.New() //nolint:gosec // see above
			for i := range c.pieces {
				piece[0] = byte(i)
				_, _ = want.Write(piece)
				n, err := b.Write(piece)
				require.NoError(t, err)
				require.Equal(t, len(piece), n)
			}
			require.NoError(t, b.flush())
			require.Equal(t, int64(c.pieces*len(piece)), b.size)
			require.Equal(t, want.Sum(nil), b.sum.Sum(nil))
			for range 2 { // a request that failed is sent again
				got := md5.New() //nolint:gosec // see above
				_, err := io.Copy(got, b.reader())
				require.NoError(t, err)
				require.Equal(t, want.Sum(nil), got.Sum(nil))
			}
			if c.file {
				require.FileExists(t, path)
			}
			b.remove()
			require.NoFileExists(t, path)
		})
	}
}
