package sdk_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// Acme is a complete pusher: its settings, and what it does with a batch.
type Acme struct {
	URL   string     `config:"url" required:"true" format:"uri" doc:"Where rows go."`
	Token sdk.Secret `config:"token" doc:"Bearer token."`
}

// Deliver posts each row. What it says nothing about was delivered.
func (a *Acme) Deliver(ctx context.Context, b *sdk.Batch) error {
	for row := range b.Rows() {
		b.Fail(row, a.post(ctx, row)) // nil: delivered
	}
	return nil
}

func (a *Acme) post(ctx context.Context, row sdk.Row) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(row.JSON()))
	if err != nil {
		return sdk.Permanent("request", err)
	}
	req.Header.Set("Authorization", "Bearer "+a.Token.Reveal())
	req.Header.Set("Idempotency-Key", fmt.Sprint(row.Position()))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err // the network: again later
	}
	defer resp.Body.Close()
	switch code := fmt.Sprintf("http_%d", resp.StatusCode); {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode == 401, resp.StatusCode == 403:
		return sdk.BadCredentials(code, fmt.Errorf("answer %s", resp.Status))
	case resp.StatusCode < 500:
		return sdk.Permanent(code, fmt.Errorf("answer %s", resp.Status))
	default:
		return sdk.RetryIn(0, code, fmt.Errorf("answer %s", resp.Status))
	}
}

var acme = sdk.Plugin{
	Name: "acme", Version: "1.0.0", Summary: "Posts rows to Acme.",
	Pusher: func() sdk.Pusher { return new(Acme) },
}

// The main function of a plugin. Built as rivergate-pusher-acme, it is configured by PLUGIN_ACME_URL and
// PLUGIN_ACME_TOKEN.
func ExampleServe() {
	main := func() { sdk.Serve(acme) }
	_ = main // it would not return
}

func TestTheExampleOfTheReadmeWorks(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" || r.ContentLength > 2 {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	h := plugintest.Start(t, acme, map[string]any{"url": server.URL, "token": "t"})
	frame := plugintest.Frame("a1", `{}`, `{"too":"long"}`, `{}`)
	require.Equal(t, []protocol.Outcome{
		{Position: frame.Position, Row: 1, Class: protocol.Rejected, Code: "http_422", Message: "answer 422 Unprocessable Entity"},
	}, h.Deliver(frame))
}
