package inspect

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type inner struct {
	X int64             `parquet:"x"`
	L []string          `parquet:"l,list"`
	M map[string]int32  `parquet:"m"`
	T []struct{ Y int } `parquet:"t"`
}

type wide struct {
	Name  string   `parquet:"Name"`
	Inner inner    `parquet:"inner"`
	Score float64  `parquet:"score,optional"`
	Words []string `parquet:"wörter"`
}

// parquetFile is a file with nested columns, of some rows.
func parquetFile(t testing.TB, rows int) []byte {
	var b bytes.Buffer
	w := parquet.NewGenericWriter[wide](&b, parquet.KeyValueMetadata("k", strings.Repeat("v", 100)))
	for range rows {
		_, err := w.Write([]wide{{Name: "a", Inner: inner{L: []string{"x"}, M: map[string]int32{"a": 1}}}})
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

var parquetClaim = Claim{Name: "a.parquet", DataSource: true}

func TestColumnsOfAParquetFile(t *testing.T) {
	for _, rows := range []int{0, 1, 50_000} {
		body := parquetFile(t, rows)
		file, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body)))
		require.NoError(t, err)
		var want []string
		for _, c := range file.Root().Columns() {
			want = append(want, c.Name())
		}
		passed, got, err := look(bytes.NewReader(body), parquetClaim, Rules{Reject: true})
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, passed))
		require.Equal(t, want, got.Columns)
		require.Equal(t, []string{"Name", "inner", "score", "wörter"}, got.Columns)
		require.Empty(t, got.Warnings)
	}
}

// footed is a file of a footer.
func footed(footer []byte) []byte {
	b := append([]byte("PAR1"), footer...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(footer))), "PAR1"...)
}

func TestAHostileParquetFooterIsAnErrorAndCostsNothing(t *testing.T) {
	whole := parquetFile(t, 3)
	huge := []byte{0x15, 0x02, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f} // a schema of 2^32 - 1 elements
	deep := append([]byte{0x15, 0x02}, bytes.Repeat([]byte{0x1c}, 100_000)...)
	for name, c := range map[string]struct {
		body []byte
		why  string
	}{
		"cut off":            {whole[:len(whole)-20], "does not end with PAR1"},
		"only magic":         {[]byte("PAR1PAR1"), "only 8 bytes"},
		"nothing":            {nil, "does not begin with PAR1"},
		"text":               {[]byte("a,b\n"), "does not begin with PAR1"},
		"encrypted":          {append(bytes.Clone(whole[:len(whole)-4]), "PARE"...), "encrypted"},
		"footer too long":    {append(binary.LittleEndian.AppendUint32(bytes.Clone(whole[:len(whole)-8]), 1<<31), "PAR1"...), "more than the file"},
		"huge schema":        {footed(huge), "damaged"},
		"deep":               {footed(deep), "damaged"},
		"empty footer":       {footed(nil), "damaged"},
		"no schema":          {footed([]byte{0x15, 0x02, 0x00}), "no schema"},
		"children not there": {footed([]byte{0x15, 0x02, 0x19, 0x1c, 0x48, 0x01, 'r', 0x15, 0x0a, 0x00, 0x00}), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := look(bytes.NewReader(c.body), parquetClaim, Rules{})
			require.ErrorIs(t, err, ErrContent)
			require.ErrorContains(t, err, c.why)
		})
	}
	_, got, err := look(bytes.NewReader(footed(make([]byte, 2*maxFooter+1))), parquetClaim, Rules{})
	require.NoError(t, err)
	require.Empty(t, got.Columns)
	require.Len(t, got.Warnings, 1)
}

// However the schema is built, the names are those that a reader of Parquet finds.
func TestColumnsAreThoseOfTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var group func(depth int) parquet.Group
		group = func(depth int) parquet.Group {
			g := parquet.Group{}
			for i := range rapid.IntRange(1, 20).Draw(t, "columns") {
				name := rapid.StringMatching(`[a-zA-Zä ]{1,10}`).Draw(t, "name") + strconv.Itoa(i)
				switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
				case kind == 0 && depth < 4:
					g[name] = group(depth + 1)
				case kind == 1 && depth < 4:
					g[name] = parquet.List(group(depth + 1))
				case kind == 2:
					g[name] = parquet.Optional(parquet.String())
				default:
					g[name] = parquet.Leaf(parquet.Int64Type)
				}
			}
			return g
		}
		schema := parquet.NewSchema("s", group(0))
		var b bytes.Buffer
		w := parquet.NewWriter(&b, schema)
		require.NoError(t, w.Close())
		var want []string
		for _, f := range schema.Fields() {
			want = append(want, f.Name())
		}
		_, got, err := look(&b, parquetClaim, Rules{})
		require.NoError(t, err)
		require.Equal(t, want, got.Columns)
	})
}

func FuzzParquetFooter(f *testing.F) {
	whole := parquetFile(f, 3)
	n := int(binary.LittleEndian.Uint32(whole[len(whole)-8:]))
	f.Add(whole[len(whole)-8-n : len(whole)-8])
	f.Add([]byte{0x15, 0x02, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, footer []byte) {
		_, got, err := look(bytes.NewReader(footed(footer)), parquetClaim, Rules{})
		if err != nil {
			require.ErrorIs(t, err, ErrContent)
			return
		}
		require.LessOrEqual(t, len(got.Columns), len(footer))
	})
}
