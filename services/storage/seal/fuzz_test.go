package seal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever a backend gives instead of an object: an error, or exactly what was written.
func FuzzOpen(f *testing.F) {
	k := openKeys(f)
	plain := noise(ChunkSize + 300)
	stored, keyID := sealed(f, k, 7, plain)
	f.Add(stored, keyID, int64(len(plain)), int64(0), int64(-1))
	f.Add(stored[:len(stored)-1], keyID, int64(len(plain)), int64(ChunkSize), int64(5))
	f.Add(stored[:headerSize], keyID, int64(0), int64(0), int64(0))
	f.Add([]byte("RGSEAL"), "AQ", int64(-1), int64(1<<62), int64(1<<62))
	f.Fuzz(func(t *testing.T, bad []byte, id string, size, at, length int64) {
		for _, id := range []string{id, keyID} {
			got, err := opened(t.Context(), k, 7, id, size, at, length, from(bad))
			if len(got) > 0 {
				require.LessOrEqual(t, at+int64(len(got)), int64(len(plain)))
				require.True(t, bytes.Equal(plain[at:at+int64(len(got))], got))
			}
			if err == nil && length != 0 && !bytes.HasPrefix(bad, stored) && len(got) == 0 {
				require.True(t, at == size, "nothing was wanted")
			}
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrKeyGone) {
				require.Empty(t, got)
			}
		}
	})
}

func FuzzKeyID(f *testing.F) {
	_, keyID := sealed(f, openKeys(f), 7, nil)
	f.Add(keyID)
	f.Add("")
	f.Add("AQ==")
	f.Fuzz(func(t *testing.T, text string) {
		if i, err := parseID(text); err == nil {
			require.Equal(t, text, i.String(), "one text an object")
		}
	})
}
