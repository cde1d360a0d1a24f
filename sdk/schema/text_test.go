package schema

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/internal/document"
	"github.com/rivergate/rivergate/sdk/settings"
)

// pydantic is the schema that a plugin of another language may bring: references, unions with null, camel case.
const pydantic = `{
	"$defs": {"Mode": {"enum": ["fast", "safe"], "type": "string"}, "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"type": "integer"}]}},
	"title": "Config", "type": "object", "required": ["endpoint"], "additionalProperties": false,
	"properties": {
		"endpoint": {"type": "string", "format": "uri", "description": "Where."},
		"mode": {"allOf": [{"$ref": "#/$defs/Mode"}], "default": "fast"},
		"maxRetries": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}], "default": null},
		"api_key": {"type": "string", "format": "password", "writeOnly": true, "minLength": 8},
		"pin": {"type": "string", "writeOnly": true, "pattern": "^[0-9]{4}$"},
		"ports": {"type": "array", "items": {"type": "integer", "maximum": 65535}},
		"labels": {"type": "object", "additionalProperties": {"type": "string"}},
		"weights": {"type": "object", "additionalProperties": {"type": "number"}},
		"ratio": {"type": "number"},
		"id": {"type": ["string", "integer"]},
		"flag": {"type": ["boolean", "null"]},
		"nested": {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false},
		"loop": {"$ref": "#/$defs/Loop"},
		"level": {"enum": [1, 2, 3]},
		"anything": {}
	}
}`

func TestTextBecomesTypedByAnyPluginsSchema(t *testing.T) {
	config, problems := Read([]byte(pydantic), "PLUGIN_PY_", map[string]string{
		"PLUGIN_PY_ENDPOINT": "https://x.example", "PLUGIN_PY_MODE": "safe", "PLUGIN_PY_MAX_RETRIES": "3", "PLUGIN_PY_API_KEY": "longenough",
		"PLUGIN_PY_PORTS": "80, 443", "PLUGIN_PY_LABELS": "a=1, b=x=y", "PLUGIN_PY_WEIGHTS": "a=.5,b=2", "PLUGIN_PY_RATIO": "1e-3",
		"PLUGIN_PY_ID": "007", "PLUGIN_PY_FLAG": "true", "PLUGIN_PY_NESTED": `{"a": 1}`, "PLUGIN_PY_LOOP": "5", "PLUGIN_PY_LEVEL": "2",
		"PLUGIN_PY_ANYTHING": "12", "PLUGIN_PY_PIN": "", "UNRELATED": "x",
	})
	require.Empty(t, problems)
	require.JSONEq(t, `{"endpoint":"https://x.example","mode":"safe","maxRetries":3,"api_key":"longenough","ports":[80,443],
		"labels":{"a":"1","b":"x=y"},"weights":{"a":0.5,"b":2},"ratio":1e-3,"id":"007","flag":true,"nested":{"a":1},"loop":5,"level":2,"anything":"12"}`, string(config))
	require.Contains(t, string(config), "1e-3", "numbers keep their text")

	config, problems = Read([]byte(pydantic), "P_", map[string]string{"P_ENDPOINT": "https://x.example", "P_ID": "7", "P_MAX_RETRIES": "null", "P_PORTS": "[1,2]"})
	require.Empty(t, problems)
	require.JSONEq(t, `{"endpoint":"https://x.example","id":7,"maxRetries":null,"ports":[1,2]}`, string(config))
}

func TestSchemaErrorsNameTheVariableInPlainWords(t *testing.T) {
	_, problems := Read([]byte(pydantic), "P_", map[string]string{
		"P_MODE": "slow", "P_MAX_RETRIES": "-1", "P_API_KEY": "hunter2", "P_PIN": "s3cretpin", "P_PORTS": "80,99999", "P_WEIGHTS": "a=x", "P_LABELS": "a",
		"P_RATIO": "half", "P_FLAG": "perhaps", "P_NESTED": `{"b":1}`, "P_LEVEL": "9", "P_ENDPIONT": "x", "P_BATCH_ROW": "5",
	}, Leave("P_BATCH_ROWS"))
	require.Equal(t, []settings.Problem{
		{Variable: "P_API_KEY", Reason: "is shorter than 8 characters"},
		{Variable: "P_BATCH_ROW", Reason: "is not a known setting", Nearest: "P_BATCH_ROWS"},
		{Variable: "P_ENDPIONT", Reason: "is not a known setting", Nearest: "P_ENDPOINT"},
		{Variable: "P_ENDPOINT", Reason: "is required: Where."},
		{Variable: "P_FLAG", Reason: `"perhaps" is not true or false`},
		{Variable: "P_LABELS", Reason: `"a" has no key=value as item 1`},
		{Variable: "P_LEVEL", Reason: "9 is none of 1, 2, 3"},
		{Variable: "P_MAX_RETRIES", Reason: "-1 is less than 0"},
		{Variable: "P_MODE", Reason: `"slow" is none of fast, safe`},
		{Variable: "P_NESTED", Reason: "has unknown members b"},
		{Variable: "P_PIN", Reason: "does not match ^[0-9]{4}$"},
		{Variable: "P_PORTS", Reason: "at 1 99999 is more than 65535"},
		{Variable: "P_RATIO", Reason: `"half" is not a number`},
		{Variable: "P_WEIGHTS", Reason: `"a=x" item 1 is not a number`},
	}, problems)
	for _, p := range problems {
		require.NotContains(t, p.Reason, "hunter2")
		require.NotContains(t, p.Reason, "s3cretpin")
	}
}

