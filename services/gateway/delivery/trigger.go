package delivery

import (
	"container/heap"
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/trigger"
)

// A plugin may ask for the trigger of each row's uuid. A piece gets it when it goes into a batch; one whose trigger is not
// known yet is held, with the later rows of its key, while goroutines beside the chain's own ask the control tower:
//
//	found         the key goes on
//	not found     asked again with the pusher's backoff; once that is final, the rows go to the dead letters
//	trouble       asked again with the pusher's backoff, for as long as it lasts: no row is given up
//
// Other keys go on meanwhile.

// Triggers is where the triggers of rows come from; *trigger.Tower is one.
type Triggers interface {
	// Cached waits for nothing.
	Cached(uuid string) (trigger []byte, ok bool)
	// Look makes one attempt. Errors: *trigger.NotFound; any other says nothing about the uuid.
	Look(ctx context.Context, uuid string) ([]byte, error)
}

// lookers is how many requests of one pusher are under way, at most.
const lookers = 8

// undecided is when a key is due whose trigger is being asked for.
var undecided = time.Unix(1<<40, 0)

// lookups is the uuids whose rows wait for their trigger.
type lookups struct {
	open    map[string]*lookup
	queue   []string      // to be asked for now
	more    chan struct{} // capacity 1: the queue is not empty
	found   chan finding
	trouble string // why the last attempt says nothing; empty: the tower is well
}

type lookup struct {
	asking bool // in the queue, or under way
	tries  int
	reason string // why the last attempt brought nothing
	// troubled: the last attempt says nothing about the uuid
	troubled bool
	keys     []place
}

// place is where the rows of a uuid wait: one for each org, and in a lane without order for each piece.
type place struct {
	lane *lane
	key  key
}

// finding is what an attempt brought.
type finding struct {
	uuid    string
	trigger []byte
	err     error
}

// equip gives a piece its trigger when this plugin wants it; false: the trigger is not known yet.
func (c *chain) equip(p *piece) bool {
	if !c.session.needsTrigger {
		p.Trigger = nil
		return true
	}
	if p.Trigger != nil {
		return true
	}
	found, ok := c.d.triggers.Cached(p.UUID)
	if !ok {
		return false
	}
	p.Trigger = found
	if o := c.look.open[p.UUID]; o != nil && !o.asking { // another pusher's attempt found it; other keys look when they are due
		delete(c.look.open, p.UUID)
	}
	return true
}

// await holds a piece until its trigger is there.
func (c *chain) await(l *lane, p piece) {
	k := l.keyOf(&p)
	l.hold(p, undecided)
	c.ask(l, l.held[k], p.UUID)
}

// ask wants the trigger of a held key. The caller sees to its place in the heap.
func (c *chain) ask(l *lane, h *heldKey, uuid string) {
	h.due, h.awaits = undecided, true
	o := c.look.open[uuid]
	if o == nil {
		o = &lookup{}
		if c.look.open == nil {
			c.look.open = make(map[string]*lookup)
		}
		c.look.open[uuid] = o
	}
	if at := (place{l, h.key}); !slices.Contains(o.keys, at) {
		o.keys = append(o.keys, at)
	}
	if o.asking {
		return
	}
	o.asking = true
	c.look.queue = append(c.look.queue, uuid)
	select {
	case c.look.more <- struct{}{}:
	default:
	}
}

// lookUp makes the attempts, until ctx ends.
func (c *chain) lookUp(ctx context.Context) {
	var asking errgroup.Group
	asking.SetLimit(lookers)
	defer func() { _ = asking.Wait() }() // no attempt returns an error
	for {
		select {
		case <-c.look.more:
		case <-ctx.Done():
			return
		}
		for uuid, ok := c.nextLookup(); ok && ctx.Err() == nil; uuid, ok = c.nextLookup() {
			asking.Go(func() error {
				f := finding{uuid: uuid}
				f.trigger, f.err = c.d.triggers.Look(ctx, uuid)
				select {
				case c.look.found <- f:
				case <-ctx.Done():
				}
				return nil
			})
		}
	}
}

func (c *chain) nextLookup() (uuid string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.look.queue) == 0 {
		c.look.queue = nil
		return "", false
	}
	uuid, c.look.queue = c.look.queue[0], c.look.queue[1:]
	return uuid, true
}

