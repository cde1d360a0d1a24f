package inspect

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// look inspects body to its end.
func look(body io.Reader, claim Claim, rules Rules) (passed []byte, result Result, err error) {
	i := New(claim, rules)
	if passed, err = io.ReadAll(io.TeeReader(body, i)); err != nil {
		return passed, Result{}, err
	}
	result, err = i.Finish()
	return passed, result, err
}

func zipped(t testing.TB) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("a.csv")
	require.NoError(t, err)
	_, err = f.Write([]byte("a,b\n"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01"

func TestTheDeclaredTypeIsHeldAgainstTheBytes(t *testing.T) {
	for _, c := range []struct {
		name, declared, body string
		want                 string // content type
		fits                 bool
	}{
		{"a.csv", "text/csv", "a,b\n1,2\n", "text/csv", true},
		{"a.csv", "", "just words", "text/csv", true},
		{"a.csv", "application/octet-stream", "a,b\n1,2\n", "text/csv", true},
		{"a.csv", "Text/CSV; charset=utf-8", "a", "text/csv", true},
		{"a.csv", "text/csv", png, "image/png", false},
		{"a.csv", "text/csv", "\x01\x02\x03\x04", "application/octet-stream", false},
		{"a.json", "application/json", `{"a": 1}`, "application/json", true},
		{"a.ndjson", "application/x-ndjson", "{\"a\": 1}\n{\"a\": 2}\n", "application/x-ndjson", true},
		{"a.png", "image/png", png, "image/png", true},
		{"a.png", "image/jpeg", png, "image/png", false},
		{"a.png", "image/png", "<!DOCTYPE html><html><script>", "text/html", false},
		{"a.txt", "text/plain", "<!DOCTYPE html><html><script>", "text/plain", true},
		{"a.csv", "text/csv", "<!DOCTYPE html><html><script>", "text/html", false},
		{"a.html", "text/html", "<!DOCTYPE html><html>", "text/html", true},
		{"a.bin", "application/x-own-format", "\x01\x02\x03\x04", "application/x-own-format", true},
		{"a.bin", "application/x-own-format", png, "image/png", false},
		{"a", "", "\x01\x02\x03\x04", "application/octet-stream", true},
		{"a", "", png, "image/png", true},
		{"a", "", "", "text/plain", true},
		{"a.pdf", "application/pdf", "", "application/pdf", true},
		{"a.pdf", "application/pdf", "%PDF-1.7\n", "application/pdf", true},
		{"a.zip", "application/zip", zipped(t), "application/zip", true},
		{"a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", zipped(t), "application/vnd.openxmlformats-officedocument.wordprocessingml.document", true},
		{"a.parquet", "application/vnd.apache.parquet", "PAR1xxxxPAR1", "application/vnd.apache.parquet", true},
		{"a.parquet", "", "PAR1xxxxPAR1", "application/vnd.apache.parquet", true},
	} {
		t.Run(c.name+" "+c.declared, func(t *testing.T) {
			claim := Claim{Name: c.name, ContentType: c.declared}
			passed, got, err := look(strings.NewReader(c.body), claim, Rules{})
			require.NoError(t, err)
			require.Equal(t, c.body, string(passed))
			require.Equal(t, c.want, got.ContentType)
			_, _, err = look(strings.NewReader(c.body), claim, Rules{Reject: true})
			if c.fits {
				require.Empty(t, got.Warnings)
				require.NoError(t, err)
			} else {
				require.Len(t, got.Warnings, 1)
				require.ErrorIs(t, err, ErrType)
				require.ErrorContains(t, err, c.want)
			}
		})
	}
	_, _, err := look(strings.NewReader("x"), Claim{ContentType: "nonsense"}, Rules{})
	require.ErrorIs(t, err, ErrType)
}

func TestBlockedTypesAreFoundInTheBytesWhateverIsDeclared(t *testing.T) {
	rules := Rules{Blocked: []string{"application/x-elf", "Application/ZIP", "image/svg+xml"}}
	elf := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x3e\x00"
	for _, c := range []struct{ declared, body string }{
		{"text/csv", elf}, {"", elf}, {"", zipped(t)}, {"application/zip", "x"}, {"image/svg+xml", "words"},
		{"", `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">`},
		{"application/vnd.openxmlformats-officedocument.wordprocessingml.document", "x"}, // a sort of zip
	} {
		_, _, err := look(strings.NewReader(c.body), Claim{Name: "a", ContentType: c.declared}, rules)
		require.ErrorIs(t, err, ErrType, "%q %q", c.declared, c.body)
		require.ErrorContains(t, err, "blocked")
	}
	for _, body := range []string{"a,b", png, `{"a": 1}`} {
		_, _, err := look(strings.NewReader(body), Claim{Name: "a"}, rules)
		require.NoError(t, err)
	}
}

// Whatever comes in, the same goes out; and of a body that fails, the error.
func TestTheBodyPassesUnchanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 9000), rapid.SliceOfN(rapid.SampledFrom([]byte("{}[]\",:a1\n")), 0, 9000)).Draw(t, "body")
		if rapid.Bool().Draw(t, "parquet") {
			body = append([]byte("PAR1"), body...)
		}
		claim := Claim{Name: rapid.SampledFrom([]string{"a", "a.csv", "a.json", "a.parquet"}).Draw(t, "name"), DataSource: rapid.Bool().Draw(t, "source")}
		reader := io.Reader(bytes.NewReader(body))
		reader = rapid.SampledFrom([]func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader}).Draw(t, "pieces")(reader)
		passed, result, err := look(reader, claim, Rules{})
		if err != nil {
			require.ErrorIs(t, err, ErrContent)
			require.True(t, claim.DataSource)
			return
		}
		require.True(t, bytes.Equal(body, passed))
		require.NotEmpty(t, result.ContentType)
	})
	sick := errors.New("sick")
	for _, n := range []int{0, 100, sniffed, 3 * sniffed} {
		for _, cause := range []error{sick, io.ErrUnexpectedEOF} {
			_, _, err := look(io.MultiReader(strings.NewReader(strings.Repeat("a,b\n", n/4)), iotest.ErrReader(cause)), Claim{Name: "a.csv", DataSource: true}, Rules{})
			require.ErrorIs(t, err, cause)
		}
	}
}

