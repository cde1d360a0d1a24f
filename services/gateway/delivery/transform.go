package delivery

import (
	"context"
	"fmt"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/transform"
)

// A pusher may have a transform. Its FILTER, and whether SELECT and RENAME can be done at all, is decided where rows are
// read, in goroutines that hold no lock: rows that are dropped are skipped, those that cannot be transformed go to the dead
// letters. The chain keeps the client's own bytes, so that dead letters have them and a replay transforms again; what goes
// to the plugin is made when a batch is sent.

// codeTransform is the code of dead letters that could not be transformed.
const codeTransform = "transform_failed"

// ruling is what the transform says of the positions [from, to).
type ruling struct {
	span
	failure string // empty: they are dropped
}

// incoming is a frame on its way from the reader to the lanes.
type incoming struct {
	protocol.Frame
	rulings []ruling // in order; the rows between them go on
}

// sift judges the rows of a frame. scratch is a buffer for that, and returned.
func sift(t *transform.Transform, f *protocol.Frame, scratch []byte) ([]ruling, []byte) {
	if t == nil {
		return nil, scratch
	}
	var all []ruling
	for i := range f.Len() {
		keeps, err := t.Keeps(f, i)
		if keeps && err == nil {
			if scratch, err = t.Check(scratch, f.Row(i)); err == nil {
				continue
			}
		}
		r := ruling{span: span{f.Position + uint64(i), f.Position + uint64(i) + 1}}
		if err != nil {
			r.failure = err.Error()
		}
		if n := len(all); n > 0 && all[n-1].to == r.from && all[n-1].failure == r.failure {
			all[n-1].to = r.to
			continue
		}
		all = append(all, r)
	}
	return all, scratch
}

// admit takes a piece into its lane, without the rows that the transform rules out.
func (c *chain) admit(p piece, rulings []ruling, now time.Time) {
	p.grows = c.shape.Growth()
	for _, r := range rulings {
		from, to := max(r.from, p.Position), min(r.to, p.end())
		if from >= to {
			continue
		}
		if from > p.Position {
			c.enqueue(p.slice(0, int(from-p.Position)))
		}
		out := p.slice(int(from-p.Position), int(to-p.Position))
		c.ruleOut(&out, r.failure, now)
		if to == p.end() {
			return
		}
		p = p.slice(int(to-p.Position), p.Len())
	}
	c.enqueue(p)
}

// ruleOut settles rows that do not go to the plugin.
func (c *chain) ruleOut(p *piece, failure string, now time.Time) {
	if failure == "" {
		c.skipped(p, 0, p.Len())
		c.changed()
		return
	}
	c.gaveUp = gaveUp{}
	c.bury(p, verdict{class: protocol.Rejected.String(), code: codeTransform, message: failure}, now)
	c.refuse(&batch{}, p)
}

// siftReplays judges dead letters that are to be replayed, by their place in items.
func (c *chain) siftReplays(ctx context.Context, items []replayItem) map[int]string {
	var out map[int]string
	var scratch []byte
	for i := range items {
		if ctx.Err() != nil {
			return nil
		}
		var rulings []ruling
		if rulings, scratch = sift(c.shape, &items[i].frame, scratch); len(rulings) > 0 {
			if out == nil {
				out = map[int]string{}
			}
			out[i] = rulings[0].failure
		}
	}
	return out
}

// shapeBatch makes the rows of a batch as they go out. Each was checked when it was read.
func (c *chain) shapeBatch(b *protocol.Batch) error {
	if !c.shape.Edits() {
		return nil
	}
	for i := range b.Frames {
		f := &b.Frames[i]
		data := make([]byte, 0, len(f.Data)+f.Len()*c.shape.Growth())
		ends := make([]uint32, f.Len())
		for row := range f.Len() {
			var err error
			if data, err = c.shape.Append(data, f.Row(row)); err != nil {
				return fmt.Errorf("transform the row at position %d: %w", f.Position+uint64(row), err)
			}
			ends[row] = uint32(len(data))
		}
		f.Data, f.Ends = data, ends
	}
	return nil
}

// newShape makes the transform of a pusher.
func newShape(p *Pusher) (*transform.Transform, error) {
	t, problems := transform.New(transform.Spec{Select: p.Select, Rename: p.Rename, Filter: p.Filter})
	if len(problems) > 0 {
		return nil, fmt.Errorf("pusher %s: %s: %s", p.Name, problems[0].Field, problems[0].Reason)
	}
	return t, nil
}
