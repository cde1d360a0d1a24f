package transform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func made(t testing.TB, s Spec) *Transform {
	t.Helper()
	tr, problems := New(s)
	require.Empty(t, problems)
	return tr
}

func frame(rows ...string) *protocol.Frame {
	f := &protocol.Frame{OrgID: 7, UserID: 8, UUID: "u", Position: 100, ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), RequestID: "req"}
	for i, row := range rows {
		f.Data = append(f.Data, row...)
		f.Ends = append(f.Ends, uint32(len(f.Data)))
		f.Index = append(f.Index, int32(i)-1) // the first has none
	}
	return f
}

func TestRowsAreSelectedAndRenamed(t *testing.T) {
	row := ` {"timeElapsed": 1.50, "od\u004deasured" :"0.1" , "meta":{"batch": [1, 2e3], "by":null, "deep":{"x":1}}, "n":0.1000000000000000055, "a.b":true} `
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"fields in another order":   {Spec{Select: []string{"n", "timeElapsed"}}, `{"n":0.1000000000000000055,"timeElapsed":1.50}`},
		"a name with an escape":     {Spec{Select: []string{"odMeasured"}}, `{"od\u004deasured":"0.1"}`},
		"fields that are not there": {Spec{Select: []string{"none", "n", "meta.none", "timeElapsed.x"}}, `{"n":0.1000000000000000055}`},
		"nothing of it":             {Spec{Select: []string{"none"}}, `{}`},
		"parts of an object":        {Spec{Select: []string{"meta.by", "n", "meta.batch", "meta.deep.x"}}, `{"meta":{"by":null,"batch":[1, 2e3],"deep":{"x":1}},"n":0.1000000000000000055}`},
		"an object as it is":        {Spec{Select: []string{"meta"}}, `{"meta":{"batch": [1, 2e3], "by":null, "deep":{"x":1}}}`},
		"a dot in a name":           {Spec{Select: []string{`a\.b`}}, `{"a.b":true}`},
		"new names, all else byte by byte": {Spec{Rename: map[string]string{"odMeasured": `o"d`, "n": "m", "gone": "x"}},
			` {"timeElapsed": 1.50, "o\"d" :"0.1" , "meta":{"batch": [1, 2e3], "by":null, "deep":{"x":1}}, "m":0.1000000000000000055, "a.b":true} `},
		"new names inside": {Spec{Rename: map[string]string{"meta.deep.x": "y", "meta.batch": "b", "meta": "info"}},
			` {"timeElapsed": 1.50, "od\u004deasured" :"0.1" , "info":{"b": [1, 2e3], "by":null, "deep":{"y":1}}, "n":0.1000000000000000055, "a.b":true} `},
		"both": {Spec{Select: []string{"n", "meta.deep", "meta.by"}, Rename: map[string]string{"n": "timeElapsed", "meta.deep.x": "é<", "meta": "info"}},
			`{"timeElapsed":0.1000000000000000055,"info":{"deep":{"é<":1},"by":null}}`},
		"names exchanged": {Spec{Rename: map[string]string{"n": "meta", "meta": "n"}},
			` {"timeElapsed": 1.50, "od\u004deasured" :"0.1" , "n":{"batch": [1, 2e3], "by":null, "deep":{"x":1}}, "meta":0.1000000000000000055, "a.b":true} `},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := made(t, c.spec).Append([]byte("before"), []byte(row))
			require.NoError(t, err)
			want := c.want
			if c.spec.Select == nil {
				want = strings.TrimLeft(strings.TrimRight(want, " "), " ")
			}
			require.Equal(t, "before"+want, string(got))
		})
	}
}

