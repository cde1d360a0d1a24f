package delivery

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// never is a plugin that does not come up.
type never struct{}

func (never) Open(ctx context.Context) (Session, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestOnePusherThatIsStuckSlowsNoOther(t *testing.T) {
	in(t, func(t *testing.T) {
		hung := newFake(func(p *process, _ *protocol.Batch) reaction { <-p.dead; return reaction{} })
		crashing := newFake(func(*process, *protocol.Batch) reaction { return reaction{crash: "exit status 2"} })
		well := newFake(nil)
		r := newRig(t, pusher("hung", hung), pusher("crashing", crashing), pusher("absent", never{}), pusher("well", well))
		r.start()
		started := time.Now()
		var last *protocol.Frame
		for i := range 1000 {
			last = r.post(fmt.Sprint("key", i%50), 10)
		}
		r.chain("well").wait(context.Background(), last)
		require.Less(t, time.Since(started), time.Second)
		require.Equal(t, 10, well.has(last.Position, last.Position+10))
		require.Equal(t, "waiting for the plugin", r.status("absent").Blocked)

		// Memory stays bounded: each reads ahead no more than its window and two batches.
		for _, name := range []string{"hung", "absent"} {
			require.LessOrEqual(t, r.chain(name).ahead.rows.Load(), int64(10*10+10), name)
		}
	})
}

func TestRowsOfOtherOrgsArePassedOver(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		p := pusher("two", f)
		p.Orgs = []string{"2"}
		r := newRig(t, p)
		r.start()
		theirs := r.postFor(1, "a", 5)
		ours := r.postFor(2, "b", 5)
		r.settledAll(ours)
		last := r.postFor(1, "a", 5)
		after(time.Second)
		require.Empty(t, r.Names(1))
		require.Equal(t, []string{"two"}, r.Names(2))
		require.Zero(t, f.has(theirs.Position, theirs.Position+5))
		require.Equal(t, 5, f.has(ours.Position, ours.Position+5))
		require.Equal(t, last.Position+5, r.storedCursor("two"))
		s := r.status("two")
		require.Zero(t, s.SkippedTotal)
		require.EqualValues(t, 5, s.DeliveredTotal)
		require.Zero(t, r.chain("two").backlog.Load())
		require.Empty(t, r.Wait(context.Background(), theirs))
	})
}

func TestAnOrgThatIsNoNumberIsRefused(t *testing.T) {
	p := pusher("two", newFake(nil))
	p.Orgs = []string{"acme"}
	r := newRig(t)
	_, err := Open(t.Context(), Options{Journal: r.journal, DB: r.db, Pushers: []Pusher{p}})
	require.ErrorContains(t, err, "acme")
	_, err = Open(t.Context(), Options{Journal: r.journal, DB: r.db, Pushers: []Pusher{pusher("a", never{}), pusher("a", never{})}})
	require.ErrorContains(t, err, "two pushers are called a")
}

func TestABacklogOverItsLimitIsRefusedWithATime(t *testing.T) {
	in(t, func(t *testing.T) {
		slow := newFake(func(_ *process, b *protocol.Batch) reaction {
			<-time.After(time.Second) // ten rows a second
			return reaction{}
		})
		p := pusher("slow", slow)
		p.MaxBacklog, p.Window = 200, 1
		r := newRig(t, p)
		r.options.OrgMaxBacklog = 150
		r.start()
		require.NoError(t, r.Admit(1, 5000), "no request is too large for an empty backlog")
		for range 30 {
			require.NoError(t, r.Admit(1, 5))
			r.post("a", 5)
		}
		after(30 * time.Second)
		require.Zero(t, r.chain("slow").backlog.Load())
		r.post("a", 150)
		after(2 * time.Second)

		var full *BacklogError
		require.ErrorAs(t, r.Admit(1, 50), &full)
		require.Equal(t, []any{"slow", uint64(1), int64(150)}, []any{full.Pusher, full.Org, full.Limit})
		require.Greater(t, full.RetryAfter, time.Second)
		require.LessOrEqual(t, full.RetryAfter, 30*time.Second)
		require.NoError(t, r.Admit(2, 50), "another org has room")
		require.ErrorAs(t, r.Admit(2, 150), &full, "but the pusher's own limit is for all")
		require.Zero(t, full.Org)

		require.NoError(t, r.Pause(context.Background(), "slow"))
		after(time.Minute)
		require.ErrorAs(t, r.Admit(1, 100), &full)
		require.Equal(t, noRate, full.RetryAfter)
		before := r.chain("slow").backlog.Load()
		require.NoError(t, r.halt())
		r.open()
		require.Equal(t, before, r.chain("slow").backlog.Load(), "a restart counts the same")
		r.run()
		require.ErrorAs(t, r.Admit(1, 100), &full)
	})
}

