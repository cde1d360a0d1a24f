package intake

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestAMistakeIsNamedByLineColumnAndPlace(t *testing.T) {
	for _, c := range []struct {
		form Form
		body string
		want SyntaxError
	}{
		{Single, "{\"uuid\":\"u\",\n \"row\":{\"data\":{\"a\":1,\"b\":tru}}}", SyntaxError{39, 2, 27, "row.data.b", "not a JSON value"}},
		{Batch, `{"rows":[{"data":{}},{"data":{"a":{"b":[0,1,01]}}}]}`, SyntaxError{45, 1, 46, "rows[1].data.a.b[2]", "a comma or ] is expected"}},
		{Batch, `{"rows":[{"data":{}}`, SyntaxError{20, 1, 21, "rows[0]", "the JSON ends too early: a comma or ] is expected"}},
		{Single, `{"a\"b":"\x"}`, SyntaxError{10, 1, 11, `a\"b`, "no such escape in a string"}},
		{Single, `{"a":"\u12x4"}`, SyntaxError{10, 1, 11, "a", "four hexadecimal digits are expected"}},
		{Single, `{"a":-}`, SyntaxError{6, 1, 7, "a", "a digit is expected"}},
		{Single, `{"a":1.}`, SyntaxError{7, 1, 8, "a", "a digit is expected"}},
		{Single, `{"a":1e+}`, SyntaxError{8, 1, 9, "a", "a digit is expected"}},
		{Single, `{"a" 1}`, SyntaxError{5, 1, 6, "", "a colon is expected"}},
		{Single, `{a:1}`, SyntaxError{1, 1, 2, "", "a member name in quotes is expected"}},
		{Single, `{"a":1,}`, SyntaxError{7, 1, 8, "", "a member name in quotes is expected"}},
		{Single, `{"a":"`, SyntaxError{6, 1, 7, "a", "the JSON ends too early: the string has no end"}},
		{Lines, "{\"data\":{}}\n\n{\"data\":{\"a\":[}}\n", SyntaxError{27, 3, 15, "rows[1].data.a[0]", "a value is expected"}},
		{Lines, "{\"data\":\n{}}", SyntaxError{8, 1, 9, "rows[0].data", "the JSON ends too early: a value is expected"}},
	} {
		var p Parser
		_, err := p.Parse([]byte(c.body), Options{Form: c.form, UUID: "u"})
		var got *SyntaxError
		require.ErrorAs(t, err, &got, c.body)
		require.Equal(t, c.want, *got, c.body)
		require.NotEmpty(t, got.Error())
	}
}

func TestNestingIsCountedFromDataInEveryForm(t *testing.T) {
	data := func(depth int) string {
		return `{"data":{"a":` + strings.Repeat("[", depth-1) + "0" + strings.Repeat("]", depth-1) + `}}`
	}
	for depth, ok := range map[int]bool{1: true, MaxDepth: true, MaxDepth + 1: false, 10_000: false} {
		for form, body := range map[Form]string{
			Single: `{"uuid":"u","row":` + data(depth) + `}`, Batch: `{"uuid":"u","rows":[` + data(depth) + `]}`, Lines: data(depth),
		} {
			var p Parser
			_, err := p.Parse([]byte(body), Options{Form: form, UUID: "u"})
			if ok {
				require.NoError(t, err, depth)
			} else {
				require.ErrorContains(t, err, "nested deeper than 128 levels", depth)
			}
		}
	}
}

func TestOfARepeatedMemberTheLastOneCounts(t *testing.T) {
	var p Parser
	rows, err := p.Parse([]byte(`{"rows":5,"uuid":1,"rows":[{"index":-1,"index":4,"data":[],"data":{"Bad":1},"data":{"good":1}}],"uuid":"u"}`), Options{Form: Batch, Keys: KeysStrict})
	require.NoError(t, err)
	require.Equal(t, "u", rows.UUID)
	require.Equal(t, `{"good":1}`, string(rows.Data))
	require.Equal(t, []int32{4}, rows.Index)
	_, err = p.Parse([]byte(`{"uuid":"u","rows":[{"data":{}}],"rows":null}`), Options{Form: Batch})
	require.ErrorContains(t, err, "rows must be an array, not null")
}

func TestAMemberNameMayBeWrittenWithEscapes(t *testing.T) {
	var p Parser
	rows, err := p.Parse([]byte(`{"\u0075uid":"\u0075\n","row":{"d\u0061ta":{"\u0061":1}}}`), Options{})
	require.NoError(t, err)
	require.Equal(t, "u\n", rows.UUID)
	require.Equal(t, `{"\u0061":1}`, string(rows.Data))
}

func TestIndexesAreThereOnlyWhenSomeRowHasOne(t *testing.T) {
	var p Parser
	rows, err := p.Parse([]byte(`{"uuid":"u","rows":[{"data":{}},{"index":null,"data":{}},{"index":2147483647,"data":{}},{"data":{}}]}`), Options{Form: Batch})
	require.NoError(t, err)
	require.Equal(t, []int32{protocol.NoIndex, protocol.NoIndex, 2147483647, protocol.NoIndex}, rows.Index)
	rows, err = p.Parse([]byte(`{"uuid":"u","row":{"index":null,"data":{}}}`), Options{})
	require.NoError(t, err)
	require.Nil(t, rows.Index)
}

func TestManyRowsCostNoAllocationEach(t *testing.T) {
	var p Parser
	allocations := func(rows int) float64 {
		body := batch(rows)
		buffer := make([]byte, len(body)+Pad)
		return testing.AllocsPerRun(20, func() {
			copy(buffer, body)
			if _, err := p.Parse(buffer[:len(body)], Options{Form: Batch}); err != nil {
				t.Fatal(err)
			}
		})
	}
	require.LessOrEqual(t, allocations(1000), 1.0, "the uuid")
	require.LessOrEqual(t, allocations(1), 1.0)
}

func TestABodyWithRoomBehindItIsNotCopied(t *testing.T) {
	var p Parser
	text := `{"uuid":"u","row":{"data":{"a":1}}}`
	body := append(make([]byte, 0, len(text)+Pad), text...)
	rows, err := p.Parse(body, Options{})
	require.NoError(t, err)
	require.Same(t, &body[0], &rows.Data[0])
}
