package sdk

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type member struct {
	name string
	raw  string
}

// viaDecoder is the same walk by encoding/json.
func viaDecoder(t *testing.T, object []byte) []member {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(object))
	open, err := dec.Token()
	require.NoError(t, err)
	require.Equal(t, json.Delim('{'), open)
	var out []member
	for dec.More() {
		name, err := dec.Token()
		require.NoError(t, err)
		var raw json.RawMessage
		require.NoError(t, dec.Decode(&raw))
		out = append(out, member{name.(string), string(raw)})
	}
	return out
}

func viaFields(object []byte) []member {
	var out []member
	for name, value := range fields(object) {
		out = append(out, member{name, string(value.Raw())})
	}
	return out
}

var objects = []string{
	`{}`, ` { } `, `{"a":1}`, `{"a":1,"b":"x","a":null}`, "{\n\t\"timeElapsed\" : 1.50 ,\r\"x\":[1,{\"y\":\"]}\"}], \"z\":{\"q\":\"\\\"}\"}}",
	`{"":0,"\u00e9\ud83d\ude00":"\ud83d\ude00\n\/","lone":"\ud800x","nul":"\u0000"}`, `{"n":-1.0e+10,"t":true,"f":false,"o":{},"l":[]}`,
	`{"deep":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, `{"back":"\\","slash":"\\\\\""}`, `{"big":123456789012345678901234567890.10}`,
}

func TestFieldsComeAsSent(t *testing.T) {
	for _, object := range objects {
		require.Equal(t, viaDecoder(t, []byte(object)), viaFields([]byte(object)), object)
	}
}

func TestFieldFindsTheLastOfThatName(t *testing.T) {
	row := []byte(`{"a":1,"\u0062":"escaped","a":{"a":3},"c":null}`)
	v, ok := lookup(row, "a")
	require.True(t, ok)
	require.Equal(t, `{"a":3}`, v.String())
	v, ok = lookup(row, "b")
	require.True(t, ok)
	require.Equal(t, "escaped", v.String())
	v, ok = lookup(row, "c")
	require.True(t, ok)
	require.True(t, v.IsNull())
	_, ok = lookup(row, "d")
	require.False(t, ok)
}

func TestValuesKeepTheirTextAndConvertOnDemand(t *testing.T) {
	row := []byte(`{"n":1.50,"i":9007199254740993,"s":"é\"\n","t":true,"null":null,"l":[1,2],"big":123456789012345678901234567890}`)
	get := func(name string) Value { v, _ := lookup(row, name); return v }

	require.Equal(t, json.Number("1.50"), get("n").Number())
	require.Equal(t, "1.50", get("n").String())
	i, err := get("i").Int64()
	require.NoError(t, err)
	require.Equal(t, int64(9007199254740993), i)
	_, err = get("big").Int64()
	require.Error(t, err)
	require.Equal(t, json.Number("123456789012345678901234567890"), get("big").Number())
	f, err := get("n").Float64()
	require.NoError(t, err)
	require.Equal(t, 1.5, f)
	require.Equal(t, "é\"\n", get("s").String())
	require.Empty(t, get("s").Number())
	yes, err := get("t").Bool()
	require.NoError(t, err)
	require.True(t, yes)
	require.Empty(t, get("null").String(), "null is absent, not the word")
	require.True(t, get("nothing").IsNull())
	var list []int
	require.NoError(t, get("l").Decode(&list))
	require.Equal(t, []int{1, 2}, list)

	_, err = get("s").Int64()
	require.EqualError(t, err, "value is a string, not a number")
	_, err = get("l").Bool()
	require.EqualError(t, err, "value is an array, not true or false")
	require.EqualError(t, get("nothing").Decode(&list), "value is missing, not there")
}

func TestFieldsOfBytesThatAreNoJSONStopInPlace(t *testing.T) {
	for _, object := range objects {
		for cut := range object {
			for name, value := range fields([]byte(object[:cut])) {
				_, _ = name, value.String()
			}
		}
	}
}

func FuzzFields(f *testing.F) {
	for _, object := range objects {
		f.Add([]byte(object))
	}
	f.Add([]byte(`{"a":"\`))
	f.Add([]byte("{\"\xff\":\"\xfe\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := viaFields(data) // whatever it is, no panic
		for _, v := range fields(data) {
			_ = v.String()
			_, _ = v.Int64()
		}
		if trimmed := bytes.TrimLeft(data, " \t\r\n"); !json.Valid(data) || trimmed[0] != '{' {
			return
		}
		want := viaDecoder(t, data)
		require.Equal(t, want, got)
		var last map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(data, &last))
		for name, raw := range last {
			v, ok := lookup(data, name)
			require.True(t, ok)
			require.Equal(t, string(raw), string(v.Raw()))
			var text string
			if v.IsString() {
				require.NoError(t, json.Unmarshal(raw, &text))
				require.Equal(t, text, v.String())
			}
		}
	})
}

func BenchmarkFields(b *testing.B) {
	row := []byte(`{"timeElapsed":"12.5","odMeasured":"0.4831","odSetpoint":"0.5","led395NmSetpoint":"0","error":null}`)
	b.SetBytes(int64(len(row)))
	for b.Loop() {
		for name, value := range fields(row) {
			_, _ = name, value
		}
	}
}
