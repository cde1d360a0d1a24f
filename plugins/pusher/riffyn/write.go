package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// hopeless is how many rows are refused one by one, and none taken, before the rest is refused unasked.
const hopeless = 32

// write brings the rows of a run to it, in two phases, and notes what became of each. It returns the failure after which
// the rows that are left have to come again.
func (d *delivery) write(ctx context.Context, r *run) error {
	// What was begun earlier stands before the rest in Riffyn.
	begun := map[*write][]*record{}
	var order []*write
	var fresh []*record
	for _, rec := range r.records {
		if rec.write == nil {
			fresh = append(fresh, rec)
			continue
		}
		if begun[rec.write] == nil {
			order = append(order, rec.write)
		}
		begun[rec.write] = append(begun[rec.write], rec)
	}
	for _, w := range order {
		if w.group == "" {
			found, err := d.confirm(ctx, w, begun[w])
			if err != nil {
				return err
			}
			if !found {
				continue
			}
		}
		if err := d.fill(ctx, r, w.group, begun[w]); err != nil {
			return err
		}
	}
	// Some of them may turn out never to have been appended: they are as good as new, and keep their place.
	if len(order) > 0 {
		fresh = fresh[:0]
		for _, rec := range r.records {
			if rec.event == "" && !rec.rejected {
				fresh = append(fresh, rec)
			}
		}
	}
	return d.writeFresh(ctx, r, fresh)
}

// confirm finds out whether an append without an answer took place, by reading the run. The server gets SETTLE to finish
// with it first.
func (d *delivery) confirm(ctx context.Context, w *write, records []*record) (found bool, err error) {
	if wait := d.Settle - d.now().Sub(w.sentAt); wait > 0 {
		return false, sdk.RetryIn(wait, "unconfirmed", fmt.Errorf("the keys were sent %s ago and no answer came; the run is read once %s have passed (SETTLE)",
			max(d.now().Sub(w.sentAt), 0).Round(time.Millisecond), d.Settle))
	}
	if err := d.stopped(); err != nil {
		return false, err
	}
	if err := d.checkpoint.load(ctx, w); err != nil {
		return false, d.lost(err)
	}
	others, err := d.checkpoint.groups(ctx, w.to.run)
	if err != nil {
		return false, d.lost(err)
	}
	group, events, f := d.api.findKeys(ctx, w.to, w, others)
	d.heard(f)
	if f != nil && f.verdict == gone {
		for _, rec := range records {
			rec.reject(f.err)
		}
		return false, nil
	}
	if f != nil {
		return false, f.err
	}
	if group == "" {
		d.log.Debug("an append without an answer did not take place", "run", w.to.run, "rows", len(w.keys))
		if err := d.checkpoint.forget(context.WithoutCancel(ctx), w); err != nil {
			return false, d.lost(err)
		}
		return false, nil
	}
	d.log.Debug("an append without an answer took place", "run", w.to.run, "rows", len(w.keys), "event_group", group)
	if err := d.checkpoint.appended(context.WithoutCancel(ctx), w, group, events); err != nil {
		return false, d.lost(err)
	}
	w.group = group
	known, err := d.checkpoint.find(ctx, records, d.now())
	if err != nil {
		return false, d.lost(err)
	}
	for _, rec := range records {
		rec.event = known[rec.row.Position()].event
	}
	return true, nil
}

// writeFresh appends keys, in pieces where Riffyn refuses them as a whole, and fills in the other values of each piece
// before the next one.
func (d *delivery) writeFresh(ctx context.Context, r *run, records []*record) error {
	pieces := [][]*record{records}
	refusedRows, taken := 0, false
	for len(pieces) > 0 {
		piece := pieces[len(pieces)-1]
		pieces = pieces[:len(pieces)-1]
		if len(piece) == 0 {
			continue
		}
		group, f, err := d.appendKeys(ctx, r, piece)
		switch {
		case err != nil:
			return err
		case f == nil:
			taken = true
			if err := d.fill(ctx, r, group, piece); err != nil {
				return err
			}
		case f.verdict == failed, f.verdict == unreachable:
			return f.err
		case f.verdict == gone, len(piece) == 1, f.verdict == refused && refusedRows >= hopeless && !taken:
			r.refused = true
			refusedRows += len(piece)
			for _, rec := range piece {
				rec.reject(f.err)
			}
		default:
			half := len(piece) / 2
			pieces = append(pieces, piece[half:], piece[:half])
		}
	}
	return nil
}

