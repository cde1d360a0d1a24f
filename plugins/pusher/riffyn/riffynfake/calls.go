package riffynfake

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
)

// refusal is an answer that is no success.
type refusal struct {
	status int
	reason string
}

func refused(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9]{17}$`)

// effect is what a call does once it is known to be right, under the lock; it returns the answer.
type effect func() any

// handler looks at a call, under the lock.
type handler func(r *http.Request, body []byte, at [2]string, a *activity) (Kind, string, effect, *refusal)

// call wraps a handler with what holds for all: key, size, ids of the path, faults.
func (s *Server) call(handle handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		key, header, limit := s.key, s.header, s.maxBody
		s.mu.Unlock()
		given := r.Header.Get(header)
		if header == "" {
			given = cmp.Or(r.Header.Get("api-key"), r.Header.Get("access-token"))
		}
		if given != key {
			answer(w, http.StatusUnauthorized, map[string]string{"message": "invalid credentials"})
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &large):
			answer(w, http.StatusRequestEntityTooLarge, map[string]string{"message": "request entity too large"})
			return
		case err != nil:
			return
		}
		at := [2]string{r.PathValue("experiment"), r.PathValue("activity")}

		s.mu.Lock()
		a := s.activities[at]
		if a == nil || !idForm.MatchString(at[0]) || !idForm.MatchString(at[1]) {
			s.mu.Unlock()
			answer(w, http.StatusNotFound, map[string]string{"message": "activity not found"})
			return
		}
		kind, run, apply, no := handle(r, body, at, a)
		s.calls = append(s.calls, kind)
		if gate := s.hold[kind]; gate != nil {
			s.waiting[kind]++
			s.mu.Unlock()
			select {
			case <-gate:
			case <-r.Context().Done():
			}
			s.mu.Lock()
			s.waiting[kind]--
		}
		fault := s.fault(kind, run)
		var said any
		if no == nil && (fault == nil || fault.Written) {
			said = apply()
		}
		s.mu.Unlock()

		switch {
		case fault != nil && fault.Hang:
			<-r.Context().Done()
		case fault != nil && fault.Status == 0:
			panic(http.ErrAbortHandler) // cuts the connection
		case fault != nil:
			if fault.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(fault.RetryAfter.Seconds())))
			}
			w.WriteHeader(fault.Status)
			_, _ = io.WriteString(w, fault.Body)
		case no != nil:
			answer(w, no.status, map[string]string{"message": no.reason})
		default:
			answer(w, http.StatusOK, said)
		}
	}
}

func (s *Server) fault(kind Kind, run string) *Fault {
	for _, f := range s.faults {
		if f.Kind == kind && f.Times > 0 && (f.Run == "" || f.Run == run) {
			f.Times--
			return f
		}
	}
	return nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone hears nothing
}

func (s *Server) getActivity(_ *http.Request, _ []byte, _ [2]string, a *activity) (Kind, string, effect, *refusal) {
	return Activity, "", func() any {
		outputs := []any{}
		for _, o := range a.outputs {
			properties := []any{}
			for _, p := range o.properties {
				properties = append(properties, map[string]any{"_id": p.id, "name": p.name, "unit": map[string]string{"name": "none"}})
			}
			outputs = append(outputs, map[string]any{"_id": o.id, "name": o.name, "properties": properties})
		}
		return map[string]any{"_id": a.id, "name": a.name, "outputs": outputs}
	}, nil
}

type entry struct {
	ResourceDefID  string            `json:"resourceDefId"`
	PropertyTypeID string            `json:"propertyTypeId"`
	EventGroupID   string            `json:"eventGroupId"`
	RunIDs         []string          `json:"runIds"`
	Values         []json.RawMessage `json:"values"`
	Append         bool              `json:"append"`
}

func strict(raw []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func (s *Server) addBatchRunData(r *http.Request, body []byte, at [2]string, _ *activity) (kind Kind, runID string, _ effect, _ *refusal) {
	kind = Append
	var request struct {
		BatchData []entry `json:"batchData"`
	}
	if r.Header.Get("Content-Type") != "application/json" {
		return kind, "", nil, refused(http.StatusBadRequest, "content type")
	}
	if err := strict(body, &request); err != nil {
		return kind, "", nil, refused(http.StatusBadRequest, "%v", err)
	}
	if len(request.BatchData) == 0 {
		return kind, "", nil, refused(http.StatusBadRequest, "batchData is empty")
	}
	var effects []effect
	for _, e := range request.BatchData {
		if e.EventGroupID != "" {
			kind = Fill
		}
		if len(e.RunIDs) > 0 {
			runID = e.RunIDs[0]
		}
		apply, no := s.entry(e, at)
		if no != nil {
			return kind, runID, nil, no
		}
		effects = append(effects, apply)
	}
	return kind, runID, func() any {
		answers := []any{}
		for _, apply := range shuffled(effects) {
			answers = append(answers, apply())
		}
		return shuffled(answers)
	}, nil
}

// entry checks one entry against the rules and returns what it does.
func (s *Server) entry(e entry, at [2]string) (effect, *refusal) {
	if e.Append && e.EventGroupID != "" {
		return nil, refused(http.StatusBadRequest, "append and eventGroupId exclude each other")
	}
	if len(e.RunIDs) != 1 {
		return nil, refused(http.StatusBadRequest, "this fake takes one run per entry")
	}
	r := s.runs[e.RunIDs[0]]
	if r == nil || r.of != at {
		return nil, refused(http.StatusNotFound, "run not found")
	}
	var of *property
	for i := range r.properties {
		if r.properties[i].id == e.PropertyTypeID {
			of = &r.properties[i]
		}
	}
	if e.ResourceDefID != r.resource || of == nil {
		return nil, refused(http.StatusNotFound, "property not found")
	}
	if len(e.Values) == 0 {
		return nil, refused(http.StatusBadRequest, "values is empty")
	}
	if e.EventGroupID != "" {
		return s.fillEntry(e, r, of)
	}
	values := make([]string, len(e.Values))
	for i, raw := range e.Values {
		if err := json.Unmarshal(raw, &values[i]); err != nil || raw[0] != '"' {
			return nil, refused(http.StatusUnprocessableEntity, "value %d is no string", i)
		}
		if s.refuse != nil && s.refuse(of.name, values[i]) {
			return nil, refused(http.StatusUnprocessableEntity, "%s cannot be %q", of.name, values[i])
		}
	}
	return func() any {
		if !e.Append { // overwrites
			var left []*event
			for _, ev := range r.events {
				delete(ev.values, of.id)
				if len(ev.values) > 0 {
					left = append(left, ev)
				}
			}
			r.events = left
		}
		group := s.newID()
		data := []any{}
		for _, v := range values {
			s.lastID++
			ev := &event{id: strconv.Itoa(s.lastID), group: group, values: map[string]string{of.id: v}}
			r.events = append(r.events, ev)
			data = append(data, eventAnswer(ev.id, v))
		}
		return entryAnswer(e, group, data)
	}, nil
}

func (s *Server) fillEntry(e entry, r *run, of *property) (effect, *refusal) {
	group := map[string]*event{}
	for _, ev := range r.events {
		if ev.group == e.EventGroupID {
			group[ev.id] = ev
		}
	}
	if len(group) == 0 {
		return nil, refused(http.StatusNotFound, "event group not found")
	}
	values := map[string]string{}
	for i, raw := range e.Values {
		var v struct {
			EventID *string `json:"eventId"`
			Value   *string `json:"value"`
		}
		if err := strict(raw, &v); err != nil || v.EventID == nil || v.Value == nil {
			return nil, refused(http.StatusUnprocessableEntity, "value %d is no {eventId, value} of strings", i)
		}
		if group[*v.EventID] == nil {
			return nil, refused(http.StatusUnprocessableEntity, "event %s is not in the group", *v.EventID)
		}
		if _, twice := values[*v.EventID]; twice {
			return nil, refused(http.StatusUnprocessableEntity, "event %s is named twice", *v.EventID)
		}
		if s.refuse != nil && s.refuse(of.name, *v.Value) {
			return nil, refused(http.StatusUnprocessableEntity, "%s cannot be %q", of.name, *v.Value)
		}
		values[*v.EventID] = *v.Value
	}
	return func() any {
		data := []any{}
		for id, v := range values {
			group[id].values[of.id] = v
			data = append(data, eventAnswer(id, v))
		}
		return entryAnswer(e, e.EventGroupID, data)
	}, nil
}

func (s *Server) getRaw(r *http.Request, _ []byte, at [2]string, _ *activity) (Kind, string, effect, *refusal) {
	id := r.URL.Query().Get("rid")
	of := s.runs[id]
	if of == nil || of.of != at {
		return Raw, id, nil, refused(http.StatusNotFound, "run not found")
	}
	return Raw, id, func() any {
		type place struct{ group, property string }
		data := map[place][]any{}
		for _, ev := range of.events {
			for p, v := range ev.values {
				data[place{ev.group, p}] = append(data[place{ev.group, p}], eventAnswer(ev.id, v))
			}
		}
		answers := []any{}
		for p, list := range data {
			answers = append(answers, entryAnswer(entry{ResourceDefID: of.resource, PropertyTypeID: p.property, RunIDs: []string{id}}, p.group, list))
		}
		return shuffled(answers)
	}, nil
}

func entryAnswer(e entry, group string, data []any) any {
	return map[string]any{"resourceDefId": e.ResourceDefID, "propertyTypeId": e.PropertyTypeID, "eventGroupId": group, "runIds": e.RunIDs, "data": shuffled(data)}
}

// eventAnswer gives the id as a number or as a string: both were seen.
func eventAnswer(id, value string) any {
	if rand.IntN(2) == 0 {
		return map[string]any{"eventId": json.RawMessage(id), "value": value}
	}
	return map[string]any{"eventId": id, "value": value}
}
