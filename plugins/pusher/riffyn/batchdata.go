package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/rivergate/rivergate/sdk"
)

// entry is one of the batchData of add-batch-run-data: values of one property in one run. With append the values are
// texts, and each makes an event. With an event group they are event values. Never both, and never neither: without append
// the API overwrites what the run has.
type entry struct {
	ResourceDefID  string   `json:"resourceDefId"`
	PropertyTypeID string   `json:"propertyTypeId"`
	EventGroupID   string   `json:"eventGroupId,omitempty"`
	RunIDs         []string `json:"runIds"`
	Values         any      `json:"values"`
	Append         bool     `json:"append,omitempty"`
}

type eventValue struct {
	EventID string `json:"eventId"`
	Value   string `json:"value"`
}

// written is what the API says of an entry.
type written struct {
	ResourceDefID  id     `json:"resourceDefId"`
	PropertyTypeID id     `json:"propertyTypeId"`
	EventGroupID   id     `json:"eventGroupId"`
	RunIDs         []id   `json:"runIds"`
	Data           []seen `json:"data"`
}

// seen is an event's value as the API has it.
type seen struct {
	EventID id      `json:"eventId"`
	Value   anyText `json:"value"`
}

// addBatchRunData sends entries; answer is what the API's is read into, nil: it does not matter.
func (a *api) addBatchRunData(ctx context.Context, at place, entries []entry, answer any) *failure {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string][]entry{"batchData": entries}); err != nil {
		return &failure{verdict: refused, err: sdk.Permanent("request", err)}
	}
	return a.call(ctx, http.MethodPost, "/experiment/"+url.PathEscape(at.experiment)+"/activity/"+url.PathEscape(at.activity)+"/add-batch-run-data", body.Bytes(), answer)
}

// appendKeys is the first phase: it makes an event for each key and returns its group and the events' ids in the order of
// the keys.
func (a *api) appendKeys(ctx context.Context, t target, act *activity, keys []string) (group string, events []string, f *failure) {
	key := act.properties[0].id
	var answer []written
	f = a.addBatchRunData(ctx, t.place, []entry{{ResourceDefID: act.resource, PropertyTypeID: key, RunIDs: []string{t.run}, Values: keys, Append: true}}, &answer)
	if f != nil {
		return "", nil, f
	}
	for _, w := range answer { // by ids, not by place
		if string(w.ResourceDefID) != act.resource || string(w.PropertyTypeID) != key || !slices.Contains(w.RunIDs, id(t.run)) {
			continue
		}
		if events, ok := assign(keys, w.Data); ok && w.EventGroupID != "" {
			return string(w.EventGroupID), events, nil
		}
	}
	// The events are there, and asking again would make more of them.
	return "", nil, &failure{verdict: gone, doubtful: true,
		err: sdk.Permanent("bad_answer", fmt.Errorf("Riffyn at %s took %d keys, and its answer does not name as many events with their values", a.base, len(keys)))}
}

// fillValues is the second phase: it gives events of a group their other values.
func (a *api) fillValues(ctx context.Context, t target, resource, group string, columns []column) *failure {
	entries := make([]entry, len(columns))
	for i, c := range columns {
		values := make([]eventValue, len(c.cells))
		for j, cell := range c.cells {
			values[j] = eventValue{EventID: cell.of.event, Value: cell.value}
		}
		entries[i] = entry{ResourceDefID: resource, PropertyTypeID: c.property.id, EventGroupID: group, RunIDs: []string{t.run}, Values: values}
	}
	return a.addBatchRunData(ctx, t.place, entries, nil)
}

// assign gives each key the id of an event that has its value; false when they are not the same values. Events come in any
// order, and those with the same value are as good as each other.
func assign(keys []string, events []seen) (ids []string, ok bool) {
	if len(keys) != len(events) {
		return nil, false
	}
	type item struct {
		norm, text string
		at         int
	}
	sorted := func(n int, text func(int) string) []item {
		items := make([]item, n)
		for i := range items {
			items[i] = item{normal(text(i)), text(i), i}
		}
		slices.SortStableFunc(items, func(a, b item) int { return cmp.Or(cmp.Compare(a.norm, b.norm), cmp.Compare(a.text, b.text)) })
		return items
	}
	theirs := sorted(len(events), func(i int) string { return string(events[i].Value) })
	ids = make([]string, len(keys))
	for i, mine := range sorted(len(keys), func(i int) string { return keys[i] }) {
		event := events[theirs[i].at]
		if mine.norm != theirs[i].norm || event.EventID == "" {
			return nil, false
		}
		ids[mine.at] = string(event.EventID)
	}
	return ids, true
}