// appendKeys is the first phase. What is about to happen is noted before, what happened after it, each durably: whenever the
// process is killed, the next one knows that it has to look.
func (d *delivery) appendKeys(ctx context.Context, r *run, records []*record) (group string, f *failure, err error) {
	if err := d.stopped(); err != nil {
		return "", nil, err
	}
	w, err := d.checkpoint.begin(ctx, r.to, r.act, records, d.now())
	if err != nil {
		return "", nil, d.lost(err)
	}
	keys := make([]string, len(records))
	for i, rec := range records {
		keys[i] = rec.key
	}
	group, events, f := d.api.appendKeys(ctx, r.to, r.act, keys)
	d.heard(f)
	if f != nil {
		if !f.doubtful {
			if err := d.checkpoint.forget(context.WithoutCancel(ctx), w); err != nil {
				return "", nil, d.lost(err)
			}
			return "", f, nil
		}
		var typed *sdk.Error
		if errors.As(f.err, &typed) && typed.Class == sdk.Retry {
			typed.RetryAfter = max(typed.RetryAfter, d.Settle)
		}
		return "", f, nil
	}
	if err := d.checkpoint.appended(context.WithoutCancel(ctx), w, group, events); err != nil {
		return "", nil, d.lost(err)
	}
	for i, rec := range records {
		rec.event = events[i]
	}
	return group, nil, nil
}

// column is values of one property.
type column struct {
	property property
	cells    []columnCell
}

type columnCell struct {
	of    *record
	value string
}

// fill is the second phase: the other values of rows whose events are there. It may be repeated at will. A call that is
// refused is cut by properties first, so that the values of one property stay together where they can, then by rows.
func (d *delivery) fill(ctx context.Context, r *run, group string, records []*record) error {
	pieces := [][]column{columns(r.act, records)}
	refusedCells, taken := 0, false
	for len(pieces) > 0 {
		piece := pieces[len(pieces)-1]
		pieces = pieces[:len(pieces)-1]
		if len(piece) == 0 {
			continue
		}
		if err := d.stopped(); err != nil {
			return err
		}
		f := d.api.fillValues(ctx, r.to, r.act.resource, group, piece)
		d.heard(f)
		switch {
		case f == nil:
			taken = true
		case f.verdict == failed, f.verdict == unreachable:
			return f.err
		case f.verdict == gone, len(piece) == 1 && len(piece[0].cells) == 1, f.verdict == refused && refusedCells >= hopeless && !taken:
			r.refused = true
			for _, c := range piece {
				refusedCells += len(c.cells)
				for _, cell := range c.cells {
					cell.of.reject(fmt.Errorf("the event is in the run, its value of %q is not: %w", c.property.name, f.err))
				}
			}
		case len(piece) > 1:
			half := len(piece) / 2
			pieces = append(pieces, piece[half:], piece[:half])
		default:
			half := len(piece[0].cells) / 2
			pieces = append(pieces, []column{{piece[0].property, piece[0].cells[half:]}}, []column{{piece[0].property, piece[0].cells[:half]}})
		}
	}
	var whole []*record
	for _, rec := range records {
		if !rec.rejected {
			whole = append(whole, rec)
		}
	}
	if err := d.checkpoint.finish(context.WithoutCancel(ctx), whole); err != nil {
		return d.lost(err)
	}
	for _, rec := range whole {
		rec.result = result{}
	}
	return nil
}

// columns are the values of rows by property, in the order of the activity, without properties that have none.
func columns(act *activity, records []*record) []column {
	all := make([]column, len(act.properties))
	for _, rec := range records {
		for _, c := range rec.cells {
			all[c.property].property = act.properties[c.property]
			all[c.property].cells = append(all[c.property].cells, columnCell{rec, c.value})
		}
	}
	filled := all[:0]
	for _, c := range all {
		if len(c.cells) > 0 {
			filled = append(filled, c)
		}
	}
	return filled
}

// lost is a failure of the checkpoint: nothing more is written, since nobody would know.
func (d *delivery) lost(err error) error {
	err = checkpointError(err)
	d.stop(err)
	return err
}
