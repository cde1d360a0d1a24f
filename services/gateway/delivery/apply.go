package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Changes is what an Apply did, by pusher, each list sorted.
type Changes struct{ Started, Stopped, Changed, Unchanged []string }

// Apply makes the enabled pushers equal to the list, before Run or while it runs and rows come in.
//
//   - a new one begins at its cursor, or at its Start when it has none;
//   - one that is missing ends in good order and keeps its cursor, as every pusher that is not enabled: the rows from there
//     on stay in the journal until it comes back or is forgotten;
//   - one whose settings changed (any but Destination) ends in good order and begins again where it was. No row that it had
//     settled is sent again, and no acknowledgement of its old stream is open when the new one starts;
//   - the others are not touched.
//
// A pusher that ends takes the acknowledgements of all that is in flight; one that gets none for its TIMEOUT is wedged, as
// ever. When ctx ends earlier, that is cut to a few seconds and nothing is killed; what Apply has begun it completes all the
// same. Several calls wait for one another. An error of the list itself changes nothing. Any other names a pusher that could not be started: it is not
// enabled then, and another Apply tries it again. Errors: ErrEnded.
func (d *Delivery) Apply(ctx context.Context, pushers []Pusher) (Changes, error) {
	wanted, err := d.prepare(pushers)
	if err != nil {
		return Changes{}, fmt.Errorf("apply pushers: %w", err)
	}
	select {
	case d.change <- struct{}{}:
		defer func() { <-d.change }()
	case <-ctx.Done():
		return Changes{}, fmt.Errorf("apply pushers: %w", ctx.Err())
	}
	if d.ended {
		return Changes{}, fmt.Errorf("apply pushers: %w", ErrEnded)
	}
	a := application{d: d}
	for _, c := range d.chains() {
		next := wanted[c.Name]
		delete(wanted, c.Name)
		switch {
		case next == nil:
			a.goes(ctx, c)
		case sameSettings(&c.given, &next.given):
			a.Unchanged = append(a.Unchanged, c.Name)
		default:
			a.changes(ctx, c, next)
		}
	}
	for _, c := range wanted {
		a.comes(ctx, c)
	}
	a.wait()
	d.flushNow(ctx)
	return a.Changes, errors.Join(a.failed...)
}

// prepare makes a chain of each pusher, which changes nothing yet.
func (d *Delivery) prepare(pushers []Pusher) (map[string]*chain, error) {
	wanted := make(map[string]*chain, len(pushers))
	for _, p := range pushers {
		c, err := newChain(d, p)
		if err != nil {
			return nil, err
		}
		if wanted[p.Name] != nil {
			return nil, fmt.Errorf("two pushers are called %s", p.Name)
		}
		wanted[p.Name] = c
	}
	return wanted, nil
}

// sameSettings tells whether a pusher may go on as it is.
func sameSettings(a, b *Pusher) bool {
	if !slices.Equal(a.Orgs, b.Orgs) || !slices.Equal(a.Select, b.Select) || !maps.Equal(a.Rename, b.Rename) {
		return false
	}
	x, y := *a, *b
	x.Orgs, y.Orgs, x.Destination, y.Destination = nil, nil, nil, nil
	x.Select, y.Select, x.Rename, y.Rename = nil, nil, nil, nil
	return reflect.DeepEqual(x, y)
}

// application is one Apply at work: each pusher ends and begins on its own, so that none waits for a slower one.
type application struct {
	d  *Delivery
	wg sync.WaitGroup

	mu sync.Mutex
	Changes
	failed []error
}

func (a *application) goes(ctx context.Context, c *chain) {
	a.wg.Go(func() {
		c.finish(ctx)
		a.d.dismiss(c)
		close(c.gone)
		c.log.Info(fmt.Sprintf("the pusher is not enabled any more; its rows are kept from position %d on, until it is enabled again or forgotten", c.settled.cursor))
		a.add(&a.Stopped, c.Name)
	})
}

func (a *application) changes(ctx context.Context, c, next *chain) {
	a.wg.Go(func() {
		c.finish(ctx)
		defer close(c.gone)
		if err := a.begin(ctx, next, c); err != nil {
			a.fail(c.Name, err)
			return
		}
		next.log.Info("the pusher goes on with new settings")
		a.add(&a.Changed, c.Name)
	})
}

func (a *application) comes(ctx context.Context, c *chain) {
	a.wg.Go(func() {
		if err := a.begin(ctx, c, nil); err != nil {
			a.fail(c.Name, err)
			return
		}
		c.log.Info("the pusher is enabled")
		a.add(&a.Started, c.Name)
	})
}

// begin enables a chain and sets it going, when Run runs.
func (a *application) begin(ctx context.Context, c, former *chain) error {
	// What was begun is completed: a change that stopped half-way would leave the pusher without a chain.
	if err := a.d.enter(context.WithoutCancel(ctx), c, former); err != nil {
		return err
	}
	if a.d.launch != nil {
		a.d.launch(c)
	}
	return nil
}

func (a *application) add(list *[]string, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*list = append(*list, name)
}

func (a *application) fail(name string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed = append(a.failed, fmt.Errorf("pusher %s is not started: %w", name, err))
}

func (a *application) wait() {
	a.wg.Wait()
	for _, list := range []*[]string{&a.Started, &a.Stopped, &a.Changed, &a.Unchanged} {
		slices.Sort(*list)
	}
	slices.SortFunc(a.failed, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
}

// finish ends a chain in good order and returns when it has ended.
func (c *chain) finish(ctx context.Context) {
	if c.ended == nil { // Run has not begun
		return
	}
	close(c.leave)
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.cancel()
		<-c.ended
	}
}
