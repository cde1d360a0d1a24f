package settings_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/internal/document"
	"github.com/rivergate/rivergate/sdk/schema"
	"github.com/rivergate/rivergate/sdk/settings"
)

func TestSchemaKeepsTheOrderOfTheFieldsAndSaysEverything(t *testing.T) {
	schema, err := settings.Schema(new(acme))
	require.NoError(t, err)
	var names []string
	dec := json.NewDecoder(bytes.NewReader(schema))
	for depth, inProperties := 0, false; ; {
		token, err := dec.Token()
		if err != nil {
			break
		}
		switch token {
		case json.Delim('{'):
			depth++
		case json.Delim('}'):
			depth--
			inProperties = inProperties && depth > 1
		case "properties":
			inProperties = depth == 1
		default:
			if name, ok := token.(string); ok && inProperties && depth == 2 {
				names = append(names, name)
			}
		}
	}
	require.Equal(t, []string{"region", "url", "token", "mode", "gzip", "workers", "ratio", "flush_interval", "buffer", "tables", "headers"}, names)
	require.JSONEq(t, `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{
		"region":{"type":"string","description":"Where it runs.","default":"eu"},
		"url":{"type":"string","description":"Where rows go.","format":"uri","examples":["https://acme.example/in"]},
		"token":{"type":"string","description":"Bearer token.","pattern":"^tok_","writeOnly":true},
		"mode":{"type":"string","default":"jsonl","enum":["jsonl","csv"]},
		"gzip":{"type":"boolean","default":true},
		"workers":{"type":"integer","default":4,"minimum":1,"maximum":16},
		"ratio":{"type":"number","default":0.5,"maximum":1},
		"flush_interval":{"type":"string","default":"5s","pattern":"`+strings.ReplaceAll(document.DurationPattern, `\`, `\\`)+`","x-unit":"duration","x-minimum":"100ms","x-maximum":"1h"},
		"buffer":{"type":["string","integer"],"default":"16MiB","minimum":0,"maximum":1073741824,"pattern":"`+document.BytesPattern+`","x-unit":"bytes","x-maximum":"1GiB"},
		"tables":{"type":"array","description":"Tables.","items":{"type":"string"}},
		"headers":{"type":"object","additionalProperties":{"type":"string"}}
	},"required":["url"],"additionalProperties":false}`, string(schema))
}

func TestMistakesInTagsAreErrorsAndNotPanics(t *testing.T) {
	for name, c := range map[string]struct {
		v    any
		says string
	}{
		"no struct": {42, "not a struct"},
		"nil":       {nil, "not a struct"},
		"camel case": {struct {
			A string `config:"flushInterval"`
		}{}, "field A"},
		"unexported": {struct {
			a string `config:"a"`
		}{}, "not exported"},
		"twice": {struct {
			A, B string `config:"a"`
		}{}, `both named "a"`},
		"type": {struct {
			A []int `config:"a"`
		}{}, "[]int"},
		"bad default": {struct {
			A int `config:"a" default:"x"`
		}{}, "default"},
		"bad duration": {struct {
			A time.Duration `config:"a" default:"5"`
		}{}, "default"},
		"default too small": {struct {
			A time.Duration `config:"a" default:"5s" min:"10s"`
		}{}, "less than 10s"},
		"default not among": {struct {
			A string `config:"a" default:"x" enum:"y,z"`
		}{}, "none of y, z"},
		"bad bound": {struct {
			A int `config:"a" min:"x"`
		}{}, "min"},
		"bound of a string": {struct {
			A string `config:"a" min:"1"`
		}{}, "does not fit"},
		"bad pattern": {struct {
			A string `config:"a" pattern:"("`
		}{}, "pattern"},
		"required default": {struct {
			A string `config:"a" default:"x" required:"true"`
		}{}, "required"},
		"required maybe": {struct {
			A string `config:"a" required:"maybe"`
		}{}, "neither"},
		"secret default": {struct {
			A settings.Secret `config:"a" default:"x"`
		}{}, "secret"},
		"bad example": {struct {
			A int `config:"a" example:"x"`
		}{}, "example"},
		"list of secrets": {struct {
			A []settings.Secret `config:"a"`
		}{}, "cannot be configured"},
		"enum of a number": {struct {
			A int `config:"a" enum:"1,2"`
		}{}, "enum"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := settings.Schema(c.v)
			require.ErrorContains(t, err, c.says)
			require.NotEmpty(t, schema.Decode("X_", nil, c.v))
			require.NotEmpty(t, settings.DecodeJSON(nil, c.v))
		})
	}
	require.NotEmpty(t, schema.Decode("X_", nil, (*acme)(nil)))
	require.NotEmpty(t, schema.Decode("X_", nil, acme{}), "a value cannot be filled")
}

func TestASettingThatIsGoneIsRefusedWithWhatToDo(t *testing.T) {
	text, err := settings.Schema(struct {
		URL   string `config:"url"`
		Tower string `config:"tower" gone:"true" doc:"Of former times; set RIVERGATE_TOWER."`
	}{})
	require.NoError(t, err)
	require.Empty(t, schema.Validate(text, "PLUGIN_ACME_", json.RawMessage(`{"url":"x"}`)))
	require.Equal(t, []settings.Problem{{Variable: "PLUGIN_ACME_TOWER", Reason: "is refused: Of former times; set RIVERGATE_TOWER."}},
		schema.Validate(text, "PLUGIN_ACME_", json.RawMessage(`{"url":"x","tower":"http://s3cret"}`)))
	_, err = settings.Schema(struct {
		Tower string `config:"tower" gone:"true"`
	}{})
	require.ErrorContains(t, err, "says in doc what to do")
}

func TestASecretIsNeverPrinted(t *testing.T) {
	const value = "hunter2"
	held := struct {
		Token  settings.Secret
		List   []settings.Secret
		Map    map[string]settings.Secret
		Inner  struct{ Token settings.Secret }
		Shared *struct{ Token settings.Secret }
	}{Token: value, List: []settings.Secret{value}, Map: map[string]settings.Secret{"a": value}}
	held.Inner.Token = value
	held.Shared = &struct{ Token settings.Secret }{value}

	var printed strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		fmt.Fprintf(&printed, verb+"\n", held)
		fmt.Fprintf(&printed, verb+"\n", &held)
		fmt.Fprintf(&printed, verb+"\n", []any{held, held.List, held.Map})
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10s", "%.3s"} {
		fmt.Fprintf(&printed, verb+"\n", held.Token)
		fmt.Fprintf(&printed, verb+"\n", &held.Token)
	}
	fmt.Fprintln(&printed, held, held.Token, fmt.Errorf("no: %v %w", held.Token, fmt.Errorf("%s", held.Token)))
	text, err := json.Marshal(held)
	require.NoError(t, err)
	printed.Write(text)
	for _, asJSON := range []bool{true, false} {
		log := hclog.New(&hclog.LoggerOptions{Output: &printed, JSONFormat: asJSON})
		log.With("with", held.Token).Info("x", "token", held.Token, "pointer", &held.Token, "all", held, "fmt", hclog.Fmt("%v", held.Token))
	}
	require.NotContains(t, printed.String(), value)
	require.NotContains(t, printed.String(), "68756e74") // the same in hexadecimal
	require.Contains(t, printed.String(), "***")
	require.Equal(t, value, held.Token.Reveal())
	require.Empty(t, settings.Secret("").String())
}

func TestFieldsAndMaskedMakeTables(t *testing.T) {
	fields, err := settings.Fields("PLUGIN_ACME_", acme{})
	require.NoError(t, err)
	require.Len(t, fields, 11)
	require.Equal(t, settings.Field{Property: "url", Variable: "PLUGIN_ACME_URL", Type: "string", Doc: "Where rows go.", Example: "https://acme.example/in", Required: true}, fields[1])
	require.Equal(t, settings.Field{Property: "mode", Variable: "PLUGIN_ACME_MODE", Type: "string", Default: "jsonl", Enum: []string{"jsonl", "csv"}}, fields[3])
	require.True(t, fields[2].Secret)

	values, err := settings.Masked("PLUGIN_ACME_", &acme{
		URL: "https://x.example", Token: "hunter2", Interval: 90 * time.Second, Buffer: 3 << 20, Tables: []string{"a", "b"},
		Headers: map[string]string{"b": "2", "a": "1"}, Ratio: 0.25, Workers: 3, Gzip: true,
	})
	require.NoError(t, err)
	require.Equal(t, []settings.Value{
		{"PLUGIN_ACME_REGION", ""}, {"PLUGIN_ACME_URL", "https://x.example"}, {"PLUGIN_ACME_TOKEN", "***"}, {"PLUGIN_ACME_MODE", ""},
		{"PLUGIN_ACME_GZIP", "true"}, {"PLUGIN_ACME_WORKERS", "3"}, {"PLUGIN_ACME_RATIO", "0.25"}, {"PLUGIN_ACME_FLUSH_INTERVAL", "1m30s"},
		{"PLUGIN_ACME_BUFFER", "3MiB"}, {"PLUGIN_ACME_TABLES", "a,b"}, {"PLUGIN_ACME_HEADERS", "a=1,b=2"},
	}, values)
	_, err = settings.Masked("X_", (*acme)(nil))
	require.Error(t, err)
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]settings.Bytes{"0": 0, "1500": 1500, "1B": 1, "64KiB": 64 << 10, "16 MiB": 16 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40} {
		got, err := settings.ParseBytes(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := settings.ParseBytes(got.String())
		require.NoError(t, err)
		require.Equal(t, want, again)
	}
	for _, text := range []string{"", "-1", "+1", "1.5MiB", "16MB", "KiB", "9999999TiB", "99999999999999999999", "1 2"} {
		_, err := settings.ParseBytes(text)
		require.Error(t, err, text)
	}
}

func TestNearestOnlyWhenReasonablyNear(t *testing.T) {
	known := []string{"URL", "PORT", "FLUSH_INTERVAL", "TABLE", "WORKERS", "TOKEN"}
	for name, want := range map[string]string{
		"URI": "URL", "url": "URL", "FLUSHINTERVAL": "FLUSH_INTERVAL", "FLUSH_INTREVAL": "FLUSH_INTERVAL", "TABEL": "TABLE", "TABLES": "TABLE",
		"WORKER": "WORKERS", "HOST": "", "X": "", "": "", "SOMETHING_ELSE": "", "TOKN": "TOKEN", "ULR": "URL", "PROT": "PORT", "PTRO": "",
	} {
		require.Equal(t, want, settings.Nearest(name, known), name)
	}
}
