package settings_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/schema"
	"github.com/rivergate/rivergate/sdk/settings"
)

type mode string

type base struct {
	Region string `config:"region" default:"eu" doc:"Where it runs."`
}

type acme struct {
	base
	URL      string            `config:"url" required:"true" format:"uri" doc:"Where rows go." example:"https://acme.example/in"`
	Token    settings.Secret   `config:"token" pattern:"^tok_" doc:"Bearer token."`
	Mode     mode              `config:"mode" default:"jsonl" enum:"jsonl,csv"`
	Gzip     bool              `config:"gzip" default:"true"`
	Workers  int               `config:"workers" default:"4" min:"1" max:"16"`
	Ratio    float64           `config:"ratio" default:"0.5" max:"1"`
	Interval time.Duration     `config:"flush_interval" default:"5s" min:"100ms" max:"1h"`
	Buffer   settings.Bytes    `config:"buffer" default:"16MiB" max:"1GiB"`
	Tables   []string          `config:"tables" doc:"Tables."`
	Headers  map[string]string `config:"headers"`
	Ignored  string
	Skipped  chan int `config:"-"`
}

func TestDecodeFillsEveryTypeAndDefault(t *testing.T) {
	var a acme
	problems := schema.Decode("PLUGIN_ACME_", map[string]string{
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
	problems := schema.Decode("PLUGIN_ACME_", map[string]string{
		"PLUGIN_ACME_TOKEN": "hunter2", "PLUGIN_ACME_MODE": "xml", "PLUGIN_ACME_WORKERS": "17", "PLUGIN_ACME_RATIO": "much",
		"PLUGIN_ACME_FLUSHINTERVAL": "5s", "PLUGIN_ACME_FLUSH_INTERVAL": "5 minutes", "PLUGIN_ACME_BUFFER": "2GiB", "PLUGIN_ACME_GZIP": "maybe",
	}, &a)
	require.Equal(t, []settings.Problem{
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

func TestLeftVariablesAreNoProblem(t *testing.T) {
	env := map[string]string{"P_URL": "https://x.example", "P_ENABLED": "true", "P_OTHER": "1"}
	var a acme
	require.Len(t, schema.Decode("P_", env, &a), 2)
	require.Len(t, schema.Decode("P_", env, &a, schema.Leave("P_ENABLED")), 1)
	require.Empty(t, schema.Decode("P_", env, &a, schema.LeaveUnknown()))
	require.Equal(t, "https://x.example", a.URL)
}

func TestDecodeJSONChecksAgainAndSpeaksOfProperties(t *testing.T) {
	var a acme
	require.Empty(t, settings.DecodeJSON([]byte(`{"url":"https://x.example","workers":1e1,"buffer":2048,"flush_interval":"1h","headers":{"a":"b"}}`), &a))
	require.Equal(t, 10, a.Workers)
	require.Equal(t, settings.Bytes(2048), a.Buffer)
	require.Equal(t, time.Hour, a.Interval)
	require.Equal(t, []settings.Problem{
		{Variable: "buffer", Reason: "-1 is less than 0"},
		{Variable: "flush_interval", Reason: `"2h" is more than 1h`},
		{Variable: "url", Reason: "is required: Where rows go."},
		{Variable: "urls", Reason: "is not a known setting", Nearest: "url"},
		{Variable: "workers", Reason: "is not a whole number"},
	}, settings.DecodeJSON([]byte(`{"urls":"x","buffer":-1,"flush_interval":"2h","workers":"4"}`), &a))
	require.Len(t, settings.DecodeJSON([]byte(`nonsense`), &a), 1)
	require.Len(t, settings.DecodeJSON([]byte(`[]`), &a), 1)
	require.NotEmpty(t, settings.DecodeJSON([]byte(`null`), &a))
	require.Len(t, settings.DecodeJSON([]byte(`{"url":"https://x.example","workers":1e300}`), &a), 1)

	b := acme{Tables: []string{"stale"}, Headers: map[string]string{"stale": "1"}}
	require.Empty(t, settings.DecodeJSON([]byte(`{"url":"https://x.example","headers":{"new":"1"}}`), &b))
	require.Nil(t, b.Tables, "a value that is filled again keeps nothing")
	require.Equal(t, map[string]string{"new": "1"}, b.Headers)
}

func FuzzDecodeEnv(f *testing.F) {
	for _, seed := range []string{"", "1", "17", "1e3", "5s", "-5s", "1h1h", "16MiB", "99999999TiB", "a,b", "a=b", "[\"x\"]", "tok_1", "\x00", "9223372036854775808", "2562048h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		env := map[string]string{"P_URL": "https://x.example"}
		for _, suffix := range []string{"TOKEN", "MODE", "GZIP", "WORKERS", "RATIO", "FLUSH_INTERVAL", "BUFFER", "TABLES", "HEADERS"} {
			env["P_"+suffix] = text
		}
		var a acme
		problems := schema.Decode("P_", env, &a)
		for _, p := range problems {
			require.True(t, strings.HasPrefix(p.Variable, "P_"), "%+v", p)
			require.NotEmpty(t, p.Reason)
		}
		// Each alone, so that the good ones are decoded and hold what the tags promise.
		for suffix := range env {
			var a acme
			if len(schema.Decode("P_", map[string]string{"P_URL": "https://x.example", suffix: env[suffix]}, &a)) > 0 {
				continue
			}
			require.GreaterOrEqual(t, a.Workers, 1)
			require.LessOrEqual(t, a.Workers, 16)
			require.GreaterOrEqual(t, a.Interval, 100*time.Millisecond)
			require.LessOrEqual(t, a.Interval, time.Hour)
			require.LessOrEqual(t, a.Buffer, settings.Bytes(1<<30))
			require.LessOrEqual(t, a.Ratio, 1.0)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	env := map[string]string{"P_URL": "https://x.example", "P_WORKERS": "3"}
	for b.Loop() {
		var a acme
		if problems := schema.Decode("P_", env, &a); problems != nil {
			b.Fatal(problems)
		}
	}
}

// What DecodeJSON says of a configuration is what a validator of JSON Schema says of it by the schema.
func sayTheSame(t *testing.T, text json.RawMessage, config string) {
	t.Helper()
	var said []settings.Problem
	for _, p := range settings.DecodeJSON([]byte(config), new(acme)) {
		p.Variable, p.Nearest = settings.Variable("", p.Variable), settings.Variable("", p.Nearest)
		if !slices.Contains(said, p) { // two unknown names may have one variable
			said = append(said, p)
		}
	}
	require.ElementsMatch(t, schema.Validate(text, "", json.RawMessage(config)), said, "%s", config)
}

// values are JSON values of every type, near and beyond each bound of acme.
var values = []string{
	`null`, `true`, `false`, `0`, `-1`, `1`, `16`, `17`, `1.0`, `1.5`, `1e1`, `1e2`, `1e-2`, `1e300`, `-0`, `1073741824`, `1073741825`, `9223372036854775808`,
	`""`, `"0"`, `"tok_1"`, `"x"`, `"csv"`, `"5s"`, `"-5s"`, `"+1m"`, `"99ms"`, `"100ms"`, `"1h"`, `"1h1ns"`, `"999999h"`, `"1.5h"`, `"5"`, `"1GiB"`, `"1 GiB"`, `"2GiB"`,
	`"99999999TiB"`, `"-1"`, `"https://x.example/a?b"`, `"x:"`, `"//x"`, `"http://::1"`, `"http://[::1]"`, `"http://[::1%25eth0]"`, `"http://[1:2]"`, `"http://a b"`, `"%zz:"`, `"\ud800"`,
	`[]`, `["a","b"]`, `["a",1,null]`, `[[]]`, `{}`, `{"a":"b"}`, `{"a":"b","c":1,"d":null}`, `{"a":{}}`,
}

func TestTheCheckOfAConfigurationSaysWhatItsSchemaSays(t *testing.T) {
	text, err := settings.Schema(acme{})
	require.NoError(t, err)
	fields, err := settings.Fields("", acme{})
	require.NoError(t, err)
	for _, value := range values {
		for _, f := range fields {
			sayTheSame(t, text, `{"url":"https://x.example","`+f.Property+`":`+value+`}`)
			sayTheSame(t, text, `{"`+f.Property+`":`+value+`,"urls":`+value+`}`)
		}
		sayTheSame(t, text, value)
	}
}

func FuzzDecodeJSON(f *testing.F) {
	for _, value := range values {
		f.Add(`{"url":` + value + `,"mode":` + value + `,"workers":` + value + `,"ratio":` + value + `}`)
		f.Add(`{"token":` + value + `,"flush_interval":` + value + `,"buffer":` + value + `,"tables":` + value + `,"headers":` + value + `,"region":` + value + `}`)
	}
	text, err := settings.Schema(acme{})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, config string) {
		if config != "" { // no configuration is an empty one
			sayTheSame(t, text, config)
		}
	})
}
