package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
)

var update = flag.Bool("update", false, "write testdata anew: only for a new version of the format")

// known is what a host wrote once, and every later one has to read.
type known struct {
	Master  string        `json:"master"`
	Org     uint64        `json:"org"`
	Key     string        `json:"key"`
	Wrapped string        `json:"wrapped"` // hex
	Print   string        `json:"fingerprint"`
	Objects []knownObject `json:"objects"` // each is noise(size), sealed in the file <version>-<size>
}

type knownObject struct {
	KeyID string `json:"key_id"`
	Size  int    `json:"size"`
}

func (o knownObject) file() string {
	return filepath.Join("testdata", "version1-"+strconv.Itoa(o.Size))
}

var knownFile = filepath.Join("testdata", "version1.json")

func TestWhatOldHostsSealedIsReadForEver(t *testing.T) {
	if *update {
		writeKnown(t)
	}
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		text, err := os.ReadFile(knownFile)
		require.NoError(t, err)
		var want known
		require.NoError(t, json.Unmarshal(text, &want))
		m, err := ParseMaster(want.Master)
		require.NoError(t, err)
		require.Equal(t, want.Print, m.Fingerprint())
		k, err := Open(t.Context(), db, Given(m), Options{})
		require.NoError(t, err)
		wrapped, err := hex.DecodeString(want.Wrapped)
		require.NoError(t, err)
		require.NoError(t, k.store.add(t.Context(), want.Org, wrappedKey{want.Key, wrapped, want.Print}, true, time.Now()))
		require.Len(t, want.Objects, 4)
		for _, o := range want.Objects {
			stored, err := os.ReadFile(o.file())
			require.NoError(t, err)
			plain, err := opened(t.Context(), k, want.Org, o.KeyID, int64(o.Size), 0, -1, from(stored))
			require.NoError(t, err)
			require.True(t, bytes.Equal(noise(o.Size), plain))
		}
	})
}

func writeKnown(t *testing.T) {
	k := openKeys(t)
	m, err := k.master(k.Master())
	require.NoError(t, err)
	w := known{Master: hex.EncodeToString(m.secret()), Org: 7, Print: m.Fingerprint()}
	for _, size := range []int{0, 1, 100, ChunkSize + 5} {
		stored, keyID := sealed(t, k, w.Org, noise(size))
		o := knownObject{keyID, size}
		require.NoError(t, os.WriteFile(o.file(), stored, 0o644))
		w.Objects = append(w.Objects, o)
	}
	row, err := k.store.current(t.Context(), w.Org)
	require.NoError(t, err)
	w.Key, w.Wrapped = row.id, hex.EncodeToString(row.wrapped)
	text, err := json.MarshalIndent(w, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(knownFile, append(text, '\n'), 0o644))
}
