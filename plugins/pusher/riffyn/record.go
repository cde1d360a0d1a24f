package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// record is a row on its way into a run.
type record struct {
	row   sdk.Row
	key   string // value of the primary key
	cells []cell // of the other properties, in the order of the activity

	write    *write // that its key belongs to; nil: it is new
	event    string // id of its event in Riffyn; empty: there is none yet that we know of
	rejected bool
	result   result
}

// cell is the value of one property.
type cell struct {
	property int // place in the activity
	value    string
}

// result is what becomes of a row: the zero value means delivered.
type result struct {
	err       error
	skip      string
	duplicate bool
}

func (r *record) reject(err error) { r.rejected, r.result = true, result{err: err} }

// read takes the values out of the row. All of it is checked before anything is written. A member is matched by its name,
// wherever it stands: the former gateway took the first one for the primary key, and where the first one bears another name,
// the value would land in a wrong column. null is no value; "" is one, as the client sent it.
func (r *record) read(act *activity, unknown Unknown) error {
	values := make([]*string, len(act.properties))
	for name, v := range r.row.Fields() {
		i, known := act.named[name]
		switch {
		case v.IsNull():
			if known && i != ambiguous {
				values[i] = nil // of a repeated member the last counts
			}
		case i == ambiguous:
			return sdk.Permanent("ambiguous_member", fmt.Errorf("several properties answer to the member %.60q", name))
		case known:
			text := text(v)
			values[i] = &text
		case unknown == "reject":
			return sdk.Permanent("unknown_member", fmt.Errorf("no property answers to the member %.60q", name))
		}
	}
	if values[0] == nil {
		return sdk.Permanent("no_key", fmt.Errorf("the row has no member %q, the primary key %q", act.properties[0].member, act.properties[0].name))
	}
	r.key, r.cells = *values[0], r.cells[:0]
	for i, v := range values[1:] {
		if v != nil {
			r.cells = append(r.cells, cell{property: i + 1, value: *v})
		}
	}
	return nil
}

// text is a value as Riffyn takes it: numbers as they were sent, an instant in ISO 8601 with milliseconds and Z.
func text(v sdk.Value) string {
	s := v.String()
	if v.IsString() {
		if at, ok := instant(s); ok {
			return at
		}
	}
	return s
}

// instant reads a date with time and zone (RFC 3339).
func instant(s string) (iso string, ok bool) {
	if len(s) < len("2006-01-02T15:04:05Z") || s[4] != '-' || !strings.ContainsAny(s[10:11], "Tt") {
		return "", false
	}
	at, err := time.Parse(time.RFC3339, strings.ToUpper(s))
	if err != nil {
		return "", false
	}
	return at.UTC().Format("2006-01-02T15:04:05.000Z"), true
}