// normal makes texts equal that are the same number or instant, however the API writes them.
func normal(value string) string {
	if f, err := strconv.ParseFloat(value, 64); err == nil {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	if at, ok := instant(value); ok {
		return at
	}
	return value
}

// errUnreadable: raw data of a form that we do not know must not be taken for "nothing there".
var errUnreadable = errors.New("its raw data name no events in a form that is known here")

// findKeys looks for the event group that an append without an answer may have made: one that is not known as another's and
// holds exactly these keys. Of several the one that comes last.
func (a *api) findKeys(ctx context.Context, t target, w *write, others map[string]bool) (group string, events []string, f *failure) {
	var raw any
	path := "/experiment/" + url.PathEscape(t.experiment) + "/step/" + url.PathEscape(t.activity) + "/data/raw?rid=" + url.QueryEscape(t.run)
	var body json.RawMessage
	if f := a.call(ctx, http.MethodGet, path, nil, &body); f != nil {
		f.err = fmt.Errorf("read the run back: %w", f.err)
		return "", nil, f
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // ids
	found := &rawData{run: t.run, resource: w.resource, property: w.property, groups: map[string][]seen{}}
	err := decoder.Decode(&raw)
	if err == nil {
		found.walk(raw, rawIDs{})
		if found.unclear() {
			err = errUnreadable
		}
	}
	if err != nil {
		return "", nil, &failure{verdict: failed, err: sdk.RetryIn(0, "bad_answer", fmt.Errorf("read run %s back from %s: %w", t.run, a.base, err))}
	}
	for _, g := range slices.Backward(found.order) {
		if others[g] {
			continue
		}
		if events, ok := assign(w.keys, found.groups[g]); ok {
			return g, events, nil
		}
	}
	return "", nil, nil
}

// rawData gathers the events of one property in one run out of raw data. How deep they are nested is not ours to know:
// what an object says of its ids holds for all that is inside it.
type rawData struct {
	run, resource, property string
	groups                  map[string][]seen
	order                   []string // of groups, as they came

	items, events int  // of lists; that were recognised
	nameless      bool // an event without the ids that say what it is of
}

type rawIDs struct {
	group, property, resource string
	runs                      []string
}

func (d *rawData) unclear() bool { return d.nameless || d.items > 0 && d.events == 0 }

func (d *rawData) walk(node any, in rawIDs) {
	switch n := node.(type) {
	case []any:
		d.items += len(n)
		for _, item := range n {
			d.walk(item, in)
		}
	case map[string]any:
		for name, into := range map[string]*string{"eventGroupId": &in.group, "propertyTypeId": &in.property, "resourceDefId": &in.resource} {
			if v, ok := n[name]; ok {
				*into = scalarText(v)
			}
		}
		if v, ok := n["runId"]; ok {
			in.runs = []string{scalarText(v)}
		}
		if list, ok := n["runIds"].([]any); ok {
			in.runs = nil
			for _, v := range list {
				in.runs = append(in.runs, scalarText(v))
			}
		}
		if event, ok := n["eventId"]; ok {
			d.event(scalarText(event), n["value"], in)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(n)) {
			if name != "runIds" {
				d.walk(n[name], in)
			}
		}
	}
}

func (d *rawData) event(event string, value any, in rawIDs) {
	d.events++
	switch {
	case event == "" || in.group == "" || in.property == "":
		d.nameless = true
	case in.property != d.property, in.resource != "" && in.resource != d.resource, len(in.runs) > 0 && !slices.Contains(in.runs, d.run):
	default:
		if d.groups[in.group] == nil {
			d.order = append(d.order, in.group)
		}
		d.groups[in.group] = append(d.groups[in.group], seen{EventID: id(event), Value: anyText(scalarText(value))})
	}
}

func scalarText(v any) string {
	switch s := v.(type) {
	case string:
		return s
	case json.Number:
		return s.String()
	case bool:
		return strconv.FormatBool(s)
	}
	return ""
}
