package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestThePluginConforms(t *testing.T) {
	for _, format := range []string{"jsonl", "csv"} {
		t.Run(format, func(t *testing.T) {
			report := plugintest.Conform(t, plugintest.Build(t, "."), map[string]any{"path": t.TempDir() + "/{org}/{uuid}.{format}", "format": format})
			require.Empty(t, report.Remark(), "rows arrive")
		})
	}
}
