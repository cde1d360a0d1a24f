package gateway

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/gateway/journal"
)

const oneRow = `{"uuid":"0123456789abcdef","row":{"index":0,"data":{"keyOne":1}}}`

func TestAnAcceptedRowIsDurableWhenTheAnswerComes(t *testing.T) { // defect 1
	dir := t.TempDir()
	r := newRig(t, func(o *Options, _ *pushers) { o.Journal = openJournal(t, dir) })
	a := r.post("/data", oneRow, "X-Org-ID", "7", "X-User-ID", "9", "X-Request-ID", "from-outside").accepted()
	require.Equal(t, 1, a.Rows)
	require.Equal(t, []string{"file", "http"}, a.Pushers)
	require.Empty(t, a.Warnings)

	require.NoError(t, r.journal.Close())
	position, err := delivery.ParseDeliveryID(a.DeliveryID)
	require.NoError(t, err)
	record, err := openJournal(t, dir).Lookup(t.Context(), position)
	require.NoError(t, err)
	require.Equal(t, `{"keyOne":1}`, string(record.Row(0)))
	require.Equal(t, []int32{0}, record.Index)
	require.Equal(t, "0123456789abcdef", record.UUID)
	require.Equal(t, uint64(7), record.OrgID)
	require.Equal(t, uint64(9), record.UserID)
	require.Equal(t, "from-outside", record.RequestID)
}

func TestEveryMountOfTheDataRoutesAcceptsRows(t *testing.T) {
	r := newRig(t)
	batch := `{"rows":[{"data":{"a":1}},{"index":3,"data":{"a":2}}],"uuid":"u"}`
	require.Equal(t, 1, r.post("/data", oneRow).accepted().Rows)
	require.Equal(t, 1, r.post("/api/v1/gateway/data", oneRow).accepted().Rows)
	require.Equal(t, 2, r.post("/data/batch", batch).accepted().Rows)
	require.Equal(t, 2, r.post("/api/v1/gateway/data/batch", batch).accepted().Rows)
	lines := "{\"data\":{\"a\":1}}\r\n\r\n{\"index\":3,\"data\":{\"a\":2}}\n"
	require.Equal(t, 2, r.post("/data/batch?uuid=u%20v", lines, "Content-Type", "application/x-ndjson").accepted().Rows)
	require.Equal(t, "u v", r.pushers.accepted[4].UUID)
	require.Equal(t, []int32{protocol.NoIndex, 3}, r.pushers.accepted[4].Index)
	require.Len(t, r.pushers.rows(), 8)
}

func TestTheRelaysOfExistingClientsAreAcceptedByteForByte(t *testing.T) { // notes: client traffic; defects 10 and 13
	r := newRig(t)
	sent := 0
	for _, c := range []struct {
		file, path, uuid string
		rows             int
	}{
		{"turbidostat_batch.json", "/data/batch", "5f2b8c01d4e97a36", 3},
		{"turbidostat_error.json", "/data", "5f2b8c01d4e97a36", 1},
		{"turbidostat_batch.json", "/data/batch", "5f2b8c01d4e97a36", 3}, // it sends the same rows again
		{"platereader_batch.json", "/data/batch", "00aa11bb22cc33dd", 96},
		{"platereader_error.json", "/data", "00aa11bb22cc33dd", 1},
	} {
		body, err := os.ReadFile("testdata/" + c.file)
		require.NoError(t, err)
		a := r.post(c.path, string(body)).accepted()
		require.Equal(t, c.rows, a.Rows, c.file)
		require.Empty(t, a.Warnings)
		frame := r.pushers.accepted[sent]
		sent++
		require.Equal(t, c.uuid, frame.UUID)
		rest := string(body)
		for i := range frame.Len() {
			row := string(frame.Row(i))
			require.True(t, strings.HasPrefix(row, `{"timeElapsed": `), "the first member stays first")
			_, after, found := strings.Cut(rest, `"data": `+row)
			require.True(t, found, "row %d is what was sent: %s", i, row)
			rest = after
		}
		if c.file == "platereader_batch.json" {
			require.Equal(t, []int32{0, 8, 16}, frame.Index[:3])
			require.Contains(t, string(frame.Row(1)), `"absorbance": "0.0008"`, "the values stay with their well")
		} else {
			require.Nil(t, frame.Index, "absent and null are no index")
		}
	}
}

