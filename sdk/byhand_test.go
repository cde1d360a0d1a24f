package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

type handy struct {
	URL   string `config:"url" required:"true" doc:"Where rows go."`
	Token Secret `config:"token" doc:"Bearer token."`
}

func (*handy) Deliver(context.Context, *Batch) error { return nil }

func TestStartedByHandAPluginExplainsItself(t *testing.T) {
	p := Plugin{Name: "my-acme", Version: "1.0.0", Summary: "Posts rows to Acme.", Pusher: func() Pusher { return new(handy) }}
	d, err := p.describe()
	require.NoError(t, err)

	var stdout, stderr bytes.Buffer
	require.Equal(t, 1, byHand(p, d, nil, &stdout, &stderr))
	require.Empty(t, stdout.String())
	for _, says := range []string{"Posts rows to Acme", "A host starts it", "PLUGIN_MY_ACME_ENABLED=true", "PLUGIN_MY_ACME_TOKEN  secret", "Required."} {
		require.Contains(t, stderr.String(), says)
	}
	require.Equal(t, 0, byHand(p, d, []string{"--version"}, &stdout, &stderr))
	require.Equal(t, "rivergate-pusher-my-acme 1.0.0 (sdk "+Version+", protocol 2, 1)\n", stdout.String())

	stdout.Reset()
	require.Equal(t, 0, byHand(p, d, []string{"--describe"}, &stdout, &stderr))
	var described struct {
		Name         string
		Kind         string
		ConfigSchema struct{ Required []string } `json:"config_schema"`
	}
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &described))
	require.Equal(t, "my-acme", described.Name)
	require.Equal(t, "pusher", described.Kind)
	require.Equal(t, []string{"url"}, described.ConfigSchema.Required)
	require.Equal(t, 1, byHand(p, d, []string{"--nonsense"}, &stdout, &stderr))
}