func TestARowThatCannotBeRenamedSaysWhy(t *testing.T) {
	tr := made(t, Spec{Rename: map[string]string{"a": "b"}})
	for row, want := range map[string]string{
		`{"a":1,"b":2}`: `RENAME: "a" cannot become "b", which the row has already`,
		`{"b":2,"a":1}`: `RENAME: "a" cannot become "b", which the row has already`,
		`{"a":1,"a":2}`: `RENAME: the row has "a" twice`,
		`[1]`:           "not a JSON object",
	} {
		got, err := tr.Append([]byte("x"), []byte(row))
		require.ErrorContains(t, err, want)
		require.Equal(t, "x", string(got))
	}
	for _, row := range []string{`{"b":2}`, `{"c":{"a":1,"b":2}}`, `{}`} {
		got, err := tr.Append(nil, []byte(row))
		require.NoError(t, err)
		require.Equal(t, row, string(got))
	}
}

func TestOfANameThatComesTwiceTheLastCounts(t *testing.T) {
	got, err := made(t, Spec{Select: []string{"a"}}).Append(nil, []byte(`{"a":1,"b":2,"a":3}`))
	require.NoError(t, err)
	require.Equal(t, `{"a":3}`, string(got))
}

func TestEveryMistakeOfATransformIsToldAtOnce(t *testing.T) {
	_, problems := New(Spec{Select: []string{"a", "a", "b.c", "b", "d", "d.e", "x..y"}, Rename: map[string]string{"z": "y", "a": ""}, Filter: "row.a >"})
	var got []string
	for _, p := range problems {
		got = append(got, p.Field+": "+p.Reason)
	}
	require.Equal(t, []string{
		`select: "a" is named twice`,
		`select: "b" is named as a whole and by its parts`,
		`select: "d.e" is kept already, as part of a field before it`,
		`select: "x..y" has an empty name`,
		`rename: "a" has no new name`,
		`rename: "z" is not among the fields that SELECT keeps`,
		"filter: line 1, column 7: unexpected token EOF",
	}, got)
	_, problems = New(Spec{Rename: map[string]string{"a": "c", "b": "c"}})
	require.Equal(t, []Problem{{"rename", `two fields would be called "c"`}}, problems)
	_, problems = New(Spec{Select: []string{"a", "b"}, Rename: map[string]string{"a": "b"}})
	require.Equal(t, []Problem{{"rename", `two fields would be called "b"`}}, problems)
	tr, problems := New(Spec{})
	require.Empty(t, problems)
	require.Nil(t, tr)
}

func TestFilters(t *testing.T) {
	f := frame(`{"n":1,"text":"a","od":"0.52"}`, `{"n":2.5,"list":[1,2],"nested":{"x":9007199254740993},"odd name":true}`)
	for source, want := range map[string][2]bool{
		`row.n > 1`:                         {false, true},
		`row.n == 1 or row["odd name"]`:     {true, true},
		`index == nil`:                      {true, false},
		`index == 0 and org == 7`:           {false, true},
		`uuid == "u" and user == 8`:         {true, true},
		`position == 101`:                   {false, true},
		`"list" in row`:                     {false, true},
		`2 in (row.list ?? [])`:             {false, true},
		`row.nested?.x == 9007199254740993`: {false, true},
		`row.text == nil`:                   {false, true},
		`float(row.od ?? "0") > 0.5`:        {true, false},
		`(row.text ?? "") matches "^a$"`:    {true, false},
		`received_at > date("2025-12-31")`:  {true, true},
		`request_id startsWith "req"`:       {true, true},
		`len(row) > 3`:                      {false, true},
	} {
		t.Run(source, func(t *testing.T) {
			tr := made(t, Spec{Filter: source})
			for i := range want {
				got, err := tr.Keeps(f, i)
				require.NoError(t, err)
				require.Equal(t, want[i], got, "row %d", i)
			}
		})
	}
}