func TestWhatBadInputGets(t *testing.T) {
	r := newRig(t, func(o *Options, _ *pushers) { o.MaxBody = 1 << 20 })
	row := `{"data":{"a":1}}`
	wrap := func(rows string) string { return `{"uuid":"u","rows":[` + rows + `]}` }
	for _, c := range []struct {
		name, path, body string
		status           int
		field, reason    string
	}{
		{"malformed JSON", "/data/batch", wrap(row + `,` + row + `,` + row + `,{"data":{"a":[1,}}`), 400, "rows[3].data.a[1]", "a value is expected"},
		{"nothing", "/data/batch", ``, 400, "", "ends too early"},
		{"an unknown field that is not JSON", "/data", `{"uuid":"u","row":` + row + `,"x":nul}`, 400, "x", "not a JSON value"},
		{"invalid UTF-8", "/data", "{\"uuid\":\"u\",\"row\":{\"data\":{\"a\":\"\xff\"}}}", 400, "row.data.a", "invalid UTF-8"},
		{"a raw NUL in a string", "/data", "{\"uuid\":\"u\",\"row\":{\"data\":{\"a\":\"\x00\"}}}", 400, "row.data.a", "must be escaped"},
		{"deep nesting", "/data", `{"uuid":"u","row":{"data":{"a":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}}}`, 400, "row.data.a" + strings.Repeat("[0]", 37) + "…", "deeper than 128"},
		{"text after the end", "/data", oneRow + `{}`, 400, "", "nothing is expected"},
		{"no object", "/data", `[1]`, 422, "", "must be an object, not an array"},
		{"no uuid", "/data", `{"row":` + row + `}`, 422, "uuid", "is missing"},
		{"a uuid that is a number", "/data", `{"uuid":1,"row":` + row + `}`, 422, "uuid", "must be a string, not a number"},
		{"a long uuid", "/data", `{"uuid":"` + strings.Repeat("ü", 129) + `","row":` + row + `}`, 422, "uuid", "129 characters"},
		{"no row", "/data", `{"uuid":"u"}`, 422, "row", "is missing"},
		{"rows on the route for one", "/data", wrap(row), 422, "row", "POST /data/batch"},
		{"empty rows", "/data/batch", wrap(``), 422, "rows", "at least one row"}, // defect 12
		{"rows that are no array", "/data/batch", `{"uuid":"u","rows":{}}`, 422, "rows", "must be an array"},
		{"a row that is no object", "/data/batch", wrap(row + `,3`), 422, "rows[1]", "must be an object"},
		{"10,001 rows", "/data/batch", wrap(strings.Repeat(row+",", 10_000) + row), 422, "rows", "10001 rows, at most 10000"},
		{"no data", "/data/batch", wrap(`{"index":1}`), 422, "rows[0].data", "is missing"},
		{"data that are no object", "/data", `{"uuid":"u","row":{"data":null}}`, 422, "row.data", "not null"},
		{"index below 0", "/data/batch", wrap(row + `,` + row + `,` + row + `,{"index":-1,"data":{}}`), 422, "rows[3].index", "0 or greater"}, // defect 4
		{"a fractional index", "/data", `{"uuid":"u","row":{"index":1.5,"data":{}}}`, 422, "row.index", "integer"},
		{"an index written as a fraction", "/data", `{"uuid":"u","row":{"index":1.0,"data":{}}}`, 422, "row.index", "without fraction"},
		{"an index with an exponent", "/data", `{"uuid":"u","row":{"index":1e0,"data":{}}}`, 422, "row.index", "exponent"},
		{"a huge index", "/data", `{"uuid":"u","row":{"index":2147483648,"data":{}}}`, 422, "row.index", "at most 2147483647"},
		{"an index that is text", "/data", `{"uuid":"u","row":{"index":"3","data":{}}}`, 422, "row.index", "not a string"},
		{"a large body", "/data", `{"uuid":"u","row":{"data":{"a":"` + strings.Repeat("x", 1<<20) + `"}}}`, 413, "", "larger than 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := r.post(c.path, c.body)
			e := a.refused(c.status)
			require.Equal(t, c.field, e.Details.Field)
			require.Contains(t, e.Message+e.Details.Reason, c.reason)
			if c.status == 422 {
				require.NotEmpty(t, e.Details.Errors)
			}
			if c.status == 400 {
				require.Positive(t, e.Details.Line)
				require.NotNil(t, e.Details.Offset)
			}
		})
	}
	require.Empty(t, r.pushers.accepted, "nothing of a refused request is accepted")
	_, next := r.journal.Bounds()
	first := r.post("/data", oneRow).accepted()
	require.Equal(t, delivery.DeliveryID(next), first.DeliveryID, "nor was any of it in the journal")
}

func TestAllMistakesOfARequestAreListedUpToTwenty(t *testing.T) {
	r := newRig(t)
	e := r.post("/data/batch", `{"rows":[`+strings.Repeat(`{"index":-1,"data":[]},`, 29)+`{"data":{}}]}`).refused(422)
	require.Len(t, e.Details.Errors, 20)
	require.Equal(t, 1+29*2, e.Details.Total)
	require.Equal(t, "uuid", e.Details.Errors[0].Field)
	require.Equal(t, "rows[0].data", e.Details.Errors[1].Field)
	require.Equal(t, "rows[0].index", e.Details.Errors[2].Field)
}

