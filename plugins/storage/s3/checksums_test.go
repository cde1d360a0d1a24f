package main

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// choosy is a proxy in front of the server that takes no checksums, or spoils a byte of each part.
type choosy struct {
	refuses, spoils          atomic.Bool
	declared, begun, checked atomic.Int64
}

func newChoosy(t *testing.T, s *store) *choosy {
	t.Helper()
	c := &choosy{}
	proxy := s.proxy()
	s.behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Query().Has("uploads") {
			c.begun.Add(1)
			if r.Header.Get("X-Amz-Checksum-Algorithm") != "" {
				c.declared.Add(1)
				if c.refuses.Load() {
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, "<Error><Code>InvalidArgument</Code><Message>Unsupported header 'x-amz-checksum-algorithm'</Message></Error>")
					return
				}
			}
		}
		if r.Header.Get("X-Amz-Checksum-Crc32c") != "" {
			c.checked.Add(1)
		}
		if r.Method == http.MethodPut && c.spoils.Load() {
			body, err := io.ReadAll(r.Body)
			if err != nil || len(body) == 0 {
				panic(http.ErrAbortHandler)
			}
			body[len(body)/2] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		proxy.ServeHTTP(w, r)
	}))
	return c
}

func TestPartsCarryChecksumsWhereTheServerTakesThem(t *testing.T) {
	s := newStore(t)
	c := newChoosy(t, s)
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	connect := func(more map[string]any) func(key string) error {
		h := plugintest.Connect(t, plugin)
		require.Empty(t, h.Configure(s.config(more)))
		return func(key string) error {
			o, err := h.Client.Put(t.Context(), plugintest.Instance, protocol.Put{Key: key, Size: -1}, bytes.NewReader(content))
			if err != nil {
				return err
			}
			require.EqualValues(t, len(content), o.Size)
			_, from, err := h.Client.Get(t.Context(), plugintest.Instance, key, protocol.Whole())
			require.NoError(t, err)
			got, err := io.ReadAll(from)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got))
			return from.Close()
		}
	}
	put := connect(nil)
	require.NoError(t, put("taken"))
	require.EqualValues(t, 1, c.declared.Load())
	require.EqualValues(t, 3, c.checked.Load(), "parts")
	c.spoils.Store(true)
	require.ErrorIs(t, put("spoilt"), sdk.ErrChecksum)
	c.spoils.Store(false)

	c.refuses.Store(true)
	c.declared.Store(0)
	c.begun.Store(0)
	require.NoError(t, put("refused"))
	require.NoError(t, put("not asked again"))
	require.EqualValues(t, 1, c.declared.Load())
	require.EqualValues(t, 3, c.begun.Load())

	c.checked.Store(0)
	put = connect(map[string]any{"checksums": false})
	require.NoError(t, put("switched off"))
	require.EqualValues(t, 1, c.declared.Load())
	require.Zero(t, c.checked.Load())
}