func TestAFilterThatCannotTellSaysWhere(t *testing.T) {
	f := frame(`{"n":"x","secret":"s3cret"}`)
	for source, want := range map[string]string{
		"index == nil and\n  row.n > 1": "FILTER, line 2, column 9: invalid operation: string > int",
		`float(row.secret) > 1`:         "FILTER, line 1, column 1: ",
		`row.none > 1`:                  "FILTER, line 1, column 10: ",
		`row.n`:                         "FILTER",
	} {
		_, err := made(t, Spec{Filter: source}).Keeps(f, 0)
		require.ErrorContains(t, err, want, source)
		require.NotContains(t, err.Error(), "\n")
	}
}

func TestAFilterThatIsNoneIsAMistake(t *testing.T) {
	for source, want := range map[string]string{
		`temperature > 20`:           "line 1, column 1: unknown name temperature; a field of the row is row.name",
		`row.a +`:                    "line 1, column 7: unexpected token EOF",
		`uuid`:                       "expected bool, but got string",
		`uuid > 1`:                   "line 1, column 6: invalid operation",
		`1 in 1..100000000`:          "loops are not allowed",
		`any(row.list, # > 1)`:       "line 1, column 1",
		`now() > received_at`:        "line 1, column 1",
		`len(repeat("x", 1000)) > 1`: "line 1, column 5",
		strings.Repeat(`row.a == 1 or `, 500) + `true`: "nodes",
	} {
		_, problems := New(Spec{Filter: source})
		require.Len(t, problems, 1, source)
		require.Equal(t, "filter", problems[0].Field)
		require.Contains(t, problems[0].Reason, want)
		require.NotContains(t, problems[0].Reason, "\n")
	}
}

// anyRow draws a JSON object with spaces, odd numbers, escapes and repeated names.
func anyRow(t *rapid.T, depth int) string {
	blank := rapid.SampledFrom([]string{"", "", " ", "\n\t"})
	var b strings.Builder
	b.WriteString("{" + blank.Draw(t, "blank"))
	for i := range rapid.IntRange(0, 5).Draw(t, "members") {
		if i > 0 {
			b.WriteString(blank.Draw(t, "blank") + "," + blank.Draw(t, "blank"))
		}
		b.WriteString(rapid.SampledFrom([]string{`"a"`, `"b"`, `"c"`, `"\u0061"`, `"x.y"`, `""`, `"ä\n"`}).Draw(t, "name") + blank.Draw(t, "blank") + ":" + blank.Draw(t, "blank"))
		if depth > 0 && rapid.IntRange(0, 2).Draw(t, "nests") == 0 {
			b.WriteString(anyRow(t, depth-1))
			continue
		}
		b.WriteString(rapid.SampledFrom([]string{`1`, `-0`, `1.50`, `1e400`, `0.1000000000000000055511151231257827`, `12345678901234567890123`, `"{\"a\":1}"`, `"\ud800]"`,
			`null`, `true`, `[ 1 ,{"a":[{}]}]`, `[]`, `""`}).Draw(t, "value"))
	}
	b.WriteString(blank.Draw(t, "blank") + "}")
	return b.String()
}

// texts lists the values of an object as they stand there; of a name that comes twice the last.
func texts(t require.TestingT, object []byte) map[string]string {
	var raw map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(object, &raw))
	out := map[string]string{}
	for name, value := range raw {
		out[name] = string(value)
	}
	return out
}

func TestValuesKeepTheirTextWhateverIsSelected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := []byte(anyRow(t, 2))
		fields := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", `x\.y`, "ä\n"}), 1, 4, rapid.ID[string]).Draw(t, "select")
		rename := map[string]string{}
		if rapid.Bool().Draw(t, "renames") {
			rename[fields[0]] = "new"
		}
		tr, problems := New(Spec{Select: fields, Rename: rename})
		require.Empty(t, problems)
		out, err := tr.Append(nil, row)
		require.NoError(t, err)
		require.LessOrEqual(t, len(out), len(row)+tr.Growth())
		had, have := texts(t, row), texts(t, out)
		var order []string
		for i, field := range fields {
			name := strings.ReplaceAll(field, `\.`, ".")
			was, there := had[name]
			if i == 0 && rename[field] != "" {
				name = "new"
			}
			got, kept := have[name]
			require.Equal(t, there, kept)
			require.Equal(t, was, got)
			if there {
				order = append(order, name)
			}
		}
		require.Len(t, have, len(order), "nothing else")
		decoder := json.NewDecoder(bytes.NewReader(out))
		_, _ = decoder.Token()
		for _, name := range order {
			token, err := decoder.Token()
			require.NoError(t, err)
			require.Equal(t, name, token)
			var skip json.RawMessage
			require.NoError(t, decoder.Decode(&skip))
		}
	})
}

