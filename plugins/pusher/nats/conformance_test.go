package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestThePluginConforms(t *testing.T) {
	s := newServer(t)
	report := plugintest.Conform(t, plugintest.Build(t, "."), s.config(map[string]any{"create_stream": true}))
	require.Empty(t, report.Remark(), "rows arrive")
}
