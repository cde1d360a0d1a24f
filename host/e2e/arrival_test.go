package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// arrival is one line of the file pusher.
type arrival struct {
	Position   uint64          `json:"position"`
	OrgID      uint64          `json:"org_id"`
	UUID       string          `json:"uuid"`
	Index      *int            `json:"index"`
	ReceivedAt string          `json:"received_at"`
	Data       json.RawMessage `json:"data"`
}

// arrivals reads what a file pusher wrote, in its order. A file that was never made holds nothing.
func arrivals(t *testing.T, path string) []arrival {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	defer f.Close()
	var all []arrival
	for r := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			require.Empty(t, line, "a line of the file has no end")
			return all
		}
		require.NoError(t, err)
		var a arrival
		require.NoError(t, json.Unmarshal(line, &a), "line %d: %s", len(all)+1, line)
		all = append(all, a)
	}
}

// id finds the ledger's name of the row.
func (a arrival) id(t *testing.T) rowID { return rowOf(t, a.UUID, a.Data) }

// seqMember is how the load's rows begin; scanning for it is cheaper than decoding each row.
var seqMember = []byte(`{"seq":`)

func rowOf(t *testing.T, uuid string, data json.RawMessage) rowID {
	t.Helper()
	rest, ok := bytes.CutPrefix(data, seqMember)
	require.True(t, ok, "not a row of the load: %s", data)
	n := 0
	for i, c := range rest {
		if c < '0' || c > '9' {
			require.Positive(t, i, "no sequence in %s", data)
			break
		}
		n = n*10 + int(c-'0')
	}
	return rowID{uuid, n}
}
