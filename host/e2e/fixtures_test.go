package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// turbidostatColumns are the CSV columns of the turbidostat relay, in its order: the first is the primary key downstream.
func turbidostatColumns() []string {
	columns := []string{"timeElapsed", "odMeasured", "odSetpoint"}
	for i := range 44 {
		columns = append(columns, fmt.Sprintf("led%dNmSetpoint", 395+5*i))
	}
	return columns
}

// turbidostatRow is an object with 47 columns as strings and the error, as that client writes it.
func turbidostatRow(value func(column int) string, failure string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, c := range turbidostatColumns() {
		fmt.Fprintf(&b, `"%s": "%s", `, c, value(i))
	}
	fmt.Fprintf(&b, `"error": %s}`, failure)
	return b.String()
}

const (
	turbidostat = "5f2b8c01d4e97a36"
	plateReader = "00aa11bb22cc33dd"
)

// turbidostatTraffic is a batch of that client, which carries no index at all, and its error row, with empty columns and a
// message: the rows, and the bodies that bring them.
func turbidostatTraffic() (rows []string, batch, bad, failure string) {
	var bodies []string
	for r := range 12 {
		data := turbidostatRow(func(c int) string { return fmt.Sprintf("%d.%02d0", r, c) }, "null")
		rows = append(rows, data)
		bodies = append(bodies, `{"data": `+data+`}`)
	}
	batch = `{"uuid": "` + turbidostat + `", "rows": [` + strings.Join(bodies, ", ") + `]}`
	bad = turbidostatRow(func(int) string { return "" }, `"pump 2: no answer (Grüße, µ, \u00e9, \"quoted\")"`)
	return rows, batch, bad, `{"uuid": "` + turbidostat + `", "row": {"data": ` + bad + `}}`
}

const plateRows, plateColumns = 8, 12

// plateReaderTraffic is a run of that client, which reads a plate line by line and numbers its wells by column, and its error
// row, whose index is null.
func plateReaderTraffic() (rows []string, wells []int, batch, bad, failure string) {
	var bodies []string
	for i := range plateRows * plateColumns {
		well := i/plateColumns + (i%plateColumns)*plateRows
		data := fmt.Sprintf(`{"timeElapsed": "%d", "absorbance": "0.%04d", "error": null}`, i*7, well)
		rows, wells = append(rows, data), append(wells, well)
		bodies = append(bodies, fmt.Sprintf(`{"index": %d, "data": %s}`, well, data))
	}
	batch = `{"uuid": "` + plateReader + `", "rows": [` + strings.Join(bodies, ",") + `]}`
	bad = `{"timeElapsed": "", "absorbance": "", "error": "lid is open"}`
	return rows, wells, batch, bad, `{"uuid": "` + plateReader + `", "row": {"index": null, "data": ` + bad + `}}`
}

func TestTheTurbidostatRelayArrivesByteForByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	rows, body, bad, failure := turbidostatTraffic()
	w.accepted("/data/batch", body)
	w.accepted("/data", failure)
	// After a crash of its own it sends the same batch again: that is a delivery of its own, never merged.
	w.accepted("/data/batch", body)

	w.caughtUp(30*time.Second, "file")
	got := arrivals(t, w.out("file"))
	want := append(append(append([]string{}, rows...), bad), rows...)
	require.Len(t, got, len(want))
	for i, a := range got {
		require.Equal(t, turbidostat, a.UUID)
		require.Nil(t, a.Index)
		require.Equal(t, want[i], string(a.Data), "row %d", i)
	}
}

func TestThePlateReaderRelayArrivesByteForByteWithItsWells(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	want, wells, batch, failed, failure := plateReaderTraffic()
	w.accepted("/data/batch", batch)
	w.accepted("/data", failure)

	w.caughtUp(30*time.Second, "file")
	got := arrivals(t, w.out("file"))
	require.Len(t, got, len(want)+1)
	for i, a := range got[:len(want)] {
		require.Equal(t, want[i], string(a.Data))
		require.NotNil(t, a.Index)
		require.Equal(t, wells[i], *a.Index, "the well stays with its row")
	}
	require.Nil(t, got[len(want)].Index, "null is absent, never well 0") // defects 3 and 5
	require.Equal(t, failed, string(got[len(want)].Data))
}

func TestMemberOrderNumberTextAndDuplicateKeysArriveAsSent(t *testing.T) { // defect 13
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	rows := []string{
		`{"zeta":1,"alpha":2,"mid":3}`,
		`{"n":1.0,"m":1e5,"o":0.10,"p":-0,"q":12345678901234567890123456789012345678901234567890,"r":1E400}`,
		`{"same":1,"same":2}`,
		`{ "spaced" :  [ 1 , 2 ] , "nul":"a\u0000b", "slash":"\/", "pair":"\ud83d\ude00" }`,
		`{}`,
		`{"html":"<&>","line":"\u2028","ragged":[[1],[2,3]]}`, // defect 10: values stay with their row
	}
	for _, data := range rows {
		w.accepted("/data", `{"uuid":"asSent","extra":true,"row":{"data":`+data+`,"index":0}}`)
	}
	w.caughtUp(30*time.Second, "file")
	got := arrivals(t, w.out("file"))
	require.Len(t, got, len(rows))
	raw, err := os.ReadFile(w.out("file"))
	require.NoError(t, err)
	for i, a := range got {
		require.Equal(t, rows[i], string(a.Data))
		require.Contains(t, string(raw), rows[i])
	}
}

func (w *world) accepted(path, body string) {
	w.t.Helper()
	a, err := w.host.Post(w.t.Context(), path, []byte(body))
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusAccepted, a.Status, "%s", a.Body)
}
