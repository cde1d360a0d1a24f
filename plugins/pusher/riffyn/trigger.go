package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/rivergate/rivergate/sdk"
)

// place is an activity of an experiment.
type place struct{ experiment, activity string }

// target is the run that a row goes to.
type target struct {
	place
	run string
}

// route says where the rows of one trigger go.
type route struct {
	skip  string // why they are not for Riffyn; empty: they are
	err   error  // why they can go nowhere
	wells int    // of the plate, 0 without one
	one   *target
	each  []*target // one per well, nil where the well has no run
	list  bool      // each is meant
}

// sourceRiffyn is the metadata.source of triggers that Riffyn made.
const sourceRiffyn = "riffyn"

// maxWells is far beyond any plate (1536 wells are the largest in use) and keeps rows × columns from overflowing.
const maxWells = 1 << 20

// newRoute reads a trigger of the control tower: {uuid, plate?: {rows, columns}, metadata?: {source, spec}}, where the spec
// of Riffyn is {experimentId, activityId, runId} or a list of them, one per well.
func newRoute(raw []byte) route {
	if len(raw) == 0 {
		return route{err: sdk.RetryIn(0, "no_trigger", errors.New("the host handed no trigger along; set RIVERGATE_CONTROL_TOWER_URL"))}
	}
	var trigger struct {
		Plate *struct {
			Rows    int `json:"rows"`
			Columns int `json:"columns"`
		} `json:"plate"`
		Metadata *struct {
			Source string          `json:"source"`
			Spec   json.RawMessage `json:"spec"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &trigger); err != nil {
		return route{err: badTrigger("cannot be read: %v", err)}
	}
	switch {
	case trigger.Metadata == nil:
		return route{skip: "the trigger has no metadata"}
	case trigger.Metadata.Source != sourceRiffyn:
		return route{skip: fmt.Sprintf("the trigger comes from %.40q, not from riffyn", trigger.Metadata.Source)}
	}
	var way route
	if p := trigger.Plate; p != nil {
		if p.Rows < 1 || p.Columns < 1 || p.Rows > maxWells || p.Columns > maxWells/p.Rows {
			return route{err: badTrigger("has a plate of %d × %d wells", p.Rows, p.Columns)}
		}
		way.wells = p.Rows * p.Columns
	}
	spec := bytes.TrimSpace(trigger.Metadata.Spec)
	if way.list = len(spec) > 0 && spec[0] == '['; !way.list {
		way.one, way.err = newTarget(spec)
		if way.one == nil && way.err == nil {
			way.err = badTrigger("has no metadata.spec")
		}
		return way
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(spec, &entries); err != nil {
		return route{err: badTrigger("has a metadata.spec that cannot be read: %v", err)}
	}
	for i, entry := range entries {
		t, err := newTarget(entry)
		if err != nil {
			return route{err: fmt.Errorf("well %d: %w", i, err)}
		}
		way.each = append(way.each, t)
	}
	if way.wells == 0 {
		way.wells = len(way.each)
	}
	return way
}

// idForm keeps an id from being a path of its own. Riffyn's have 17 letters and digits; it may change that.
var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// newTarget reads one entry of the spec; null gives nil.
func newTarget(raw []byte) (*target, error) {
	var spec *struct {
		Experiment string `json:"experimentId"`
		Activity   string `json:"activityId"`
		Run        string `json:"runId"`
	}
	if len(raw) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, badTrigger("has a metadata.spec that cannot be read: %v", err)
	}
	if spec == nil {
		return nil, nil
	}
	for _, id := range []struct{ name, value string }{{"experimentId", spec.Experiment}, {"activityId", spec.Activity}, {"runId", spec.Run}} {
		if !idForm.MatchString(id.value) {
			return nil, badTrigger("has the %s %.40q, which is no id", id.name, id.value)
		}
	}
	return &target{place{spec.Experiment, spec.Activity}, spec.Run}, nil
}

// of finds the run of a row by its index. Exactly one of the three is given.
func (w *route) of(index int, indexed bool) (t *target, skip string, err error) {
	switch {
	case w.skip != "" || w.err != nil:
		return nil, w.skip, w.err
	case indexed && w.wells > 0 && (index < 0 || index >= w.wells):
		return nil, "", sdk.Permanent("no_well", fmt.Errorf("index %d is no well: the trigger has the wells 0 to %d", index, w.wells-1))
	case !w.list:
		return w.one, "", nil
	case !indexed && len(w.each) == 1 && w.wells == 1:
		index = 0 // there is nothing to choose from
	case !indexed:
		return nil, "", sdk.Permanent("no_index", fmt.Errorf("the row names no well (index), and the trigger has %d wells with a run of their own", w.wells))
	}
	if index >= len(w.each) {
		return nil, "", sdk.Permanent("no_well", fmt.Errorf("well %d has no entry in metadata.spec of the trigger, which lists %d", index, len(w.each)))
	}
	if w.each[index] == nil {
		return nil, fmt.Sprintf("well %d has no run", index), nil
	}
	return w.each[index], "", nil
}

func badTrigger(format string, args ...any) error {
	return sdk.Permanent("bad_trigger", fmt.Errorf("the trigger "+format, args...))
}