func TestStrangeButValidDataAreKeptAsSent(t *testing.T) {
	r := newRig(t)
	rows := []string{
		`{"same":1,"same":2}`,
		`{"n":1.0,"m":1e5,"p":-0,"q":12345678901234567890123456789012345678901234567890,"r":1E400}`,
		`{ "nul" : "a\u0000b" , "pair":"\ud83d\ude00", "half":"\ud800", "html":"<&>"}`,
		"{\"line\":\n\t1}", `{}`,
	}
	for _, row := range rows {
		require.Empty(t, r.post("/data", `{"extra":{"x":[1]},"row":{"data":`+row+`,"extra":1},"uuid":"u","uuid":"v"}`).accepted().Warnings)
	}
	require.Equal(t, rows, r.pushers.rows())
	require.Equal(t, "v", r.pushers.accepted[0].UUID, "of a repeated member the last one counts")
}

func TestKeysThatAreNotCamelCase(t *testing.T) {
	body := `{"uuid":"u","rows":[{"data":{"Key One":1,"fine":{"Not_Looked_At":1}}},{"data":{"snake_case":1,"Key One":2}}]}`
	t.Run("are accepted with a warning", func(t *testing.T) {
		r := newRig(t)
		a := r.post("/data/batch", body).accepted()
		require.Equal(t, []string{
			"rows[0].data.Key One: key is not camelCase", "rows[1].data.snake_case: key is not camelCase", "3 keys in all are not camelCase",
		}, a.Warnings)
		require.InDelta(t, 3, r.metric("rivergate_intake_key_warnings_total", ""), 0)
	})
	t.Run("are refused when keys are strict", func(t *testing.T) {
		r := newRig(t, func(o *Options, _ *pushers) { o.Keys = intake.KeysStrict })
		e := r.post("/data/batch", body).refused(422)
		require.Equal(t, "rows[0].data.Key One", e.Details.Field)
		require.Len(t, e.Details.Errors, 3)
	})
	t.Run("are not looked at when that is off", func(t *testing.T) {
		r := newRig(t, func(o *Options, _ *pushers) { o.Keys = intake.KeysOff })
		require.Empty(t, r.post("/data/batch", body).accepted().Warnings)
	})
}

func TestPressureIsAnsweredWithAStatusAndAHint(t *testing.T) {
	for _, c := range []struct {
		name       string
		change     change
		status     int
		retryAfter string
		says       string
		reason     string
	}{
		{"a full journal", failing(&journal.FullError{Bytes: 10, MaxBytes: 10}), 429, "5", "10 of 10 bytes", "journal_full"},
		{"a disk that refuses", failing(&journal.UnavailableError{RetryAfter: 1500 * time.Millisecond, Err: errors.New("/secret/path: no space left")}), 503, "2", "cannot write now", "journal_unavailable"},
		{"a backlog", func(_ *Options, p *pushers) {
			p.admit = &delivery.BacklogError{Pusher: "file", Rows: 11, Limit: 10, RetryAfter: 42 * time.Second}
		}, 429, "42", "11 rows wait for pusher file", "backlog"},
		{"no pusher", func(_ *Options, p *pushers) { p.names = nil }, 503, "30", "PLUGIN_FILE_ENABLED=true", "no_pusher"},
		{"no pusher for this org", func(_ *Options, p *pushers) {
			p.names, p.statuses = nil, []delivery.Status{{Name: "file"}}
		}, 503, "30", "PLUGIN_<NAME>_ORGS", "no_pusher"},
		{"a journal that is closed", failing(journal.ErrClosed), 503, "5", "stopping", "journal_unavailable"},
		{"a bug", failing(errors.New("/secret/path broke")), 500, "", "Something went wrong", "internal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.change)
			a := r.post("/data", oneRow)
			e := a.refused(c.status)
			require.Equal(t, c.retryAfter, a.header.Get("Retry-After"))
			require.Contains(t, e.Message, c.says)
			require.NotContains(t, string(a.body), "/secret")
			require.Empty(t, r.pushers.accepted)
			require.InDelta(t, 1, r.metric("rivergate_intake_rejects_total", c.reason), 0)
			require.InDelta(t, 1, r.metric("rivergate_intake_requests_total", strconv.Itoa(c.status)), 0)
		})
	}
}

// broken is a journal that does not append.
type broken struct {
	journal.Journal
	err error
}

func (b broken) Append(context.Context, *journal.Record) (uint64, error) { return 0, b.err }
func (broken) Stats() journal.Stats                                      { return journal.Stats{} }

func failing(err error) change { return func(o *Options, _ *pushers) { o.Journal = broken{err: err} } }

