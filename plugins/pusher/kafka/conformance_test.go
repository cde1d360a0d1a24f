package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestThePluginConforms(t *testing.T) {
	b := newBroker(t)
	report := plugintest.Conform(t, plugintest.Build(t, "."), map[string]any{"brokers": []string{b.address}, "topic": b.topic})
	require.Empty(t, report.Remark(), "rows arrive")
}