func TestColumnsOfACSVFile(t *testing.T) {
	for body, want := range map[string][]string{
		"a,b,c\n1,2,3\n":     {"a", "b", "c"},
		"a;b;c\r\n1;2;3\r\n": {"a", "b", "c"},
		"a\tb\n":             {"a", "b"},
		"a|b":                {"a", "b"},
		"\n\n  a , b \n":     {"a", "b"},
		"\xef\xbb\xbfä,b\n":  {"ä", "b"},
		"\"x, y\",\"line\nbreak\",\"\"\"q\"\"\"\n": {"x, y", "line\nbreak", `"q"`},
		"one\n":             {"one"},
		"a,b\rc,d\r":        {"a", "b"},
		"a,b\n\xff\xfe\xfd": {"a", "b"},
	} {
		_, got, err := look(strings.NewReader(body), Claim{Name: "a.csv", ContentType: "text/csv", DataSource: true}, Rules{})
		require.NoError(t, err, "%q", body)
		require.Equal(t, want, got.Columns, "%q", body)
	}
	_, got, err := look(strings.NewReader("a,b\tc\n"), Claim{Name: "a.tsv", DataSource: true}, Rules{})
	require.NoError(t, err)
	require.Equal(t, []string{"a,b", "c"}, got.Columns)
	_, got, err = look(strings.NewReader("a,,a,b,\n"), Claim{Name: "a.csv", DataSource: true}, Rules{})
	require.NoError(t, err)
	require.Equal(t, []string{"2 columns have no name", `columns have the same name: ["a"]`}, got.Warnings)
	_, got, err = look(strings.NewReader("a,b\n"), Claim{Name: "a.csv"}, Rules{})
	require.NoError(t, err)
	require.Empty(t, got.Columns, "no data source")

	long := strings.Repeat("column,", maxHeader/7)
	for body, why := range map[string]string{
		"":                         "is empty",
		"\n \n":                    "is empty",
		"a,\"b\n1,2\n":             `extraneous or missing`,
		"a,\x00b\n":                "NUL",
		"a,\xe4b\n":                "UTF-8",
		"\xff\xfea\x00,\x00\n\x00": "UTF-16",
		long:                       fmt.Sprintf("%d columns", maxHeader/7+1),
		long + "too long,":         "does not end within",
	} {
		_, _, err := look(strings.NewReader(body), Claim{Name: "a.csv", ContentType: "text/csv", DataSource: true}, Rules{})
		require.ErrorIs(t, err, ErrContent, "%.40q", body)
		require.ErrorContains(t, err, why, "%.40q", body)
	}
}

