package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is a server that takes requests like the host and remembers them.
type door struct {
	mu       sync.Mutex
	uuids    map[string]int
	rows     int
	requests int
	status   func(request int) int
}

func (d *door) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	type row struct{ Data json.RawMessage }
	var body struct {
		UUID string
		Row  *row
		Rows []row
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if body.Row != nil {
		body.Rows = append(body.Rows, *body.Row)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests++
	d.uuids[body.UUID]++
	for _, r := range body.Rows {
		if len(r.Data) == rowBytes {
			d.rows++
		}
	}
	status := http.StatusAccepted
	if d.status != nil {
		status = d.status(d.requests)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"success":true}`) // a client that went away reads nothing
}

func serveDoor(t *testing.T, d *door) (addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // returns when closed
	}()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		<-served
	})
	return l.Addr().String()
}

func runLoad(t *testing.T, s spec) result {
	t.Helper()
	in, err := json.Marshal(s)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, generate(t.Context(), bytes.NewReader(in), &out))
	var r result
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	return r
}

func TestTheLoadSendsExactlyWhatItReports(t *testing.T) {
	for _, rows := range []int{1, 100} {
		d := &door{uuids: map[string]int{}}
		r := runLoad(t, spec{Addr: serveDoor(t, d), Connections: 8, Rows: rows, Requests: 500})
		require.EqualValues(t, 500, r.Sent)
		require.EqualValues(t, 500*rows, r.Rows)
		require.Equal(t, 500*rows, d.rows, "rows of %d bytes", rowBytes)
		require.Len(t, d.uuids, 500, "each request has a uuid of its own")
	}
}

func TestAnswersOtherThan202AreCountedApart(t *testing.T) {
	d := &door{uuids: map[string]int{}, status: func(n int) int {
		if n%10 == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusAccepted
	}}
	r := runLoad(t, spec{Addr: serveDoor(t, d), Connections: 1, Rows: 1, Requests: 100})
	require.EqualValues(t, 90, r.Sent)
	require.EqualValues(t, 10, r.Refused)
	require.Contains(t, r.Said, "503")
}

func TestAStallCountsForEveryRequestThatWasDueMeanwhile(t *testing.T) {
	var stall sync.Once
	d := &door{uuids: map[string]int{}}
	d.status = func(n int) int {
		if n == 20 {
			stall.Do(func() { <-time.After(200 * time.Millisecond) }) // under the lock: all requests wait
		}
		return http.StatusAccepted
	}
	r := runLoad(t, spec{Addr: serveDoor(t, d), Connections: 4, Rows: 1, Rate: 500, Duration: time.Second})
	require.InDelta(t, 500, r.Sent, 5, "the clock decides how many are sent")
	// A closed loop would have seen the stall in at most 4 answers of 500; due times see it in about 100.
	require.Greater(t, r.P90, 20*time.Millisecond)
	require.Less(t, r.P50, 20*time.Millisecond)
}

func TestTheLoadStopsWhenItIsTold(t *testing.T) {
	d := &door{uuids: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	in, err := json.Marshal(spec{Addr: serveDoor(t, d), Connections: 2, Rows: 1, Duration: time.Hour})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- generate(ctx, bytes.NewReader(in), io.Discard) }()
	cancel()
	select {
	case err := <-ended:
		require.Error(t, err)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the load goes on")
	}
}

func TestNoiseIsWhatEqualRunsDifferBy(t *testing.T) {
	require.InDelta(t, 0, series{100, 100, 100, 100}.noise(), 1e-9)
	require.InDelta(t, 20.0/110, series{100, 120, 100, 120}.noise(), 1e-9)
	require.InDelta(t, 110, series{100, 120, 100, 120}.median(), 1e-9)
	require.Equal(t, 99, quantile(countTo(100), 0.99))
	require.Equal(t, 50, quantile(countTo(100), 0.5))
	require.Equal(t, 1, quantile(countTo(1), 0.99))
}

func countTo(n int) (all []int) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}

func TestNumbersAreGrouped(t *testing.T) {
	require.Equal(t, "1 234 567", number(1_234_567))
	require.Equal(t, "12.3", number(12.34))
	require.Equal(t, "0.55", number(0.551))
}

func TestThePlotIsWellFormed(t *testing.T) {
	phases := []*phase{
		{name: "well", from: 0, to: time.Second, a: []float64{30_000, 30_100}, b: []float64{30_000, 29_000}},
		{name: "down", mode: refusing, from: time.Second, to: 2 * time.Second, a: []float64{30_000}, b: []float64{0}},
	}
	d := xml.NewDecoder(bytes.NewReader(isolationPlot(phases)))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}