// looked takes what an attempt brought.
func (c *chain) looked(f finding, now time.Time) {
	o := c.look.open[f.uuid]
	if o == nil { // the plugin that wanted it has been replaced by one that does not
		return
	}
	o.asking = false
	var missing *trigger.NotFound
	switch {
	case f.err == nil:
		delete(c.look.open, f.uuid)
		c.supply(o, f.trigger, now)
		c.towerWell(now)
	case errors.As(f.err, &missing) && missing.Final:
		delete(c.look.open, f.uuid)
		c.giveUpLookup(o, missing, now)
		c.towerWell(now)
	case missing != nil:
		o.tries++
		due := now.Add(c.backoff(o.tries))
		if missing.Until.Before(due) {
			due = missing.Until
		}
		c.postpone(o, f, due, now)
		c.towerWell(now)
	default:
		o.tries++
		due := now.Add(c.backoff(o.tries))
		var trouble *trigger.Trouble
		if errors.As(f.err, &trouble) && trouble.After > 0 {
			due = now.Add(c.pause(trouble.After))
		}
		o.troubled, c.look.trouble = true, f.err.Error()
		c.postpone(o, f, due, now)
	}
}

// postpone has a uuid asked for again when it is due.
func (c *chain) postpone(o *lookup, f finding, due, now time.Time) {
	o.reason = f.err.Error()
	c.lastErr = o.reason
	c.remind(o, due)
	if unsaid, ok := c.noise.allow(now); ok {
		c.log.Warn("rows wait for their trigger", "uuid", f.uuid, "reason", o.reason, "attempts", o.tries, "until", due.UTC().Format(time.RFC3339), "unsaid", unsaid)
	}
}

// remind makes the keys that wait for a trigger due; they are looked at again then.
func (c *chain) remind(o *lookup, due time.Time) {
	for h, l := range o.held() {
		h.due = due
		heap.Fix(&l.due, h.index)
	}
}

// towerWell has everything asked for again at once that waits since the tower was in trouble.
func (c *chain) towerWell(now time.Time) {
	if c.look.trouble == "" {
		return
	}
	c.look.trouble = ""
	c.log.Info("the control tower answers again")
	for _, o := range c.look.open {
		if o.troubled && !o.asking {
			c.remind(o, now)
		}
		o.troubled = false
	}
}

// supply hands a trigger to the rows that wait for it.
func (c *chain) supply(o *lookup, trigger []byte, now time.Time) {
	for h, l := range o.held() {
		for i := range h.pieces {
			if h.pieces[i].Trigger == nil {
				h.pieces[i].Trigger = trigger
			}
		}
		h.awaits, h.due = false, now
		heap.Fix(&l.due, h.index)
	}
}

// giveUpLookup sends rows to the dead letters that there is no trigger for.
func (c *chain) giveUpLookup(o *lookup, missing *trigger.NotFound, now time.Time) {
	for h, l := range o.held() {
		kept := h.pieces[:0:0]
		for _, p := range h.pieces {
			if p.Trigger != nil { // it failed at the destination, and goes again
				kept = append(kept, p)
				continue
			}
			c.gaveUp = gaveUp{}
			c.bury(&p, verdict{class: protocol.Rejected.String(), code: missing.Code, message: missing.Reason}, now)
			c.refuse(&batch{lane: l}, &p)
		}
		if len(kept) == 0 {
			l.drop(h)
			continue
		}
		h.pieces, h.awaits, h.due = kept, false, now
		heap.Fix(&l.due, h.index)
	}
}

// untriggered lets everything go on that waits for a trigger: the plugin that runs now wants none.
func (c *chain) untriggered(now time.Time) {
	for _, o := range c.look.open {
		c.remind(o, now)
	}
	c.look.open, c.look.queue, c.look.trouble = nil, nil, ""
}

// held yields the keys that still wait for this uuid.
func (o *lookup) held() iter.Seq2[*heldKey, *lane] {
	return func(yield func(*heldKey, *lane) bool) {
		for _, at := range o.keys {
			if h := at.lane.held[at.key]; h != nil && h.awaits && !yield(h, at.lane) {
				return
			}
		}
	}
}

// waitReason is why rows of a uuid wait for their trigger; empty: they do not, or nothing came of it yet.
func (c *chain) waitReason(uuid string) string {
	if o := c.look.open[uuid]; o != nil {
		return o.reason
	}
	return ""
}
