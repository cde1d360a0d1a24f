package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is one request as the destination saw it.
type seen struct {
	header http.Header
	body   string
}

// destination records every request and answers with what respond writes; nil: 202.
type destination struct {
	*httptest.Server

	mu       sync.Mutex
	requests []seen
}

func newDestination(t *testing.T, respond func(w http.ResponseWriter, r *http.Request, body string)) *destination {
	d := &destination{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client went away
		}
		d.mu.Lock()
		d.requests = append(d.requests, seen{r.Header.Clone(), string(body)})
		d.mu.Unlock()
		if respond == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		respond(w, r, string(body))
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *destination) all() []seen {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]seen(nil), d.requests...)
}

func status(code int) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(code) }
}

func classes(outcomes []protocol.Outcome) map[int]sdk.Class {
	m := map[int]sdk.Class{}
	for _, o := range outcomes {
		m[o.Row] = o.Class
	}
	return m
}

func TestATracedRowTakesItsTraceAlong(t *testing.T) {
	d := newDestination(t, nil)
	h := plugintest.Start(t, plugin, map[string]any{"url": d.URL, "headers": "Traceparent=00-of-the-operator"})
	traced := plugintest.Frame("a1", `{"k":1}`)
	traced.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	require.Empty(t, h.Deliver(traced))
	require.Empty(t, h.Deliver(plugintest.Frame("a1", `{"k":2}`)))
	got := d.all()
	require.Len(t, got, 2)
	require.Equal(t, []string{traced.TraceParent}, got[0].header.Values("traceparent"))
	require.Equal(t, []string{"00-of-the-operator"}, got[1].header.Values("traceparent"))
}

func TestRowsArriveAsTheClientSentThem(t *testing.T) {
	d := newDestination(t, nil)
	h := plugintest.Start(t, plugin, map[string]any{"url": d.URL + "/data/batch"})
	frame := plugintest.Indexed(plugintest.Frame("a\"1", `{"b": 1.50, "a":1e400,"b":"\u0041 <é>"}`, `{}`), 7, protocol.NoIndex)
	require.Empty(t, h.Deliver(frame))
	require.Len(t, d.all(), 1)
	got := d.all()[0]
	require.Equal(t, `{"uuid":"a\"1","rows":[{"index":7,"data":{"b": 1.50, "a":1e400,"b":"\u0041 <é>"}},{"data":{}}]}`, got.body)
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	require.Equal(t, "req-test", got.header.Get("X-Request-ID"))
	require.Equal(t, "dlv-"+strconv.FormatUint(frame.Position, 36)+"-2", got.header.Get("Rivergate-Delivery-Id"))
	for _, absent := range []string{"Authorization", "Rivergate-Signature", "X-Org-ID", "X-User-ID"} {
		require.Empty(t, got.header.Get(absent), absent)
	}
}

func TestOrgAndUserTravelOnlyWhenAsked(t *testing.T) {
	d := newDestination(t, nil)
	h := plugintest.Start(t, plugin, map[string]any{"url": d.URL, "forward_context": true, "token": "tok", "headers": "X-Api-Key=k1, X-Stage=lab"})
	frame := plugintest.Frame("a", `{}`)
	frame.OrgID, frame.UserID = 42, 7
	anonymous := plugintest.Frame("a", `{}`)
	anonymous.OrgID = 42
	require.Empty(t, h.Deliver(frame, anonymous))
	first, second := d.all()[0].header, d.all()[1].header
	require.Equal(t, "42", first.Get("X-Org-ID"))
	require.Equal(t, "7", first.Get("X-User-ID"))
	require.Equal(t, "Bearer tok", first.Get("Authorization"))
	require.Equal(t, "k1", first.Get("X-Api-Key"))
	require.Equal(t, "lab", first.Get("X-Stage"))
	require.Empty(t, second.Get("X-User-ID"))
}

func TestStatusDecidesTheOutcome(t *testing.T) {
	for code, want := range map[int]sdk.Class{
		200: protocol.Delivered, 202: protocol.Delivered, 204: protocol.Delivered, 207: protocol.Delivered,
		301: sdk.Retry, 307: sdk.Retry, 404: sdk.Retry, 405: sdk.Retry, 410: sdk.Retry, 415: sdk.Retry,
		400: sdk.Rejected, 413: sdk.Rejected, 422: sdk.Rejected,
		401: sdk.Unauthenticated, 403: sdk.Unauthenticated, 407: sdk.Unauthenticated,
		408: sdk.Retry, 409: sdk.Retry, 425: sdk.Retry, 418: sdk.Retry,
		429: sdk.Throttled,
		500: sdk.Retry, 501: sdk.Retry, 502: sdk.Retry, 503: sdk.Retry, 504: sdk.Retry,
	} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			d := newDestination(t, status(code))
			h := plugintest.Start(t, plugin, map[string]any{"url": d.URL})
			outcomes := h.Deliver(plugintest.Frame("a", `{}`))
			if want == protocol.Delivered {
				require.Empty(t, outcomes)
				return
			}
			require.Len(t, outcomes, 1)
			require.Equal(t, want, outcomes[0].Class, outcomes[0].Message)
			require.Equal(t, "http_"+strconv.Itoa(code), outcomes[0].Code)
		})
	}
}