// A secret may be a member of an object, the item of a list, or behind a reference.
func TestASecretInsideAValueIsNotPrintedEither(t *testing.T) {
	schema := []byte(`{
		"$defs": {
			"Pin": {"type": "string", "writeOnly": true, "pattern": "^[0-9]{4}$"},
			"Tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/Tree"}, "size": {"type": "integer"}}, "additionalProperties": false}
		},
		"type": "object", "additionalProperties": false,
		"properties": {
			"login": {"type": "object", "properties": {"user": {"type": "string"}, "pin": {"$ref": "#/$defs/Pin"}}, "additionalProperties": false},
			"pins": {"type": "array", "items": {"$ref": "#/$defs/Pin"}},
			"map": {"type": "object", "additionalProperties": {"type": "integer", "format": "password"}},
			"tree": {"$ref": "#/$defs/Tree"}
		}
	}`)
	_, problems := Read(schema, "P_", map[string]string{
		"P_LOGIN": `{"user":"me","pin":"s3cret"}`, "P_PINS": "s3cret,1234", "P_MAP": "a=s3cret", "P_TREE": `{"left":{"size":"wide"}}`,
	})
	require.Equal(t, []settings.Problem{
		{Variable: "P_LOGIN", Reason: "at pin does not match ^[0-9]{4}$"},
		{Variable: "P_MAP", Reason: "item 1 is not a whole number"},
		{Variable: "P_PINS", Reason: "at 0 does not match ^[0-9]{4}$"},
		{Variable: "P_TREE", Reason: "at left.size is not a whole number"},
	}, problems)
	_, problems = Read([]byte(`{"type":"object","properties":{"pin":{"writeOnly":true}},"const":{"pin":"1"}}`), "P_", map[string]string{"P_PIN": "s3cret"})
	require.Len(t, problems, 1)
	require.NotContains(t, problems[0].Reason, "s3cret")
}

func TestAnInvalidSchemaSaysWhere(t *testing.T) {
	for schema, says := range map[string]string{
		`{`:    "not JSON",
		`[]`:   "not a JSON object",
		`true`: "not a JSON object",
		`{"type":"object","properties":{"a":{"type":"strnig"}}}`: "/properties/a/type",
		`{"type":"object","properties":{"a":{"pattern":"("}}}`:   "pattern",
		`{"type":"object","properties":{"a":{"minimum":"1"}}}`:   "/properties/a/minimum",
		`{"type":"string"}`: "must be an object",
		`{"type":"object","properties":{"a":{"$ref":"file:///etc/passwd"}}}`:         "only references within",
		`{"type":"object","properties":{"a":{"$ref":"#/$defs/none"}}}`:               "none",
		`{"type":"object","properties":{"a_b":{"type":"string"},"a-b":{}}}`:          "same variable",
		`{"$schema":"https://example.com/mine","type":"object","properties":{}}`:     "example.com",
		`{"type":"object","properties":{"a":{"$ref":"https://example.com/x.json"}}}`: "only references within",
	} {
		err := Check([]byte(schema))
		require.ErrorContains(t, err, says, schema)
		require.NotContains(t, err.Error(), location, schema)
		for _, problems := range [][]settings.Problem{Validate([]byte(schema), "P_", []byte(`{}`)), second(Read([]byte(schema), "P_", nil))} {
			require.Len(t, problems, 1)
			require.Empty(t, problems[0].Variable)
		}
	}
	require.NoError(t, Check([]byte(pydantic)))
	require.NoError(t, Check([]byte(`{}`)), "a plugin without settings")
}

func second[A, B any](_ A, b B) B { return b }

func TestAnAbsurdNumberIsRefusedAtOnce(t *testing.T) {
	for _, number := range []string{"1e999999999", "-1e999999999", "1e-999999999", "0e999999999"} {
		for _, text := range []string{number, "[" + number + "]", "a=" + number, `{"a":` + number + "}"} {
			_, problems := Read([]byte(pydantic), "P_", map[string]string{
				"P_ENDPOINT": "https://x.example", "P_PORTS": text, "P_RATIO": text, "P_WEIGHTS": text, "P_NESTED": text, "P_LOOP": text,
			})
			require.NotEmpty(t, problems)
		}
		require.Len(t, Validate([]byte(pydantic), "P_", []byte(`{"endpoint":"https://x.example","ratio":`+number+`}`)), 1)
	}
}

func FuzzFromText(f *testing.F) {
	for _, seed := range []string{"", "1", "-0", "1e400", "true", "null", "[1,2]", "{\"a\":1}", "a=b,c=d", "16MiB", "1m30s", "\xff", "[", "0x10", "007", "1e-400", "Inf"} {
		f.Add("ENDPOINT", seed)
		f.Add("PORTS", seed)
		f.Add("WEIGHTS", seed)
		f.Add("LOOP", seed)
	}
	schema := []byte(pydantic)
	doc, err := document.Parse(schema)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, suffix, text string) {
		env := map[string]string{"P_" + suffix: text}
		for _, name := range doc.Names {
			env[settings.Variable("P_", name)] = text
		}
		config, _ := FromText(schema, "P_", env)
		require.True(t, json.Valid(config), "%q", config)
		for _, p := range Validate(schema, "P_", config) {
			require.NotEmpty(t, p.Reason)
		}
	})
}

func TestTheNearestVariableIsFoundByWhatFollowsThePrefix(t *testing.T) {
	require.Equal(t, "P_URL", nearestVariable("P_URLS", "P_", []string{"P_URL"}))
	require.Empty(t, nearestVariable("PLUGIN_POSTGRES_HOST", "PLUGIN_POSTGRES_", []string{"PLUGIN_POSTGRES_DSN"}))
}
