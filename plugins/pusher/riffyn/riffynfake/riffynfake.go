// Package riffynfake is a server for tests that keeps the rules of the part of Riffyn's API that the pusher uses, and
// fails on demand. It breaks no rule for a client's convenience:
//
//   - every id has 17 letters or digits, and must exist; event ids are taken as strings and given as numbers or strings;
//   - append and eventGroupId exclude each other; without either, what the run has of the property is overwritten;
//   - values are strings, events belong to their group, none is named twice; a call is applied whole or not at all;
//   - entries are applied in any order, and every list of an answer is shuffled;
//   - there is no idempotency key: the same append twice makes the events twice.
package riffynfake

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Output is an output of an activity: its properties by name, the first is the primary key.
type Output struct {
	Name       string
	Properties []string
}

// Kind is a call of the API.
type Kind string

// The calls, and the two phases of add-batch-run-data.
const (
	Activity Kind = "activity"
	Append   Kind = "append"
	Fill     Kind = "fill"
	Raw      Kind = "raw"
)

// Fault is what happens to the next call of a kind.
type Fault struct {
	Kind       Kind
	Run        string        // only calls about this run; empty: any
	Times      int           // how many calls; 0: one
	Written    bool          // the call takes effect first
	Status     int           // the answer; 0: none, the connection is cut
	RetryAfter time.Duration // sent along
	Hang       bool          // no answer, and the connection stays
	Body       string        // of the answer with Status
}

// Server is the fake; the zero value is not usable, see New.
type Server struct {
	mu         sync.Mutex
	key        string
	header     string // that the key has to come in; empty: either
	activities map[[2]string]*activity
	runs       map[string]*run
	faults     []*Fault
	calls      []Kind
	refuse     func(property, value string) bool
	maxBody    int64
	lastID     int
	hold       map[Kind]chan struct{} // calls of a kind wait for it
	waiting    map[Kind]int
}

type activity struct {
	id, name string
	outputs  []output
}

type output struct {
	id, name   string
	properties []property
}

type property struct{ id, name string }

// run is the data of one run of an activity.
type run struct {
	of         [2]string
	resource   string
	properties []property
	events     []*event // in the order in which they were made
}

type event struct {
	id, group string
	values    map[string]string // by property id
}

// New is a server that takes requests with this key, as api-key or access-token.
func New(key string) *Server {
	return &Server{key: key, activities: map[[2]string]*activity{}, runs: map[string]*run{}, maxBody: 1 << 20,
		hold: map[Kind]chan struct{}{}, waiting: map[Kind]int{}}
}

// ID makes a new id of 17 characters.
func (s *Server) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newID()
}

func (s *Server) newID() string {
	s.lastID++
	return fmt.Sprintf("fake%013d", s.lastID)
}

// AddActivity makes an activity of a new experiment with that many runs.
func (s *Server) AddActivity(runs int, outputs ...Output) (experimentID, activityID string, runIDs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := [2]string{s.newID(), s.newID()}
	a := &activity{id: at[1], name: "measure"}
	for _, o := range outputs {
		made := output{id: s.newID(), name: o.Name}
		for _, p := range o.Properties {
			made.properties = append(made.properties, property{s.newID(), p})
		}
		a.outputs = append(a.outputs, made)
	}
	s.activities[at] = a
	last := a.outputs[len(a.outputs)-1]
	for range runs {
		id := s.newID()
		s.runs[id] = &run{of: at, resource: last.id, properties: last.properties}
		runIDs = append(runIDs, id)
	}
	return at[0], at[1], runIDs
}

// AddProperty gives the last output of an activity one more property.
func (s *Server) AddProperty(experimentID, activityID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := [2]string{experimentID, activityID}
	o := &s.activities[at].outputs[len(s.activities[at].outputs)-1]
	o.properties = append(slices.Clone(o.properties), property{s.newID(), name})
	for _, r := range s.runs {
		if r.of == at {
			r.properties = o.properties
		}
	}
}

// Inject makes calls fail, the first fault that fits first.
func (s *Server) Inject(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		f.Times = max(f.Times, 1)
		s.faults = append(s.faults, &f)
	}
}

// Heal takes all faults back.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Refuse makes the server answer 422 to values for which refuses says so; property is its name.
func (s *Server) Refuse(refuses func(property, value string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuses
}

// LimitBody makes the server answer 413 to larger requests.
func (s *Server) LimitBody(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxBody = bytes
}

// Hold makes calls of a kind wait, before they take effect, until release is called.
func (s *Server) Hold(kind Kind) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.hold[kind] = gate
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.hold[kind] == gate {
			delete(s.hold, kind)
		}
		close(gate)
	})
}

// Waiting is how many calls of a kind are held.
func (s *Server) Waiting(kind Kind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[kind]
}

// SetKey changes the key that is accepted.
func (s *Server) SetKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// RequireHeader makes the key be accepted in that header alone.
func (s *Server) RequireHeader(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header = name
}

// Calls is how many calls of a kind came in with the right key, those that failed included.
func (s *Server) Calls(kind Kind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, k := range s.calls {
		if k == kind {
			n++
		}
	}
	return n
}

// Events is the data of a run: one map from property name to value per event, in the order in which they were made.
func (s *Server) Events(runID string) []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[runID]
	if r == nil {
		return nil
	}
	all := make([]map[string]string, 0, len(r.events))
	for _, e := range r.events {
		row := map[string]string{}
		for _, p := range r.properties {
			if v, ok := e.values[p.id]; ok {
				row[p.name] = v
			}
		}
		all = append(all, row)
	}
	return all
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.routes().ServeHTTP(w, r) }

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/process/{experiment}/activity/{activity}", s.call(s.getActivity))
	mux.HandleFunc("POST /v1/experiment/{experiment}/activity/{activity}/add-batch-run-data", s.call(s.addBatchRunData))
	mux.HandleFunc("GET /v1/experiment/{experiment}/step/{activity}/data/raw", s.call(s.getRaw))
	return mux
}

// shuffled is for all that has no order.
func shuffled[T any](list []T) []T {
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