func TestRetryAfterIsHandedOn(t *testing.T) {
	for _, code := range []int{429, 503, 500} {
		d := newDestination(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(code)
		})
		outcomes := plugintest.Start(t, plugin, map[string]any{"url": d.URL}).Deliver(plugintest.Frame("a", `{}`))
		require.Len(t, outcomes, 1)
		require.Equal(t, 3*time.Second, outcomes[0].RetryAfter, code)
	}
}

type gatewayBody struct {
	UUID string `json:"uuid"`
	Rows []struct {
		Data map[string]any `json:"data"`
	} `json:"rows"`
}

// gateway answers as a Rivergate does that wants no row with a member "bad".
func gateway(t *testing.T, accepted *[]string, mu *sync.Mutex) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, text string) {
		var body gatewayBody
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Errorf("not JSON: %s", text)
		}
		var problems []string
		for i, row := range body.Rows {
			if _, bad := row.Data["bad"]; bad {
				problems = append(problems, fmt.Sprintf(`{"field":"rows[%d].data","reason":"holds bad"}`, i))
			}
		}
		if len(problems) > 0 {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = fmt.Fprintf(w, `{"success":false,"error":{"code":"UNPROCESSABLE_ENTITY","message":"wrong","details":{"errors":[%s]}}}`, strings.Join(problems, ","))
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, row := range body.Rows {
			*accepted = append(*accepted, fmt.Sprint(row.Data["n"]))
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

func TestOnlyTheRowsThatAGatewayNamesAreRejected(t *testing.T) {
	var accepted []string
	var mu sync.Mutex
	d := newDestination(t, gateway(t, &accepted, &mu))
	h := plugintest.Start(t, plugin, map[string]any{"url": d.URL})
	outcomes := h.Deliver(plugintest.Frame("a", `{"n":0}`, `{"n":1,"bad":1}`, `{"n":2}`, `{"n":3,"bad":1}`, `{"n":4}`))
	require.Equal(t, map[int]sdk.Class{1: sdk.Rejected, 3: sdk.Rejected}, classes(outcomes))
	require.Equal(t, "http_422", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, "holds bad")
	require.Equal(t, []string{"0", "2", "4"}, accepted)
	require.Len(t, d.all(), 2)
	require.NotEqual(t, d.all()[0].header.Get("Idempotency-Key"), d.all()[1].header.Get("Idempotency-Key"), "another body needs another key")
}

func TestARefusalOfTheWholeIsNotAskedTwice(t *testing.T) {
	d := newDestination(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"success":false,"error":{"details":{"errors":[{"field":"uuid","reason":"too long"}]}}}`)
	})
	outcomes := plugintest.Start(t, plugin, map[string]any{"url": d.URL}).Deliver(plugintest.Frame("a", `{}`, `{}`, `{}`))
	require.Equal(t, map[int]sdk.Class{0: sdk.Rejected, 1: sdk.Rejected, 2: sdk.Rejected}, classes(outcomes))
	require.Len(t, d.all(), 1)
}

func TestAnUnnamedRefusalFindsTheGuiltyRowByHalving(t *testing.T) {
	for _, code := range []int{400, 413, 422} {
		d := newDestination(t, func(w http.ResponseWriter, _ *http.Request, body string) {
			if strings.Contains(body, "guilty") {
				w.WriteHeader(code)
			}
		})
		rows := make([]string, 100)
		for i := range rows {
			rows[i] = fmt.Sprintf(`{"n":%d}`, i)
		}
		rows[37] = `{"guilty":1}`
		outcomes := plugintest.Start(t, plugin, map[string]any{"url": d.URL}).Deliver(plugintest.Frame("a", rows...))
		require.Equal(t, map[int]sdk.Class{37: sdk.Rejected}, classes(outcomes))
		require.Less(t, len(d.all()), 20)
	}
}

func TestADestinationThatRefusesEveryRowIsNotAskedForEach(t *testing.T) {
	d := newDestination(t, status(400))
	rows := make([]string, 1000)
	for i := range rows {
		rows[i] = `{}`
	}
	outcomes := plugintest.Start(t, plugin, map[string]any{"url": d.URL}).Deliver(plugintest.Frame("a", rows...))
	require.Len(t, outcomes, 1000)
	require.Less(t, len(d.all()), 100)
}

func TestAFrameThatIsTooLargeArrivesInPieces(t *testing.T) {
	var mu sync.Mutex
	rows := 0
	d := newDestination(t, func(w http.ResponseWriter, _ *http.Request, text string) {
		var body gatewayBody
		if json.Unmarshal([]byte(text), &body) != nil || len(body.Rows) > 3 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		mu.Lock()
		rows += len(body.Rows)
		mu.Unlock()
	})
	frame := plugintest.Frame("a", `{}`, `{}`, `{}`, `{}`, `{}`, `{}`, `{}`, `{}`, `{}`, `{}`)
	require.Empty(t, plugintest.Start(t, plugin, map[string]any{"url": d.URL}).Deliver(frame))
	require.Equal(t, 10, rows)
}

func TestTheSignatureCoversTimeAndBody(t *testing.T) {
	d := newDestination(t, nil)
	h := plugintest.Start(t, plugin, map[string]any{"url": d.URL, "secret": "s3cret"})
	require.Empty(t, h.Deliver(plugintest.Frame("a", `{"x":1}`)))
	got := d.all()[0]
	var at int64
	var mac string
	_, err := fmt.Sscanf(got.header.Get("Rivergate-Signature"), "t=%d,v1=%s", &at, &mac)
	require.NoError(t, err)
	require.InDelta(t, time.Now().Unix(), at, 60)
	want := hmac.New(sha256.New, []byte("s3cret"))
	_, _ = fmt.Fprintf(want, "%d.%s", at, got.body)
	require.Equal(t, hex.EncodeToString(want.Sum(nil)), mac)
}

func TestIdsAreTheSameWhenARowComesAgain(t *testing.T) {
	var mu sync.Mutex
	calls := 0
	d := newDestination(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls == 1 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	h := plugintest.Start(t, plugin, map[string]any{"url": d.URL})
	frame := plugintest.Frame("a", `{"x":1}`, `{"x":2}`)
	require.Len(t, h.Deliver(frame), 2)
	h.Reopen()
	require.Empty(t, h.Deliver(frame))
	first, second := d.all()[0].header, d.all()[1].header
	require.Equal(t, first.Get("Rivergate-Delivery-Id"), second.Get("Rivergate-Delivery-Id"))
	require.Equal(t, first.Get("Idempotency-Key"), second.Get("Idempotency-Key"))
	require.NotEmpty(t, first.Get("Idempotency-Key"))
}

func TestFramesOfOneUUIDStayInOrderAndOthersGoSideBySide(t *testing.T) {
	const uuids = 4
	var arrived sync.WaitGroup
	arrived.Add(uuids)
	var mu sync.Mutex
	order := map[string][]any{}
	d := newDestination(t, func(_ http.ResponseWriter, _ *http.Request, text string) {
		var body gatewayBody
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Error(err)
		}
		mu.Lock()
		order[body.UUID] = append(order[body.UUID], body.Rows[0].Data["n"])
		first := len(order[body.UUID]) == 1
		mu.Unlock()
		if first { // answered only when a request of each uuid is here: they are in flight together
			arrived.Done()
			arrived.Wait()
		}
	})
	h := plugintest.Start(t, plugin, map[string]any{"url": d.URL, "concurrency": uuids})
	var frames []protocol.Frame
	for n := range 5 {
		for u := range uuids {
			frames = append(frames, plugintest.Frame(fmt.Sprintf("u%d", u), fmt.Sprintf(`{"n":%d}`, n)))
		}
	}
	require.Empty(t, h.Deliver(frames...))
	for u := range uuids {
		require.Equal(t, []any{0., 1., 2., 3., 4.}, order[fmt.Sprintf("u%d", u)])
	}
}

func TestAFailedFrameHoldsThoseBehindItAndNoOther(t *testing.T) {
	d := newDestination(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		if strings.Contains(body, "fails") {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	h := plugintest.Start(t, plugin, map[string]any{"url": d.URL})
	good, bad, behind := plugintest.Frame("a", `{}`), plugintest.Frame("b", `{"fails":1}`), plugintest.Frame("b", `{}`)
	outcomes := h.Deliver(bad, good, behind)
	require.Len(t, outcomes, 2)
	by := map[uint64]protocol.Outcome{}
	for _, o := range outcomes {
		by[o.Position] = o
	}
	require.Equal(t, sdk.Retry, by[bad.Position].Class)
	require.Equal(t, sdk.Retry, by[behind.Position].Class)
	require.Equal(t, "not_sent", by[behind.Position].Code)
	require.Len(t, d.all(), 2)
}

func TestARedirectIsNotFollowed(t *testing.T) {
	other := newDestination(t, nil)
	d := newDestination(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	outcomes := plugintest.Start(t, plugin, map[string]any{"url": d.URL, "token": "tok"}).Deliver(plugintest.Frame("a", `{}`))
	require.Equal(t, map[int]sdk.Class{0: sdk.Retry}, classes(outcomes))
	require.Empty(t, other.all())
}

func TestMessagesHoldNoSecret(t *testing.T) {
	d := newDestination(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprintf(w, "you sent %s and %s\x00\x1b[31m", r.Header.Get("Authorization"), r.Header.Get("X-Key"))
	})
	config := map[string]any{"url": d.URL + "?sig=urlsecret", "token": "toksecret", "headers": "X-Key=keysecret"}
	outcomes := plugintest.Start(t, plugin, config).Deliver(plugintest.Frame("a", `{}`))
	require.Contains(t, outcomes[0].Message, "you sent Bearer *** and ***")
	require.NotContains(t, outcomes[0].Message, "\x1b")
	d.Close()
	config["url"] = "http://127.0.0.1:1/?sig=urlsecret"
	outcomes = plugintest.Start(t, plugin, config).Deliver(plugintest.Frame("a", `{}`))
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "network", outcomes[0].Code)
	require.NotContains(t, outcomes[0].Message, "secret")
}

func TestADeadDestinationIsAskedOnceABatch(t *testing.T) {
	var frames []protocol.Frame
	for i := range 50 {
		frames = append(frames, plugintest.Frame(strconv.Itoa(i), `{}`))
	}
	release := make(chan struct{})
	d := newDestination(t, func(_ http.ResponseWriter, r *http.Request, _ string) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	h := plugintest.Start(t, plugin, map[string]any{"url": d.URL, "request_timeout": "100ms", "concurrency": 2})
	outcomes := h.Deliver(frames...)
	require.Len(t, outcomes, 50)
	tried := 0
	for _, o := range outcomes {
		if o.Class == sdk.Retry {
			require.Equal(t, "timeout", o.Code)
			tried++
		} else {
			require.Equal(t, sdk.Throttled, o.Class)
		}
	}
	require.LessOrEqual(t, tried, 2)
	require.LessOrEqual(t, len(d.all()), 2)
}

func TestAnEndlessAnswerIsCutOff(t *testing.T) {
	d := newDestination(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		w.WriteHeader(http.StatusBadRequest)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	outcomes := plugintest.Start(t, plugin, map[string]any{"url": d.URL}).Deliver(plugintest.Frame("a", `{}`))
	require.Equal(t, map[int]sdk.Class{0: sdk.Rejected}, classes(outcomes))
	require.Less(t, len(outcomes[0].Message), 400)
}

func TestOnlyTheRightAuthorityIsTrusted(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = nil
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))

	require.Empty(t, plugintest.Start(t, plugin, map[string]any{"url": server.URL, "ca_file": ca}).Deliver(plugintest.Frame("a", `{}`)))
	require.Empty(t, plugintest.Start(t, plugin, map[string]any{"url": server.URL, "insecure": true}).Deliver(plugintest.Frame("a", `{}`)))
	outcomes := plugintest.Start(t, plugin, map[string]any{"url": server.URL}).Deliver(plugintest.Frame("a", `{}`))
	require.Equal(t, map[int]sdk.Class{0: sdk.Retry}, classes(outcomes))
	require.Contains(t, outcomes[0].Message, "certificate")
}

func TestBadSettingsAreNamed(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for field, config := range map[string]map[string]any{
		"url":       {"url": "http://user:hunter2@host/"},
		"headers":   {"url": "http://host/", "headers": "Idempotency-Key=1"},
		"token":     {"url": "http://host/", "token": "a\nb"},
		"ca_file":   {"url": "http://host/", "ca_file": empty},
		"cert_file": {"url": "http://host/", "cert_file": empty, "key_file": empty},
	} {
		problems := plugintest.Connect(t, plugin).Configure(config)
		require.Len(t, problems, 1, field)
		require.Equal(t, field, problems[0].Field)
		require.NotContains(t, problems[0].Reason, "hunter2")
	}
	for field, config := range map[string]map[string]any{
		"cert_file": {"url": "http://host/", "key_file": empty},
		"key_file":  {"url": "http://host/", "cert_file": empty},
	} {
		problems := plugintest.Connect(t, plugin).Configure(config)
		require.Len(t, problems, 1)
		require.Equal(t, field, problems[0].Field, "the one that is missing")
		require.Contains(t, problems[0].Reason, "is needed beside")
	}
	for _, config := range []map[string]any{{"url": "ftp://host/"}, {"url": "http://host/", "headers": "no equals sign"}, {"url": "http://host/", "headers": "X=a\r\nEvil: 1"}} {
		require.NotEmpty(t, plugintest.Connect(t, plugin).Configure(config), config)
	}
}
