package main

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABodyIsSentAsItLiesAndNoMoreThanWasAnnounced(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for name, c := range map[string]struct {
		from   io.Reader
		want   []byte
		writes int // 0: as it may
		err    error
	}{
		"memory":               {&io.LimitedReader{R: io.NopCloser(bytes.NewReader(body)), N: int64(len(body))}, body, 1, nil},
		"memory that has more": {&io.LimitedReader{R: io.NopCloser(bytes.NewReader(body)), N: 100}, nil, 0, io.ErrShortWrite},
		"a stream":             {&io.LimitedReader{R: struct{ io.Reader }{bytes.NewReader(body)}, N: 100_000}, body[:100_000], 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			to := &noting{}
			n, err := (&sender{to}).ReadFrom(c.from)
			require.ErrorIs(t, err, c.err)
			require.EqualValues(t, len(c.want), n)
			require.True(t, bytes.Equal(c.want, to.got.Bytes()))
			if c.writes > 0 {
				require.Equal(t, c.writes, to.writes)
			}
		})
	}
}

// noting is a connection of which only the writes count.
type noting struct {
	net.Conn
	got    bytes.Buffer
	writes int
}

func (n *noting) Write(p []byte) (int, error) {
	n.writes++
	return n.got.Write(p)
}
