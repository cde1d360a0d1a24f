package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// SeaweedFS keeps the metadata of the object that is copied, but for what the copy says.
func TestACopySaysItsTier(t *testing.T) {
	s := newStore(t)
	proxy := s.proxy()
	var said []string
	s.behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if purpose(r) == "copy" {
			said = append(said, r.Header.Get("X-Amz-Meta-"+tierNote))
		}
		proxy.ServeHTTP(w, r)
	}))
	h := plugintest.Connect(t, plugin)
	require.Empty(t, h.Configure(s.config(map[string]any{"warm_class": "STANDARD_IA"})))
	_, err := h.Client.Put(t.Context(), plugintest.Instance, protocol.Put{Key: "a", Size: 1, Tier: protocol.TierWarm}, strings.NewReader("x"))
	require.NoError(t, err)
	for _, to := range []protocol.Put{{Key: "b", Size: 1, Tier: protocol.TierHot, OnlyNew: true}, {Key: "a", Size: 1}} {
		copied, err := h.Client.Copy(t.Context(), plugintest.Instance, "a", to)
		require.NoError(t, err)
		require.Equal(t, protocol.TierHot, copied.Tier)
	}
	require.Equal(t, []string{"hot", "hot"}, said)
}
