package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestThePluginConforms(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			UUID *string           `json:"uuid"`
			Rows []json.RawMessage `json:"rows"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.UUID == nil || len(body.Rows) == 0 {
			http.Error(w, "no rows", http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer receiver.Close()
	report := plugintest.Conform(t, plugintest.Build(t, "."), map[string]any{"url": receiver.URL})
	require.Empty(t, report.Remark(), "rows arrive")
}

// Rows behind one that the destination turned away wait for it, which the suite sees only with a destination that does.
func TestThePluginConformsWhileTheDestinationIsBusy(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer receiver.Close()
	report := plugintest.Conform(t, plugintest.Build(t, "."), map[string]any{"url": receiver.URL})
	require.NotEmpty(t, report.Remark())
}