func TestARenameBackGivesTheRowByteForByte(t *testing.T) {
	there, back := made(t, Spec{Rename: map[string]string{"c": "z", "b.c": "w"}}), made(t, Spec{Rename: map[string]string{"z": "c", "b.w": "c"}})
	rapid.Check(t, func(t *rapid.T) {
		row := []byte(anyRow(t, 2))
		once, err := there.Append(nil, row)
		if err != nil {
			require.ErrorContains(t, err, "twice")
			return
		}
		require.True(t, json.Valid(once))
		again, err := back.Append(nil, once)
		require.NoError(t, err)
		require.Equal(t, string(row), string(again))
	})
}

// FuzzRow: whatever the bytes, nothing is read beyond their end, and of valid JSON valid JSON is made.
func FuzzRow(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, ` { "a" : {"b":[1,"}"]} , "c":"\"" } `, `{"a":{"b":1},"a":2,"x":null}`, `{"a"`, `{"a":}`, `[]`, `{"a":1]`, `{"\u0061":1,}`} {
		f.Add([]byte(seed))
	}
	var all []*Transform
	for _, s := range []Spec{
		{Select: []string{"a", "c"}}, {Select: []string{"c", "a.b"}}, {Rename: map[string]string{"a": "c"}}, {Rename: map[string]string{"a.b": "c", "a": "d"}},
		{Select: []string{"a"}, Rename: map[string]string{"a.b": "x"}}, {Filter: `row.a == 1`}, {Filter: `len(row) > 1`},
	} {
		all = append(all, made(f, s))
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		tight := append(make([]byte, 0, len(row)), row...)
		object := json.Valid(row) && bytes.HasPrefix(bytes.TrimLeft(row, " \t\r\n"), []byte("{"))
		for _, tr := range all {
			out, err := tr.Append([]byte("x"), tight)
			require.True(t, bytes.HasPrefix(out, []byte("x")))
			if object && err == nil {
				require.True(t, json.Valid(out[1:]), "%s", out)
				require.LessOrEqual(t, len(out)-1, len(row)+tr.Growth())
			}
			if object && err != nil {
				require.ErrorContains(t, err, "RENAME")
			}
			_, err = tr.Keeps(&protocol.Frame{Data: tight, Ends: []uint32{uint32(len(tight))}}, 0)
			if object {
				require.NoError(t, err)
			}
		}
	})
}

func BenchmarkTransform(b *testing.B) {
	var row strings.Builder
	row.WriteString(`{"timeElapsed":"1234.5"`)
	for i := range 12 {
		fmt.Fprintf(&row, `,"fp%dEmit":"0.%06d"`, i, i*7919)
	}
	row.WriteString(`,"error":null}`)
	f := frame(row.String())
	for name, s := range map[string]Spec{
		"select": {Select: []string{"timeElapsed", "fp3Emit", "error"}},
		"rename": {Rename: map[string]string{"fp3Emit": "fp3", "error": "err"}},
		"filter": {Filter: `float(row.fp3Emit) > 0.01 and row.error == nil`},
	} {
		b.Run(name, func(b *testing.B) {
			tr := made(b, s)
			var buffer []byte
			b.SetBytes(int64(len(f.Data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tr.Keeps(f, 0); err != nil {
					b.Fatal(err)
				}
				var err error
				if buffer, err = tr.Append(buffer[:0], f.Data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
