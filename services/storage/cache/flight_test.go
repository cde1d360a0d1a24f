package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// gate is a load that waits until it is let go.
type gate struct {
	begun, let chan struct{}
	n          atomic.Int32
}

func newGate() *gate { return &gate{begun: make(chan struct{}, 100), let: make(chan struct{})} }

func (g *gate) load(value string) Load {
	return func(ctx context.Context) (json.RawMessage, error) {
		g.n.Add(1)
		g.begun <- struct{}{}
		select {
		case <-g.let:
			return json.RawMessage(value), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// asked is the answer to one GetOrLoad that runs beside the test.
type asked struct {
	value string
	err   error
}

func (r *rig) ask(ctx context.Context, key string, keep Keep, load Load) chan asked {
	answer := make(chan asked, 1)
	go func() {
		value, err := r.GetOrLoad(ctx, 1, key, keep, load)
		answer <- asked{string(value), err}
	}()
	return answer
}

func TestOneLoadOfAKeyIsUnderWay(t *testing.T) {
	each(t, Options{}, func(t *testing.T, r *rig) {
		var now, most, n atomic.Int32
		load := func(context.Context) (json.RawMessage, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			return json.RawMessage(fmt.Sprint(n.Add(1))), nil
		}
		var callers sync.WaitGroup
		values := make(chan string, 100)
		for range cap(values) {
			callers.Go(func() {
				value, err := r.GetOrLoad(context.Background(), 1, "k", Keep{}, load)
				if err != nil {
					value = json.RawMessage(err.Error())
				}
				values <- string(value)
			})
		}
		callers.Wait()
		for range cap(values) {
			require.Equal(t, "1", <-values)
		}
		require.EqualValues(t, 1, n.Load(), "what one loaded is there for all others")
		require.EqualValues(t, 1, most.Load())
		require.Equal(t, "1", r.value(1, "k"))
		require.Empty(t, r.value(2, "k"))
	})
}

func TestALoadThatFailsIsToldToAllAndNotKept(t *testing.T) {
	each(t, Options{}, func(t *testing.T, r *rig) {
		for _, load := range []Load{
			func(context.Context) (json.RawMessage, error) { return nil, errLoad },
			func(context.Context) (json.RawMessage, error) { panic(errLoad) },
			func(context.Context) (json.RawMessage, error) { return json.RawMessage(`{`), nil },
			func(context.Context) (json.RawMessage, error) { return nil, nil },
		} {
			answer := <-r.ask(context.Background(), "k", Keep{}, load)
			require.Error(t, answer.err)
			require.Empty(t, answer.value)
			require.Empty(t, r.value(1, "k"))
		}
		_, err := r.GetOrLoad(context.Background(), 1, "k", Keep{}, func(context.Context) (json.RawMessage, error) { return nil, errLoad })
		require.ErrorIs(t, err, errLoad)
		_, err = r.GetOrLoad(context.Background(), 1, "", Keep{}, nil)
		require.ErrorContains(t, err, "key")
	})
}

func TestALoadGoesOnUntilNobodyWaits(t *testing.T) {
	r := open(t, Options{OrgBytes: 1 << 20, TotalBytes: 1 << 21})
	first, second := newGate(), newGate()
	leaving, leave := context.WithCancel(context.Background())
	one, two := r.ask(leaving, "k", Keep{}, first.load(`1`)), chan asked(nil)
	<-first.begun
	two = r.ask(context.Background(), "k", Keep{}, second.load(`2`))
	r.waiting(2)
	leave()
	require.ErrorIs(t, (<-one).err, context.Canceled)
	close(first.let)
	require.Equal(t, asked{`1`, nil}, <-two, "the other one still waits, for the first one's load")
	require.Zero(t, second.n.Load())

	third := newGate()
	leaving, leave = context.WithCancel(context.Background())
	ended := make(chan struct{})
	alone := r.ask(leaving, "other", Keep{}, func(ctx context.Context) (json.RawMessage, error) {
		defer close(ended)
		return third.load(`3`)(ctx)
	})
	<-third.begun
	leave()
	require.ErrorIs(t, (<-alone).err, context.Canceled)
	<-ended // nobody waits any more
}

// waiting waits until so many wait for the load of "k".
func (r *rig) waiting(n int) {
	for {
		r.flights.mu.Lock()
		f := r.flights.all[flightKey{1, "k"}]
		there := f != nil && f.waiting == n
		r.flights.mu.Unlock()
		if there {
			return
		}
	}
}

func TestWhatIsThrownOutWhileItIsLoadedIsNotKept(t *testing.T) {
	for name, throw := range map[string]func(r *rig){
		"deleted":     func(r *rig) { r.deleted(1, "k") },
		"invalidated": func(r *rig) { r.invalidated(1, "t") },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, Options{}, func(t *testing.T, r *rig) {
				old, fresh := newGate(), newGate()
				before := r.ask(context.Background(), "k", Keep{Tags: []string{"t"}}, old.load(`"old"`))
				<-old.begun
				throw(r)
				after := r.ask(context.Background(), "k", Keep{Tags: []string{"t"}}, fresh.load(`"fresh"`))
				<-fresh.begun // not the load from before
				close(fresh.let)
				require.Equal(t, asked{`"fresh"`, nil}, <-after)
				close(old.let)
				require.Equal(t, asked{`"old"`, nil}, <-before)
				require.Equal(t, `"fresh"`, r.value(1, "k"))
			})
		})
	}
}

func TestWhatIsSetWhileItIsLoadedStays(t *testing.T) {
	each(t, Options{}, func(t *testing.T, r *rig) {
		g := newGate()
		answer := r.ask(context.Background(), "k", Keep{}, g.load(`"loaded"`))
		<-g.begun
		r.put(1, "k", `"set"`)
		close(g.let)
		require.Equal(t, asked{`"loaded"`, nil}, <-answer)
		require.Equal(t, `"set"`, r.value(1, "k"))
	})
}

func TestClosingEndsLoads(t *testing.T) {
	c, err := Open(context.Background(), Options{OrgBytes: 1 << 20, TotalBytes: 1 << 21})
	require.NoError(t, err)
	r := &rig{Cache: c, t: t}
	joinable, stale := newGate(), newGate()
	one := r.ask(context.Background(), "k", Keep{}, stale.load(`1`))
	<-stale.begun
	r.deleted(1, "k")
	two := r.ask(context.Background(), "k", Keep{}, joinable.load(`1`))
	<-joinable.begun
	require.NoError(t, c.Close())
	require.ErrorIs(t, (<-one).err, context.Canceled)
	require.ErrorIs(t, (<-two).err, context.Canceled)
	_, err = c.GetOrLoad(context.Background(), 1, "k", Keep{}, joinable.load(`1`))
	require.ErrorIs(t, err, errClosed)
	_, err = c.Set(context.Background(), 1, "k", []byte(`1`), Keep{})
	require.ErrorIs(t, err, errClosed)
}
