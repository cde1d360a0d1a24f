package settings

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type mode string

type base struct {
	Region string `config:"region" default:"eu" doc:"Where it runs."`
}

type acme struct {
	base
	URL      string            `config:"url" required:"true" format:"uri" doc:"Where rows go." example:"https://acme.example/in"`
	Token    Secret            `config:"token" pattern:"^tok_" doc:"Bearer token."`
	Mode     mode              `config:"mode" default:"jsonl" enum:"jsonl,csv"`
	Gzip     bool              `config:"gzip" default:"true"`
	Workers  int               `config:"workers" default:"4" min:"1" max:"16"`
	Ratio    float64           `config:"ratio" default:"0.5" max:"1"`
	Interval time.Duration     `config:"flush_interval" default:"5s" min:"100ms" max:"1h"`
	Buffer   Bytes             `config:"buffer" default:"16MiB" max:"1GiB"`
	Tables   []string          `config:"tables" doc:"Tables."`
	Headers  map[string]string `config:"headers"`
	Ignored  string
	Skipped  chan int `config:"-"`
}

func TestDecodeFillsEveryTypeAndDefault(t *testing.T) {
	var a acme
	problems := Decode("PLUGIN_ACME_", map[string]string{
		"PLUGIN_ACME_URL": "https://x.example/a?b=c&d=<e>", "PLUGIN_ACME_TOKEN": "tok_1", "PLUGIN_ACME_WORKERS": " 7 ",
		"PLUGIN_ACME_FLUSH_INTERVAL": "1m30s", "PLUGIN_ACME_BUFFER": "64KiB", "PLUGIN_ACME_GZIP": "no",
		"PLUGIN_ACME_TABLES": "a, b,,c", "PLUGIN_ACME_HEADERS": "X-A=1,X-B=a=b", "PLUGIN_ACME_MODE": "", "OTHER": "x",
	}, &a)
	require.Empty(t, problems)
	require.Equal(t, acme{
		base: base{Region: "eu"}, URL: "https://x.example/a?b=c&d=<e>", Token: "tok_1", Mode: "jsonl", Workers: 7, Ratio: 0.5,
		Interval: 90 * time.Second, Buffer: 64 << 10, Tables: []string{"a", "b", "c"}, Headers: map[string]string{"X-A": "1", "X-B": "a=b"},
	}, a)
}

func TestDecodeReportsEveryProblemAtOnce(t *testing.T) {
	var a acme
	problems := Decode("PLUGIN_ACME_", map[string]string{
		"PLUGIN_ACME_TOKEN": "hunter2", "PLUGIN_ACME_MODE": "xml", "PLUGIN_ACME_WORKERS": "17", "PLUGIN_ACME_RATIO": "much",
		"PLUGIN_ACME_FLUSHINTERVAL": "5s", "PLUGIN_ACME_FLUSH_INTERVAL": "5 minutes", "PLUGIN_ACME_BUFFER": "2GiB", "PLUGIN_ACME_GZIP": "maybe",
	}, &a)
	require.Equal(t, []Problem{
		{Variable: "PLUGIN_ACME_BUFFER", Reason: `"2GiB" is more than 1GiB`},
		{Variable: "PLUGIN_ACME_FLUSHINTERVAL", Reason: "is not a known setting", Nearest: "PLUGIN_ACME_FLUSH_INTERVAL"},
		{Variable: "PLUGIN_ACME_FLUSH_INTERVAL", Reason: `"5 minutes" is not a duration such as 500ms, 30s or 1m30s`},
		{Variable: "PLUGIN_ACME_GZIP", Reason: `"maybe" is not true or false`},
		{Variable: "PLUGIN_ACME_MODE", Reason: `"xml" is none of jsonl, csv`},
		{Variable: "PLUGIN_ACME_RATIO", Reason: `"much" is not a number`},
		{Variable: "PLUGIN_ACME_TOKEN", Reason: "does not match ^tok_"},
		{Variable: "PLUGIN_ACME_URL", Reason: "is required: Where rows go."},
		{Variable: "PLUGIN_ACME_WORKERS", Reason: "17 is more than 16"},
	}, problems)
}
