package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

const codeNotSent = "not_sent"

var (
	errWaited = errors.New("REQUEST_TIMEOUT had passed since the batch began")
	errBehind = errors.New("an earlier row of the same run failed")
)

// delivery is one batch on its way.
type delivery struct {
	*Riffyn
	batch      *sdk.Batch
	checkpoint *checkpoint
	until      time.Time // no call starts after it, so that a slow server is not taken for a wedged plugin

	mu       sync.Mutex
	broken   error // set once: why nothing further is sent in this batch
	answered bool  // Riffyn answered something
}

// run is the rows of a batch that go into one run, in order.
type run struct {
	to      target
	records []*record
	act     *activity
	refused bool // something of it was
}

// Deliver finds the run of each row, checks every row before anything is written, and writes the runs, CONCURRENCY of them
// at once and each in order. What became of a row is said at the end, in the order of the batch.
func (r *Riffyn) Deliver(ctx context.Context, b *sdk.Batch) error {
	checkpoint, err := r.opened(ctx)
	if err != nil {
		err = checkpointError(err)
		r.setTrouble(err)
		return err
	}
	d := &delivery{Riffyn: r, batch: b, checkpoint: checkpoint, until: r.now().Add(r.RequestTimeout)}
	records := map[uint64]*record{} // by position
	runs, err := d.sort(ctx, records)
	if err == nil {
		d.check(ctx, runs)
		d.writeAll(ctx, runs)
		err = checkpoint.prune(ctx, r.CheckpointKeep, maxRows, r.now())
	}
	if err != nil {
		d.stop(checkpointError(err))
	}
	if d.broken != nil || d.answered {
		r.setTrouble(d.broken)
	}
	// Rows passes over the rows of a uuid behind one that comes again, when their order is to be kept: they come again with
	// it, and those that are in their runs already are known then.
	for row := range b.Rows() {
		switch result := records[row.Position()].result; {
		case result.err != nil:
			b.Fail(row, result.err)
		case result.skip != "":
			b.Skip(row, result.skip)
		case result.duplicate:
			b.Duplicate(row)
		}
	}
	return nil
}

// sort makes a record of each row and puts those that are still to be written into their runs.
func (d *delivery) sort(ctx context.Context, records map[uint64]*record) ([]*run, error) {
	var all []*record // with a target
	targets := map[uint64]target{}
	var way route
	var of *sdk.Frame
	for row := range d.batch.Rows() {
		if frame, _ := row.Frame(); frame != of {
			way, of = newRoute(row.Trigger()), frame
		}
		rec := &record{row: row}
		records[row.Position()] = rec
		index, indexed := row.Index()
		t, skip, err := way.of(index, indexed)
		if t == nil {
			rec.result = result{err: err, skip: skip}
			continue
		}
		rec.result.err = sdk.RetryIn(0, codeNotSent, errBehind) // until it is written
		targets[row.Position()] = *t
		all = append(all, rec)
	}
	if len(all) == 0 {
		return nil, nil
	}
	known, err := d.checkpoint.find(ctx, all, d.now())
	if err != nil {
		for _, rec := range all {
			rec.result = result{err: checkpointError(err)}
		}
		return nil, err
	}
	var runs []*run
	byTarget := map[target]*run{}
	for _, rec := range all {
		t := targets[rec.row.Position()]
		if k, ok := known[rec.row.Position()]; ok && k.write.to == t {
			if k.done {
				rec.result = result{duplicate: true}
				continue
			}
			rec.write, rec.event = k.write, k.event
		}
		if byTarget[t] == nil {
			byTarget[t] = &run{to: t}
			runs = append(runs, byTarget[t])
		}
		byTarget[t].records = append(byTarget[t].records, rec)
	}
	return runs, nil
}

// check reads the activities and all rows. Rows that do not fit are rejected, before anything of their run is written; an
// activity that may have changed meanwhile is asked for again first.
func (d *delivery) check(ctx context.Context, runs []*run) {
	failures := map[place]*failure{}
	for _, r := range runs {
		maxAge := d.ActivityTTL
		for {
			f := failures[r.to.place]
			if f == nil {
				r.act, f = d.activity(ctx, r.to.place, maxAge)
			}
			if f != nil {
				failures[r.to.place] = f
				for _, rec := range r.records {
					rec.result = result{err: f.err}
				}
				r.records = nil
				break
			}
			misfits := 0
			for _, rec := range r.records {
				rec.rejected = false
				if err := rec.read(r.act, d.UnknownMembers); err != nil {
					rec.reject(err)
					misfits++
				}
			}
			if misfits == 0 || d.now().Sub(r.act.fetched) <= minAge {
				break
			}
			maxAge = minAge
		}
		kept := r.records[:0]
		for _, rec := range r.records {
			if !rec.rejected {
				kept = append(kept, rec)
			}
		}
		r.records = kept
	}
}

func (d *delivery) activity(ctx context.Context, at place, maxAge time.Duration) (*activity, *failure) {
	if err := d.stopped(); err != nil {
		return nil, &failure{verdict: failed, err: err}
	}
	before := d.activities.calls
	act, f := d.activities.get(ctx, at, maxAge)
	if d.activities.calls != before {
		d.heard(f)
	}
	return act, f
}

func (d *delivery) writeAll(ctx context.Context, runs []*run) {
	work := make(chan *run)
	var workers sync.WaitGroup
	for range min(d.Concurrency, len(runs)) {
		workers.Go(func() {
			for r := range work {
				if failure := d.write(ctx, r); failure != nil {
					for _, rec := range r.records {
						if rec.result.err != nil && !rec.rejected {
							rec.result.err = failure
						}
					}
				}
			}
		})
	}
	for _, r := range runs {
		work <- r
	}
	close(work)
	workers.Wait()
	for _, r := range runs {
		if r.refused { // perhaps the activity was changed
			d.activities.drop(r.to.place)
		}
	}
}

// heard notes what a call says about the server as a whole.
func (d *delivery) heard(f *failure) {
	if f == nil || f.verdict != unreachable {
		d.mu.Lock()
		d.answered = true
		d.mu.Unlock()
		d.batch.Working()
		return
	}
	d.stop(f.err)
}

func (d *delivery) stop(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.broken = err
	}
}

// stopped returns why no call may start any more, as the outcome of rows that were not sent: they are throttled, which
// counts no attempt, and the host asks again with one batch.
func (d *delivery) stopped() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil && d.now().After(d.until) {
		return &sdk.Error{Class: sdk.Throttled, Code: codeNotSent, Err: errWaited}
	}
	var typed *sdk.Error
	if !errors.As(d.broken, &typed) || typed.Class != sdk.Retry {
		return d.broken
	}
	return &sdk.Error{Class: sdk.Throttled, Code: codeNotSent, RetryAfter: typed.RetryAfter, Err: fmt.Errorf("not sent, an earlier call failed: %w", typed.Err)}
}

// checkpointError is the outcome of rows that cannot be noted: they are not written, as nobody would know.
func checkpointError(err error) error {
	if errors.Is(err, errLocked) {
		return sdk.Throttle(time.Second, err)
	}
	return sdk.RetryIn(0, "checkpoint", fmt.Errorf("%w (CHECKPOINT_DIR)", err))
}
