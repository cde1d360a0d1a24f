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

func TestTheTurbidostatRelayArrivesByteForByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	var rows, bodies []string
	for r := range 12 {
		data := turbidostatRow(func(c int) string { return fmt.Sprintf("%d.%02d0", r, c) }, "null")
		rows = append(rows, data)
		bodies = append(bodies, `{"data": `+data+`}`)
	}
	// Its batch carries no index at all; its error row carries empty columns and a message.
	body := `{"uuid": "5f2b8c01d4e97a36", "rows": [` + strings.Join(bodies, ", ") + `]}`
	w.accepted("/data/batch", body)
	bad := turbidostatRow(func(int) string { return "" }, `"pump 2: no answer (Grüße, µ, \u00e9, \"quoted\")"`)
	w.accepted("/data", `{"uuid": "5f2b8c01d4e97a36", "row": {"data": `+bad+`}}`)
	// After a crash of its own it sends the same batch again: that is a delivery of its own, never merged.
	w.accepted("/data/batch", body)

	w.caughtUp(30*time.Second, "file")
	got := arrivals(t, w.out("file"))
	want := append(append(append([]string{}, rows...), bad), rows...)
	require.Len(t, got, len(want))
	for i, a := range got {
		require.Equal(t, "5f2b8c01d4e97a36", a.UUID)
		require.Nil(t, a.Index)
		require.Equal(t, want[i], string(a.Data), "row %d", i)
	}
}

func TestThePlateReaderRelayArrivesByteForByteWithItsWells(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	var want, bodies []string
	var wells []int
	const rows, columns = 8, 12
	for wRowMajor := range rows * columns {
		well := wRowMajor/columns + (wRowMajor%columns)*rows
		data := fmt.Sprintf(`{"timeElapsed": "%d", "absorbance": "0.%04d", "error": null}`, wRowMajor*7, well)
		want, wells = append(want, data), append(wells, well)
		bodies = append(bodies, fmt.Sprintf(`{"index": %d, "data": %s}`, well, data))
	}
	w.accepted("/data/batch", `{"uuid": "00aa11bb22cc33dd", "rows": [`+strings.Join(bodies, ",")+`]}`)
	failed := `{"timeElapsed": "", "absorbance": "", "error": "lid is open"}`
	w.accepted("/data", `{"uuid": "00aa11bb22cc33dd", "row": {"index": null, "data": `+failed+`}}`)

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
