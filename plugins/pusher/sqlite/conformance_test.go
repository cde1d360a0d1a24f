package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestThePluginConforms(t *testing.T) {
	report := plugintest.Conform(t, plugintest.Build(t, "."), map[string]any{"path": t.TempDir() + "/rows.sqlite"})
	require.Empty(t, report.Remark(), "rows arrive")
}
