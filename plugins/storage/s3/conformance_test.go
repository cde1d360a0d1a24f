package main

import (
	"testing"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestItKeepsTheContract(t *testing.T) {
	s := newStore(t)
	plugintest.Conform(t, plugintest.Build(t, "."), s.config(map[string]any{"warm_class": "STANDARD_IA"}))
}

// Over TLS nothing of a body is signed.
func TestItKeepsTheContractOverTLS(t *testing.T) {
	s := newStore(t)
	s.behindTLS(t)
	plugintest.Conform(t, plugintest.Build(t, "."), s.config(map[string]any{"warm_class": "STANDARD_IA"}))
}
