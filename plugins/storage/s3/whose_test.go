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

// cutting is a proxy in front of the server that cuts connections instead of answering.
type cutting struct {
	answers  atomic.Int64 // so many answers to requests that make an object are lost
	refusals atomic.Bool  // so are those that refuse one
}

func newCutting(t *testing.T, s *store) *cutting {
	t.Helper()
	c := &cutting{}
	proxy := s.proxy()
	proxy.ModifyResponse = func(r *http.Response) error {
		making := r.Request.Method == http.MethodPut && r.Request.URL.Query().Get("uploadId") == "" || r.Request.Method == http.MethodPost && r.Request.URL.Query().Has("uploadId")
		switch {
		case making && r.StatusCode < 300 && c.answers.Add(-1) >= 0, r.StatusCode == http.StatusPreconditionFailed && c.refusals.Load():
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) }
	s.behind(t, proxy)
	return c
}

func TestAnObjectWhoseAnswerWasLostIsOurs(t *testing.T) {
	s := newStore(t)
	c := newCutting(t, s)
	h := plugintest.Connect(t, plugin)
	require.Empty(t, h.Configure(s.config(nil)))
	put := func(key string, size int) error {
		content := bytes.Repeat([]byte("x"), size)
		o, err := h.Client.Put(t.Context(), plugintest.Instance, protocol.Put{Key: key, Size: int64(size), OnlyNew: true}, bytes.NewReader(content))
		if err == nil {
			require.EqualValues(t, size, o.Size)
			require.NotEmpty(t, o.ETag)
		}
		return err
	}
	for key, size := range map[string]int{"small": 1000, "large": 20 << 20} {
		c.answers.Store(1)
		require.NoError(t, put(key, size), "the request that is sent again is told that there is an object: its own")
		require.LessOrEqual(t, c.answers.Load(), int64(0), "an answer was lost")
		require.ErrorIs(t, put(key, size), sdk.ErrPrecondition)
		c.refusals.Store(true)
		require.ErrorIs(t, put(key, size), sdk.ErrPrecondition, "also of a server that cuts the connection instead of saying so")
		c.refusals.Store(false)
	}
}