func TestRowsAreHeldWithoutAPusherWhenThatIsWanted(t *testing.T) {
	r := newRig(t, func(o *Options, p *pushers) { o.Hold, p.names = true, nil })
	a := r.post("/data?wait=1ms", oneRow).accepted()
	require.Equal(t, []string{}, a.Pushers)
}

func TestASlowDestinationDoesNotHoldUpTheCaller(t *testing.T) { // defect 11
	r := newRig(t, func(_ *Options, p *pushers) {
		p.progress = func(ctx context.Context) []delivery.Progress { <-ctx.Done(); return nil } // delivers nothing, ever
	})
	r.post("/data", oneRow).accepted()
	require.Len(t, r.pushers.accepted, 1)
}

func TestWhatAClientLearnsThatWaits(t *testing.T) {
	for _, c := range []struct {
		state  string
		status int
	}{{"delivered", 200}, {"partly_dead", 207}, {"dead", 207}, {"pending", 202}} {
		r := newRig(t, func(_ *Options, p *pushers) {
			p.progress = func(context.Context) []delivery.Progress {
				return []delivery.Progress{{Name: "file", State: c.state, Dead: 1}, {Name: "http", State: "delivered", Delivered: 1}}
			}
		})
		a := r.post("/data?wait=5s", oneRow)
		require.Equal(t, c.status, a.status, "%s", a.body)
		if c.status == http.StatusAccepted {
			require.Equal(t, 1, a.accepted().Rows)
			continue
		}
		d := data[DeliveryState](a)
		require.Equal(t, "0123456789abcdef", d.UUID)
		require.Equal(t, c.state, d.Pushers[0].State)
		require.WithinDuration(t, time.Now(), d.ReceivedAt, time.Minute)
	}
}

func TestAWaitEndsWhenItsTimeIsUpOrTheHostStops(t *testing.T) {
	r := newRig(t, func(_ *Options, p *pushers) {
		p.progress = func(ctx context.Context) []delivery.Progress {
			<-ctx.Done()
			return []delivery.Progress{{Name: "file", State: "pending"}}
		}
	})
	r.post("/data?wait=20ms", oneRow).accepted()
	r.service.Hurry()
	r.post("/data?wait=5m", oneRow).accepted()
	for _, bad := range []string{"", "0", "-1s", "6m", "301", "soon"} {
		require.Equal(t, "wait", r.post("/data?wait="+bad, oneRow).refused(400).Details.Field, bad)
	}
}

func TestContentTypes(t *testing.T) {
	r := newRig(t)
	for _, good := range []string{"application/json", "application/json; charset=UTF-8", "text/json", "application/vnd.x+json"} {
		r.post("/data", oneRow, "Content-Type", good).accepted()
	}
	for _, bad := range []string{"text/plain", "application/x-ndjson", "application/json; charset=latin1", "multipart/form-data; boundary=x"} {
		r.post("/data", oneRow, "Content-Type", bad).refused(415)
	}
	r.post("/data", oneRow, "Content-Encoding", "gzip").refused(415)
	require.Equal(t, "uuid", r.post("/data/batch", `{"data":{}}`, "Content-Type", "application/x-ndjson").refused(422).Details.Field)
}

func TestBadContextHeadersNameThemselves(t *testing.T) {
	r := newRig(t)
	for _, header := range []string{"X-Org-ID", "X-User-ID", "X-Workspace-ID"} {
		for _, bad := range []string{"0", "-1", "abc", "1.5", " ", "9007199254740992", "99999999999999999999999"} {
			e := r.post("/data", oneRow, header, bad).refused(400)
			require.Equal(t, header, e.Details.Field, bad)
		}
	}
	require.Empty(t, r.pushers.accepted)
	r.post("/data", oneRow).accepted()
	require.Equal(t, uint64(1), r.pushers.accepted[0].OrgID, "the org of a development host")
	require.Zero(t, r.pushers.accepted[0].UserID)
}

func TestBodiesInChunksAreTakenUpToTheLimit(t *testing.T) {
	r := newRig(t, func(o *Options, _ *pushers) { o.MaxBody = 1 << 20 })
	chunked := func(body string) answer {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://rivergate/data", struct{ *strings.Reader }{strings.NewReader(body)})
		require.NoError(t, err)
		request.ContentLength = -1
		response, err := r.client.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		return answer{t: t, status: response.StatusCode, header: response.Header}
	}
	body := func(n int) string { return `{"uuid":"u","row":{"data":{"a":"` + strings.Repeat("x", n) + `"}}}` }
	require.Equal(t, 202, chunked(body(10)).status)
	require.Equal(t, 202, chunked(body(600_000)).status)
	require.Equal(t, 413, chunked(body(1<<20)).status)
	require.Equal(t, 202, chunked(body(10)).status)
	require.Len(t, r.pushers.rows()[1], 600_000+8)
}
