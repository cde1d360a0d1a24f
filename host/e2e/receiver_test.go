package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// receiver is an HTTP destination that can be taken down and brought up again on the same address.
type receiver struct {
	t    *testing.T
	addr string

	mu     sync.Mutex
	server *http.Server
	served chan struct{}
	rows   []arrival
	heads  []http.Header
	answer func(uuid string, rows []receivedRow) int // nil: 202
}

type receivedRow struct {
	Index *int            `json:"index"`
	Data  json.RawMessage `json:"data"`
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t}
	r.up()
	t.Cleanup(r.down)
	return r
}

// up listens; at first on a free port, later on the same.
func (r *receiver) up() {
	r.t.Helper()
	if r.addr == "" {
		r.addr = "127.0.0.1:0"
	}
	l, err := new(net.ListenConfig).Listen(r.t.Context(), "tcp", r.addr)
	require.NoError(r.t, err)
	server := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	r.mu.Lock()
	r.addr, r.server, r.served = l.Addr().String(), server, served
	r.mu.Unlock()
	go func() {
		defer close(served)
		_ = server.Serve(l) // returns when the server is closed
	}()
}

// down closes the listener and every connection: as if the machine had gone.
func (r *receiver) down() {
	r.mu.Lock()
	server, served := r.server, r.served
	r.server = nil
	r.mu.Unlock()
	if server == nil {
		return
	}
	_ = server.Close() // the error of a listener that is closed anyway
	<-served
}

// answers sets what status a request gets.
func (r *receiver) answers(f func(uuid string, rows []receivedRow) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *receiver) received() []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]arrival(nil), r.rows...)
}

// ServeHTTP takes the body that the http pusher sends: {uuid, rows}.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender went away: nothing was taken
	}
	var body struct {
		UUID string        `json:"uuid"`
		Rows []receivedRow `json:"rows"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	status := http.StatusAccepted
	if r.answer != nil {
		status = r.answer(body.UUID, body.Rows)
	}
	if status/100 == 2 {
		r.heads = append(r.heads, req.Header.Clone())
		for _, row := range body.Rows {
			r.rows = append(r.rows, arrival{UUID: body.UUID, Index: row.Index, Data: row.Data})
		}
	}
	w.WriteHeader(status)
}
