package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// query asks DuckDB, which has a Parquet reader of its own, about text. In sql, file is where it is. The answer is a list of rows.
func query(t *testing.T, text []byte, sql string) (rows [][]any) {
	t.Helper()
	made := exec.CommandContext(t.Context(), "../../../deploy/python")
	var why bytes.Buffer
	made.Stderr = &why
	environment, err := made.Output()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no Python environment: %v\n%s", err, why.String())
		}
		t.Skipf("no Python environment: %v\n%s", err, why.String())
	}
	path := filepath.Join(t.TempDir(), "rows.parquet")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	const script = `import duckdb, json, sys
duckdb.sql("SET TimeZone='UTC'")
print(json.dumps(duckdb.sql(sys.argv[1]).fetchall(), default=str))`
	asked := exec.CommandContext(t.Context(), filepath.Join(strings.TrimSpace(string(environment)), "bin", "python"), "-c", script, strings.ReplaceAll(sql, "file", "'"+path+"'"))
	asked.Stderr = &why
	answer, err := asked.Output()
	require.NoError(t, err, why.String())
	require.NoError(t, json.Unmarshal(answer, &rows), string(answer))
	return rows
}

func TestAParquetObjectIsReadByAnotherReader(t *testing.T) {
	for _, compression := range []string{"auto", "none", "gzip", "zstd", "snappy"} {
		s := newStore(t)
		h := s.start(map[string]any{"format": "parquet", "compression": compression})
		frame := plugintest.Indexed(plugintest.FrameAt(900, "a\"\n1", `{"b": 1.50,"a":1e400,"b":"\u0041 <é>"}`, `{}`), 3, protocol.NoIndex)
		frame.OrgID, frame.RequestID = 42, "request-1"
		require.Empty(t, h.Deliver(frame))
		s.emptied()
		require.Len(t, s.keys(), 1)
		text := s.read(s.keys()[0])
		require.Equal(t, [][]any{
			{900.0, 42.0, "a\"\n1", 3.0, "2026-01-02 03:04:05.678000+00:00", "request-1", `{"b": 1.50,"a":1e400,"b":"\u0041 <é>"}`},
			{901.0, 42.0, "a\"\n1", nil, "2026-01-02 03:04:05.678000+00:00", "request-1", `{}`},
		}, query(t, text, `SELECT position, org_id, uuid, "index", received_at, request_id, data::VARCHAR FROM file ORDER BY position`), compression)
		want := map[string]string{"auto": "SNAPPY", "none": "UNCOMPRESSED", "gzip": "GZIP", "zstd": "ZSTD", "snappy": "SNAPPY"}[compression]
		require.Equal(t, [][]any{{want}}, query(t, text, `SELECT DISTINCT compression FROM parquet_metadata(file)`), compression)
	}
}

func TestMappedColumnsTakeTheirMembersAndARowThatDoesNotFitIsRejectedAlone(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"format": "parquet", "empty_as_null": true,
		"columns": "time=timeElapsed:double, od = odMeasured, n=n:bigint, ok=flag:boolean, nested=inner:json, raw=*:json"})
	rows := []string{
		`{"timeElapsed":"1.5","odMeasured":0.10,"n":9007199254740993,"flag":true,"inner":{"b":1, "a":"x"}}`,
		`{"timeElapsed":"","odMeasured":"","flag":null,"error":"relay"}`,
		`{"timeElapsed":"not a number"}`,
		`{"odMeasured":"first","odMeasured":"last","inner":"text","flag":"false"}`,
		`{"n":1.5}`,
	}
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", rows...))
	o := plugintest.RequireAll(t, outcomes, 2, sdk.Rejected, "column")
	require.Equal(t, []int{2, 4}, []int{outcomes[0].Row, outcomes[1].Row})
	require.Contains(t, o.Message, `column time: the member "timeElapsed"`)
	s.emptied()
	require.Equal(t, [][]any{
		{1.0, 1.5, "0.10", 9007199254740993.0, true, `{"b":1, "a":"x"}`, rows[0]},
		{2.0, nil, "", nil, nil, nil, rows[1]},
		{4.0, nil, "last", nil, false, `"text"`, rows[3]},
	}, query(t, s.read(s.keys()[0]), `SELECT position, time, od, n, ok, nested::VARCHAR, raw::VARCHAR FROM file ORDER BY position`))
}

func TestTheSameRowsMakeTheSameBytes(t *testing.T) {
	f := plugintest.Indexed(plugintest.FrameAt(1, "a", `{"n":1}`, `{"n":2}`), 1, protocol.NoIndex)
	for _, l := range []layout{{Format: parquetFormat, Compression: zstandard}, {Format: parquetFormat, Compression: snappyOnly, Columns: "n=n:bigint"},
		{Format: jsonLines, Compression: gzipped}, {Format: jsonLines, Compression: zstandard}} {
		var first []byte
		for range 3 {
			var text bytes.Buffer
			w, err := l.writer(&text)
			require.NoError(t, err)
			for range 1000 {
				for row := range rowsOf(&f).Rows() {
					require.NoError(t, w.write(row))
				}
			}
			require.NoError(t, w.close())
			if first == nil {
				first = text.Bytes()
			}
			require.Equal(t, first, text.Bytes(), "%+v", l)
		}
	}
}
