package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestThePluginConforms(t *testing.T) {
	b := newStore(t)
	report := plugintest.Conform(t, plugintest.Build(t, "."), b.config(map[string]any{"roll_interval": "100ms"}))
	require.Empty(t, report.Remark(), "rows arrive")
}
