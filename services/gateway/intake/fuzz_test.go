package intake

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

var seeds = []string{
	`{"uuid":"0123456789abcdef","row":{"index":0,"data":{"keyOne":1,"b":[1.5e3,true,null,"x\u0000\n"]}}}`,
	`{"uuid":"u","rows":[{"data":{"a":1}},{"index":null,"data":{}},{"index":7,"data":{"Ä":"ü","k":-0.0}}]}`,
	`{"rows":[{"data":{"a":1,"a":2},"x":{"y":[[]]}}],"uuid":"later","extra":[{}]}`,
	`{"rows":[],"uuid":"a","uuid":"b","rows":[{"data":[],"data":{"q":1}}],"\u0075uid":"c"}`,
	`{"uuid":"u","row":{"index":-1,"data":{}}}`, `{"uuid":"u","row":{"index":1.0,"data":{}}}`, `{"uuid":"u","row":{"index":-0,"data":{}}}`,
	`[]`, `null`, `""`, ``, ` `, `{"uuid":"u","rows":{}}`, `{"uuid":"u","row":[]}`, `{"uuid":"u","row":{"data":{"a":01}}}`,
	`{"uuid":"u","row":{"data":{"a":"` + "\xff" + `"}}}`, `{"uuid":"\ud800","row":{"data":{"a":"\ud800\udc00"}}}`,
	"{\"uuid\":\"u\",\"row\":{\"data\":{\"a\":\"tab\there\"}}}", `{"uuid":"u","row":{"data":{"a":1}}} x`,
	`{"uuid":"u","row":{"data":` + strings.Repeat(`{"a":`, 130) + `1` + strings.Repeat(`}`, 130) + `}}`,
	`{"uuid":"u","row":{"data":` + strings.Repeat(`{"a":`, 128) + `1` + strings.Repeat(`}`, 128) + `}}`,
	"{\"data\":{\"a\":1}}\n\n{\"index\":3,\"data\":{\"a\":2}}\r\n", "{\"data\":\n{}}", "\n", "{\"data\":{}}", " \t\r\n{\"data\":{}} \r\n5",
}

func check(t *testing.T, body []byte, o Options) {
	want, wantErr := refer(body, o)
	sent := bytes.Clone(body)
	var p Parser
	got, err := p.Parse(bytes.Clone(body), o)

	// encoding/json has no such limit on depth; on its border the reference does not say where the levels are.
	if deep := depthOf(sent); deep > MaxDepth && !errors.Is(wantErr, errSyntax) {
		if deep > MaxDepth+3 {
			require.ErrorAs(t, err, new(*SyntaxError))
		}
		return
	}
	var syntax *SyntaxError
	var shape *ShapeError
	switch {
	case errors.Is(wantErr, errSyntax):
		require.ErrorAs(t, err, &syntax, "%q", sent)
		require.LessOrEqual(t, syntax.Offset, len(sent))
		require.NotEmpty(t, syntax.Reason)
		return
	case errors.Is(wantErr, errShape):
		require.ErrorAs(t, err, &shape, "%q", sent)
		require.NotEmpty(t, shape.Fields)
		require.LessOrEqual(t, len(shape.Fields), shape.Count)
		return
	}
	require.NoError(t, err, "%q", sent)
	require.Equal(t, want.uuid, got.UUID)
	require.Len(t, got.Ends, len(want.rows))
	f := protocol.Frame{Data: got.Data, Ends: got.Ends}
	for i, row := range want.rows {
		require.Equal(t, string(row), string(f.Row(i)))
	}
	if got.Index == nil {
		require.False(t, slices.ContainsFunc(want.index, func(n int32) bool { return n != protocol.NoIndex }))
	} else {
		require.Equal(t, want.index, got.Index)
	}
}

// FuzzIntake: what encoding/json and the rules accept is accepted, nothing else, and the rows are the client's own bytes.
func FuzzIntake(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(2))
	}
	f.Fuzz(func(t *testing.T, body []byte, keys uint8) {
		for _, form := range []Form{Single, Batch} {
			check(t, body, Options{Form: form, MaxRows: 5, Keys: Keys(keys % 3)})
		}
	})
}

// FuzzNDJSON is the same for lines.
func FuzzNDJSON(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), "0123456789abcdef", uint8(0))
	}
	f.Fuzz(func(t *testing.T, body []byte, uuid string, keys uint8) {
		check(t, body, Options{Form: Lines, UUID: strings.ToValidUTF8(uuid, "?"), MaxRows: 5, Keys: Keys(keys % 3)})
	})
}