func TestColumnsOfJSON(t *testing.T) {
	big := strings.Repeat(" ", maxHeader)
	for body, want := range map[string][]string{
		`[{"a": 1, "b": {"c": [1, {"d": 2}]}, "e": "}"}, {"z": 1}]`: {"a", "b", "e"},
		"{\"a\": 1, \"b\": null}\n{\"a\": 2}\n":                     {"a", "b"},
		"\xef\xbb\xbf  {\"ü\": []}":                                 {"ü"},
		"{}":                                                        nil,
		"[]":                                                        nil,
		`[{"a": 1}` + big + "garbage":                               {"a"},
		`{"a": 1, "b": "` + big + `"}`:                              {"a", "b"},
	} {
		_, got, err := look(strings.NewReader(body), Claim{Name: "a.json", ContentType: "application/json", DataSource: true}, Rules{})
		require.NoError(t, err, "%.60q", body)
		require.Equal(t, want, got.Columns, "%.60q", body)
	}
	for body, why := range map[string]string{
		"":                               "ends before",
		`{"a": `:                         "ends before",
		`[{"a": 1}`[:5]:                  "ends before",
		`[1, 2]`:                         "holds no objects",
		`"words"`:                        "holds no objects",
		`{"a": x}`:                       "byte",
		`{a: 1}`:                         "byte",
		"<html>":                         "byte",
		strings.Repeat("[", maxHeader+9): "holds no objects",
	} {
		_, _, err := look(strings.NewReader(body), Claim{Name: "a.json", ContentType: "application/json", DataSource: true}, Rules{})
		require.ErrorIs(t, err, ErrContent, "%.40q", body)
		require.ErrorContains(t, err, why, "%.40q", body)
	}
}

func FuzzDataSource(f *testing.F) {
	for _, body := range []string{"a,b\n1,2\n", `[{"a": {"b": 1}}]`, "{\"a\":1}\n{}", "\"a", "PAR1"} {
		f.Add([]byte(body), "a.csv", "text/csv")
		f.Add([]byte(body), "a.json", "")
	}
	f.Add(parquetFile(f, 3), "a.parquet", "")
	f.Fuzz(func(t *testing.T, body []byte, name, declared string) {
		passed, result, err := look(iotest.HalfReader(bytes.NewReader(body)), Claim{Name: name, ContentType: declared, DataSource: true}, Rules{Blocked: []string{"application/pdf"}})
		if err != nil {
			require.True(t, errors.Is(err, ErrContent) || errors.Is(err, ErrType), err)
			return
		}
		require.True(t, bytes.Equal(body, passed))
		require.NotEmpty(t, result.ContentType)
		require.LessOrEqual(t, len(result.Columns), maxColumns)
	})
}