func TestWaitReturnsTheStateAsItIsWhenItsTimeIsOver(t *testing.T) {
	in(t, func(t *testing.T) {
		r := newRig(t, pusher("absent", never{}), pusher("well", newFake(nil)))
		r.start()
		frame := r.post("a", 2)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		all := r.Wait(ctx, frame)
		require.Equal(t, []Progress{{Name: "absent", State: StatePending}, {Name: "well", State: StateDelivered, Delivered: 2, Attempts: 1}}, all)
		require.Empty(t, r.chain("absent").waiters)
	})
}

func TestATailSeesRowsAsTheyHappen(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(func(_ *process, b *protocol.Batch) reaction {
			return reaction{outcomes: outcome(b, protocol.Rejected, only(firstPosition+1))}
		})
		r := newRig(t, pusher("http", f))
		r.start()
		ctx, cancel := context.WithCancel(t.Context())
		events := r.Tail(ctx, TailOptions{Org: 1, Pusher: "http"})
		r.settledAll(r.postFor(2, "b", 1))
		frame := r.postFor(1, "a", 3)
		_ = frame
		after(time.Second)
		var seen []string
		for range len(events) {
			e := <-events
			seen = append(seen, fmt.Sprint(e.Type, " ", e.UUID, " ", e.Rows, " ", e.Class))
		}
		require.Equal(t, []string{"accepted a 3 ", "dead a 1 rejected", "delivered a 2 "}, seen)

		for range 2 * tailBuffer {
			r.post("a", 1)
		}
		after(time.Second)
		for range tailBuffer {
			<-events
		}
		r.post("c", 1)
		require.NotZero(t, (<-events).Lost, "what a slow listener lost is counted")
		cancel()
		after(time.Second)
		for range events { // ends
		}
		require.False(t, r.tails.listening())
	})
}

func TestMetricsTellOfEachPusher(t *testing.T) {
	in(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		r := newRig(t, pusher("http", newFake(rejectOdd)), pusher("absent", never{}))
		r.options.Registry = registry
		r.start()
		r.post("a", 10)
		after(10 * time.Second)
		got := map[string]float64{}
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, family := range families {
			for _, m := range family.Metric {
				name := family.GetName()
				for _, l := range m.Label {
					name += " " + l.GetValue()
				}
				got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		for name, want := range map[string]float64{
			"rivergate_pusher_delivered_total http":     5,
			"rivergate_pusher_dead_total rejected http": 5,
			"rivergate_pusher_lag_rows http":            0,
			"rivergate_pusher_lag_rows absent":          10,
			"rivergate_pusher_lag_seconds absent":       10,
			"rivergate_pusher_state http running":       1,
			"rivergate_pusher_state absent blocked":     1,
			"rivergate_pusher_batch_rows http":          1,
			"rivergate_pusher_batch_seconds http":       1,
		} {
			require.Contains(t, got, name)
			require.Equal(t, want, got[name], name)
		}

		_, err = Open(t.Context(), Options{Journal: r.journal, DB: r.db, Registry: registry})
		var twice prometheus.AlreadyRegisteredError
		require.True(t, errors.As(err, &twice))
	})
}
