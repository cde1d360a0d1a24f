// Package controltower is a control tower for tests, faithful to the one that exists: GET /triggers/{uuid} answers with the
// trigger, and with 404 {"detail": "…"} both for a uuid that it does not know and for its own failures. A trigger is there
// before anybody hears of its uuid, and never changes.
//
// Faults can be put in, for all requests or for some uuids. It is no mock: it is asked over HTTP. The command in serve runs
// it by itself.
package controltower

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Trigger is one as the control tower stores it.
type Trigger struct {
	UUID       string    `json:"uuid"`
	APIVersion string    `json:"apiVersion"`
	Protocol   string    `json:"protocol"`
	Plate      *Plate    `json:"plate,omitempty"`
	Spec       any       `json:"spec"` // an object, or a list of them with null where a well has none
	Metadata   *Metadata `json:"metadata,omitempty"`
}

// Plate is the layout of a plate's wells.
type Plate struct {
	Rows    int `json:"rows"`
	Columns int `json:"columns"`
}

// Metadata says where a trigger comes from: "riffyn" or "service.control-tower.api".
type Metadata struct {
	Source string `json:"source"`
	Spec   any    `json:"spec"` // for riffyn: {experimentId, activityId, runId}, or a list of them, one for each well
}

// Plain is a trigger that the control tower's own API made.
func Plain(uuid string) Trigger {
	return Trigger{UUID: uuid, APIVersion: "v1", Protocol: "od", Spec: map[string]any{}, Metadata: &Metadata{Source: "service.control-tower.api", Spec: map[string]any{}}}
}

// Fault is what a request gets in place of its answer. The zero Fault is none.
type Fault struct {
	OwnFailure bool   // 404 with a detail, as the real one tells its own failures
	Status     int    // this status; with Body
	Body       string // with status 200 when Status is 0: this text in place of the trigger
	Hang       bool   // no answer until the caller gives up
	Cut        bool   // the connection is cut within the answer
	Location   string // redirects there
	Header     http.Header
}

func (f *Fault) isNone() bool {
	return !f.OwnFailure && f.Status == 0 && f.Body == "" && !f.Hang && !f.Cut && f.Location == ""
}

// Tower is the server. Make one with New, or with Start for a test.
type Tower struct {
	mu       sync.Mutex
	triggers map[string][]byte
	fault    Fault
	faults   map[string]Fault // by uuid
	requests map[string]int
	tokens   map[string]bool // Authorization headers that came
	address  string
	server   *http.Server
	served   chan struct{}
}

// New makes a tower that knows no trigger and serves nowhere. It is an http.Handler.
func New() *Tower {
	return &Tower{triggers: map[string][]byte{}, faults: map[string]Fault{}, requests: map[string]int{}, tokens: map[string]bool{}}
}

// Start makes a tower that serves until the test ends.
func Start(t testing.TB) *Tower {
	t.Helper()
	tower := New()
	if err := tower.Up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tower.Down)
	return tower
}

// Up listens on 127.0.0.1: on a free port the first time, then on the same.
func (t *Tower) Up() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server != nil {
		return errors.New("the control tower is up")
	}
	if t.address == "" {
		t.address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", t.address)
	if err != nil {
		return fmt.Errorf("control tower: %w", err)
	}
	t.address = listener.Addr().String()
	server, served := &http.Server{Handler: t}, make(chan struct{})
	t.server, t.served = server, served
	go func() {
		defer close(served)
		_ = server.Serve(listener) // returns when the server is closed
	}()
	return nil
}

// Down closes the listener and every connection, as if the machine had gone. It may come Up again.
func (t *Tower) Down() {
	t.mu.Lock()
	server, served := t.server, t.served
	t.server = nil
	t.mu.Unlock()
	if server == nil {
		return
	}
	_ = server.Close() // the error of a listener that is closed anyway
	<-served
}

// URL is where it serves, for RIVERGATE_CONTROL_TOWER_URL.
func (t *Tower) URL() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return "http://" + t.address
}

// Put stores triggers.
func (t *Tower) Put(triggers ...Trigger) error {
	for _, trigger := range triggers {
		document, err := json.Marshal(trigger)
		if err != nil {
			return fmt.Errorf("trigger %s: %w", trigger.UUID, err)
		}
		t.PutDocument(trigger.UUID, document)
	}
	return nil
}

// PutDocument stores a trigger byte for byte.
func (t *Tower) PutDocument(uuid string, document []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.triggers[uuid] = document
}

// Break puts a fault in for the uuids, or for all others when none is given, until Mend.
func (t *Tower) Break(f Fault, uuids ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(uuids) == 0 {
		t.fault = f
	}
	for _, uuid := range uuids {
		t.faults[uuid] = f
	}
}

// Mend takes all faults away.
func (t *Tower) Mend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault = Fault{}
	clear(t.faults)
}

// Requests is how often a uuid was asked for.
func (t *Tower) Requests(uuid string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requests[uuid]
}

// Asked is how often each uuid was asked for.
func (t *Tower) Asked() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.requests)
}

// Authorized tells whether a request came with this Authorization header.
func (t *Tower) Authorized(header string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tokens[header]
}

func (t *Tower) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	uuid, ok := strings.CutPrefix(r.URL.Path, "/triggers/")
	if !ok || r.Method != http.MethodGet {
		refuse(w, http.StatusNotFound, "Not Found")
		return
	}
	t.mu.Lock()
	t.requests[uuid]++
	t.tokens[r.Header.Get("Authorization")] = true
	document, known := t.triggers[uuid]
	fault, special := t.faults[uuid]
	if !special {
		fault = t.fault
	}
	t.mu.Unlock()
	switch {
	case !fault.isNone():
		fail(w, r, fault)
	case !known:
		refuse(w, http.StatusNotFound, "Trigger not found")
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document) // who asked may have gone
	}
}

func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"detail": detail})
}

func fail(w http.ResponseWriter, r *http.Request, f Fault) {
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	switch {
	case f.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Cut:
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"uuid"`))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case f.OwnFailure:
		refuse(w, http.StatusNotFound, "the database of the control tower cannot be reached")
	case f.Location != "":
		w.Header().Set("Location", f.Location)
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		if f.Status != 0 {
			w.WriteHeader(f.Status)
		}
		_, _ = w.Write([]byte(f.Body))
	}
}

var _ http.Handler = (*Tower)(nil)
