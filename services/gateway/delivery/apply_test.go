package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/journal"
)

// apply makes the enabled pushers equal to the list.
func (r *rig) apply(pushers ...Pusher) Changes {
	r.t.Helper()
	changes, err := r.Apply(context.Background(), pushers)
	require.NoError(r.t, err)
	return changes
}

func TestPushersComeGoAndChangeWhileRowsFlow(t *testing.T) {
	in(t, func(t *testing.T) {
		stays, goes, changes, comes := newFake(nil), newFake(nil), newFake(nil), newFake(nil)
		changing := pusher("changes", changes)
		r := newRig(t, pusher("stays", stays), pusher("goes", goes), changing)
		r.start()
		first := r.post("a", 25)
		r.settledAll(first)
		changing.BatchRows = 3
		changing.Destination = newFake(nil) // the first one has ended
		again := changing.Destination.(*fake)
		require.Equal(t, Changes{Started: []string{"comes"}, Stopped: []string{"goes"}, Changed: []string{"changes"}, Unchanged: []string{"stays"}},
			r.apply(pusher("stays", newFake(nil)), pusher("comes", comes), changing))
		require.Equal(t, []string{"changes", "comes", "stays"}, r.Names(1))
		second := r.post("a", 25)
		r.settledAll(second)
		require.Len(t, stays.all(), 1, "one that did not change keeps its stream, and its destination")
		require.Equal(t, 50, stays.has(first.Position, second.Position+25))
		require.Equal(t, 25, goes.has(first.Position, second.Position+25))
		require.Equal(t, 25, changes.has(first.Position, second.Position+25))
		require.Equal(t, 25, again.has(second.Position, second.Position+25))
		require.Zero(t, again.has(first.Position, second.Position), "what was settled is not sent again")
		require.GreaterOrEqual(t, len(again.batches), 9, "three rows in a batch")
		require.Equal(t, 25, comes.has(second.Position, second.Position+25))
		require.Zero(t, comes.has(first.Position, second.Position))
		gone := r.status("goes")
		require.True(t, gone.Disabled)
		require.EqualValues(t, 25, gone.LagRows)
		require.EqualValues(t, 25, gone.DeliveredTotal)
		after(time.Second)
		require.Equal(t, second.Position, r.journal.lastReleased(), "its rows are kept")

		// It comes back and goes on where it was.
		r.apply(pusher("stays", never{}), pusher("goes", goes))
		r.settledAll(second)
		require.Equal(t, 50, goes.has(first.Position, second.Position+25))
		for at := first.Position; at < second.Position+25; at++ {
			require.Equal(t, 1, goes.sent[at])
		}
		require.NoError(t, r.Forget(context.Background(), "comes"))
		require.ErrorIs(t, r.Forget(context.Background(), "goes"), ErrStillEnabled)
		require.Len(t, r.Status(), 3)
	})
}

func TestAListWithAMistakeChangesNothing(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		r := newRig(t, pusher("http", f))
		r.start()
		bad := pusher("other", f)
		bad.Orgs = []string{"acme"}
		for _, list := range [][]Pusher{{bad}, {pusher("a", f), pusher("a", f)}, {{Name: "empty"}}} {
			_, err := r.Apply(t.Context(), list)
			require.Error(t, err)
		}
		require.Equal(t, []string{"http"}, r.Names(1))
		r.settledAll(r.post("a", 3))
		require.Len(t, f.all(), 1)
		require.NoError(t, r.halt())
		_, err := r.Apply(t.Context(), nil)
		require.ErrorIs(t, err, ErrEnded)
	})
}

func TestPushersMayChangeBeforeDeliveryRuns(t *testing.T) {
	in(t, func(t *testing.T) {
		f, g := newFake(nil), newFake(nil)
		p := pusher("http", f)
		r := newRig(t, p, pusher("other", g))
		r.open()
		frame := r.post("a", 5)
		p.Window = 1
		require.Equal(t, Changes{Stopped: []string{"other"}, Changed: []string{"http"}}, r.apply(p))
		require.EqualValues(t, 5, r.chain("http").backlog.Load())
		r.run()
		r.settledAll(frame)
		require.Zero(t, r.chain("http").backlog.Load())
		require.Empty(t, g.sent)
	})
}

func TestAChangeSendsNothingAgainThatWasSettledBeyondTheCursor(t *testing.T) {
	in(t, func(t *testing.T) {
		var healed atomic.Bool
		f := newFake(func(_ *process, b *protocol.Batch) reaction {
			if healed.Load() {
				return reaction{}
			}
			return reaction{outcomes: append(outcome(b, protocol.Retry, only(firstPosition)), outcome(b, protocol.Rejected, only(firstPosition+7))...)}
		})
		p := pusher("http", f)
		p.RetryAttempts = 0
		r := newRig(t, p)
		r.options.OrgMaxBacklog = 1000
		r.start()
		stuck, passed := r.post("a", 5), r.post("b", 20)
		after(time.Second)
		require.Equal(t, 19, f.has(passed.Position, passed.Position+20))
		p.Window = 3
		r.apply(p)
		healed.Store(true)
		require.Equal(t, StateDelivered, r.settledAll(stuck)[0].State)
		require.Equal(t, Progress{Name: "http", State: StatePartlyDead, Delivered: 19, Dead: 1, Attempts: 1, LastError: "code: it is rejected"}, r.settledAll(passed)[0])
		for at := passed.Position; at < passed.Position+20; at++ {
			require.Equal(t, 1, f.sent[at], at)
		}
		after(time.Second)
		require.Len(t, r.letters(), 1)
		c := r.chain("http")
		require.Zero(t, c.backlog.Load())
		require.Zero(t, c.orgCount(1, true).Load())
		require.Zero(t, c.ahead.rows.Load())
		require.Zero(t, c.ahead.bytes.Load())
		require.EqualValues(t, 24, r.status("http").DeliveredTotal)
	})
}

func TestAChangeWaitsForWhatIsInFlightAndLosesNoOrder(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(func(p *process, _ *protocol.Batch) reaction {
			p.takes(10 * time.Second)
			return reaction{}
		})
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		frame := r.post("a", 5)
		after(time.Second)
		p.BatchRows = 7
		started := time.Now()
		r.apply(p)
		require.InDelta(t, 9, time.Since(started).Seconds(), 0.1)
		require.Equal(t, 5, f.has(frame.Position, frame.Position+5))
		r.settledAll(r.post("a", 5))
		require.Equal(t, 1, f.sent[frame.Position])
		require.Empty(t, f.process(0).reason())
	})
}

func TestAProcessThatHoldsUpAChangeIsKilledBeforeItsRowsGoOutAgain(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(p *process, _ *protocol.Batch) reaction {
			if p.number == 0 {
				<-p.dead
			}
			return reaction{}
		}
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		frame := r.post("a", 5)
		after(time.Second)
		p.BatchRows = 7
		r.apply(p)
		require.Contains(t, f.process(0).reason(), "acknowledged nothing for 30s")
		require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
	})
}

func TestACallerWithoutPatienceCutsTheWaitShort(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(p *process, _ *protocol.Batch) reaction {
			if p.number == 0 {
				<-p.dead
			}
			return reaction{}
		}
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		frame := r.post("a", 5)
		after(time.Second)
		p.BatchRows = 7
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		started := time.Now()
		changes, err := r.Apply(ctx, []Pusher{p})
		require.NoError(t, err)
		require.Equal(t, []string{"http"}, changes.Changed)
		require.Less(t, time.Since(started), 10*time.Second)
		require.Empty(t, f.process(0).reason())
		require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
	})
}

func TestARequestThatIsWaitedForFollowsThePushersThatThereAre(t *testing.T) {
	in(t, func(t *testing.T) {
		p, well := pusher("absent", never{}), pusher("well", newFake(nil))
		r := newRig(t, p, pusher("stuck", never{}), well)
		r.start()
		frame := r.post("a", 3)
		done := make(chan []Progress)
		go func() { done <- r.Wait(context.Background(), frame) }()
		after(time.Second)
		p.Window, p.Destination = 2, newFake(nil)
		r.apply(p, well) // one comes alive with its new settings, one goes
		require.Equal(t, []Progress{{Name: "absent", State: StateDelivered, Delivered: 3, Attempts: 1}, {Name: "well", State: StateDelivered, Delivered: 3, Attempts: 1}}, <-done)
	})
}

func TestAReplayGoesOnAfterAChange(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		f := rejecting(&bad)
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		r.settledAll(r.post("a", 45))
		after(time.Second)
		bad.Store(false)
		_, err := r.Replay(context.Background(), Filter{Org: 1}, "", 5)
		require.NoError(t, err)
		for i := range 4 {
			after(2 * time.Second)
			heal := r.sicken("UPDATE ON pushers") // outcomes of a round are inherited, not written
			p.Window = 1 + i
			r.apply(p)
			heal()
		}
		after(time.Minute)
		require.Empty(t, r.letters())
		require.Zero(t, r.stockOf("http").rows.Load())
		require.Zero(t, r.chain("http").ahead.rows.Load())
		for at := range uint64(45) {
			require.LessOrEqual(t, f.delivered[firstPosition+at], 2)
		}
	})
}

func TestWhatAPusherCouldNotWriteBeforeItWentIsWrittenLater(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(rejectOdd)
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		heal := r.sicken("UPDATE ON pushers")
		frame := r.post("a", 10)
		after(time.Millisecond * 50)
		r.apply()
		require.EqualValues(t, firstPosition, r.storedCursor("http"))
		require.Error(t, r.Forget(t.Context(), "http"), "it would lose dead letters")
		r.apply(p) // takes over what is not written
		r.apply()
		heal()
		after(10 * time.Second)
		require.Equal(t, frame.Position+10, r.storedCursor("http"))
		require.Len(t, r.letters(), 5)
		require.EqualValues(t, 5, r.status("http").DeadTotal)
		require.Empty(t, r.leaving)
		require.NoError(t, r.Forget(t.Context(), "http"))
	})
}

func TestPausingSurvivesAChange(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		require.NoError(t, r.Pause(t.Context(), "http"))
		p.Window = 2
		r.apply(p)
		frame := r.post("a", 3)
		after(time.Hour)
		require.True(t, r.status("http").Paused)
		require.Empty(t, f.sent)
		require.NoError(t, r.Resume(t.Context(), "http"))
		r.settledAll(frame)
	})
}

func TestAnOldestStartIsNotOvertakenByTheJournal(t *testing.T) {
	in(t, func(t *testing.T) {
		r := newRig(t, pusher("well", newFake(nil)))
		r.start()
		frame := r.post("a", 10)
		r.settledAll(frame)
		after(time.Second)
		old := newFake(nil)
		p := pusher("old", old)
		p.Start = StartOldest
		r.apply(pusher("well", never{}), p)
		r.settledAll(frame)
		require.Equal(t, 10, old.has(frame.Position, frame.Position+10))
	})
}

func TestTheMetricsOfAPusherGoWithIt(t *testing.T) {
	in(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		p := pusher("http", newFake(rejectOdd))
		r := newRig(t, p)
		r.options.Registry = registry
		r.start()
		series := func() (names []string) {
			families, err := registry.Gather()
			require.NoError(t, err)
			for _, family := range families {
				for _, m := range family.Metric {
					for _, l := range m.Label {
						if l.GetValue() == "http" && !slices.Contains(names, family.GetName()) {
							names = append(names, family.GetName())
						}
					}
				}
			}
			return names
		}
		r.settledAll(r.post("a", 10))
		p.Window = 2
		r.apply(p)
		require.Contains(t, series(), "rivergate_pusher_dead_total")
		r.apply()
		require.Equal(t, []string{"rivergate_pusher_lag_rows", "rivergate_pusher_lag_seconds", "rivergate_pusher_state"}, series(), "what is kept for it is still told")
	})
}

// In real time, with the journal on disk and posts from several goroutines: every backlog is exact again in the end.
func TestBacklogsStayExactWhilePushersComeAndGoUnderLoad(t *testing.T) {
	r := newRig(t)
	files, err := journal.Open(journal.Options{Dir: t.TempDir(), SegmentBytes: 1 << 20})
	require.NoError(t, err)
	f, g := newFake(nil), newFake(nil)
	stays, other := pusher("stays", f), pusher("other", g)
	stays.MaxBacklog, other.Orgs = 1<<40, []string{"2"}
	d, err := Open(context.Background(), Options{Journal: files, DB: r.db, Pushers: []Pusher{stays}, OrgMaxBacklog: 1 << 40})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- d.Run(ctx) }()
	var frames [4][]protocol.Frame
	var over atomic.Bool
	posted := make(chan error, len(frames))
	post := func(i, n int) error {
		rec := &journal.Record{Frame: rows(uint64(1+n%2), fmt.Sprint("key", i), 1+n%5)}
		if _, err := files.Append(ctx, rec); err != nil {
			return err
		}
		d.Accepted(&rec.Frame)
		frames[i] = append(frames[i], rec.Frame)
		return nil
	}
	for i := range frames {
		go func() {
			var err error
			for n := 0; err == nil && (n < 100 || !over.Load()); n++ {
				err = post(i, n)
			}
			posted <- err
		}()
	}
	for i := range 40 {
		list := []Pusher{stays}
		if i%2 == 0 {
			other.Window = 1 + i%8
			list = append(list, other)
		}
		_, err := d.Apply(ctx, list)
		require.NoError(t, err)
	}
	over.Store(true)
	for range frames {
		require.NoError(t, <-posted)
	}
	_, err = d.Apply(ctx, []Pusher{stays, other})
	require.NoError(t, err)
	require.NoError(t, post(0, 1)) // one at least that both are to have
	whole := func(at int) *protocol.Frame {
		last := frames[0][len(frames[0])-1]
		for _, own := range frames {
			if l := own[len(own)-1]; l.Position > last.Position {
				last = l
			}
		}
		first := d.chains()[at].start
		return &protocol.Frame{OrgID: 2, Position: first, Ends: make([]uint32, last.Position+uint64(last.Len())-first)}
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	require.True(t, d.chain("stays").wait(wait, whole(1)))
	require.True(t, d.chain("other").wait(wait, whole(0)))
	for _, c := range d.chains() {
		require.Zero(t, c.backlog.Load(), c.Name)
		require.Zero(t, c.orgCount(1, true).Load(), c.Name)
		require.Zero(t, c.orgCount(2, true).Load(), c.Name)
		require.Zero(t, c.ahead.rows.Load(), c.Name)
	}
	for _, own := range frames {
		for i := range own {
			end := own[i].Position + uint64(own[i].Len())
			require.Equal(t, own[i].Len(), f.has(own[i].Position, end))
			if own[i].OrgID == 2 && own[i].Position >= d.chain("other").start {
				require.Equal(t, own[i].Len(), g.has(own[i].Position, end))
			}
		}
	}
	stop()
	require.NoError(t, <-ran)
	require.NoError(t, files.Close())
}

// TestNoChangeOfThePushersLosesARow applies random lists of pushers at random moments to a load with faults, and keeps a
// ledger for each pusher: from its first position on it has every row that is meant for it, in order.
func TestNoChangeOfThePushersLosesARow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := rapid.IntRange(1, 60).Draw(rt, "steps")
		crash := rapid.SampledFrom([]int{0, 30, 100}).Draw(rt, "crashes of a thousand batches")
		retry := rapid.SampledFrom([]int{0, 50, 300}).Draw(rt, "retries of a thousand rows")
		restarts := rapid.Bool().Draw(rt, "restarts")
		synctest.Test(t, func(t *testing.T) {
			chance := &dice{rand: rand.New(rand.NewPCG(seed, 2))}
			var calm atomic.Bool
			names := []string{"a", "b", "c"}
			fakes := map[string]*fake{}
			for _, name := range names {
				f := newFake(nil)
				f.behave = func(p *process, b *protocol.Batch) reaction {
					if calm.Load() {
						return reaction{}
					}
					p.takes(time.Duration(chance.IntN(20)) * time.Millisecond)
					if chance.IntN(1000) < crash {
						return reaction{crash: "signal: killed"}
					}
					failed := map[string]bool{}
					return reaction{outcomes: outcome(b, protocol.Retry, func(f *protocol.Frame, row int) bool {
						failed[f.UUID] = failed[f.UUID] || chance.IntN(1000) < retry
						return failed[f.UUID]
					})}
				}
				fakes[name] = f
			}
			list := func() (all []Pusher) {
				for _, name := range names {
					if chance.IntN(4) == 0 {
						continue
					}
					p := pusher(name, fakes[name])
					p.RetryAttempts, p.Start = 0, []Start{StartNew, StartOldest}[chance.IntN(2)]
					p.Window, p.BatchRows = 1+chance.IntN(3), 1+chance.IntN(8)
					all = append(all, p)
				}
				return all
			}
			r := newRig(t, list()...)
			r.options.OrgMaxBacklog = 1 << 40
			defer func() { _ = r.halt() }()
			r.start()
			var frames []*protocol.Frame
			applied := make(chan error, 1)
			applied <- nil
			for range steps {
				switch chance.IntN(8) {
				case 0:
					require.NoError(t, <-applied)
					next := list()
					r.options.Pushers = next
					go func() {
						_, err := r.Apply(context.Background(), next)
						applied <- err
					}()
				case 1:
					after(time.Duration(chance.IntN(500)) * time.Millisecond)
				case 2:
					if restarts {
						err := <-applied
						require.NoError(t, err)
						applied <- nil
						require.NoError(t, r.halt())
						r.start()
					}
				default:
					org := 1 + chance.IntN(2)
					frames = append(frames, r.postFor(uint64(org), fmt.Sprint("key", org, chance.IntN(4)), 1+chance.IntN(10)))
				}
			}
			require.NoError(t, <-applied)
			calm.Store(true)
			var all []Pusher
			for _, name := range names {
				p := pusher(name, fakes[name])
				p.RetryAttempts = 0
				all = append(all, p)
			}
			r.apply(all...)
			for _, frame := range frames {
				r.settledAll(frame)
			}
			after(time.Second)
			poison := map[string][]uint64{} // a row on which the plugin ended three times by chance
			for l, err := range r.ExportDeadLetters(context.Background(), Filter{}) {
				require.NoError(t, err)
				poison[l.Pusher] = append(poison[l.Pusher], l.Position)
			}
			for _, name := range names {
				c, f := r.chain(name), fakes[name]
				require.Zero(t, c.backlog.Load(), name)
				for org := range uint64(2) {
					require.Zero(t, c.orgCount(org+1, true).Load(), name)
				}
				require.Zero(t, c.ahead.rows.Load(), name)
				_, end := r.journal.Bounds()
				require.Equal(t, end, r.storedCursor(name))
				for _, frame := range frames {
					n, dead := f.has(frame.Position, frame.Position+uint64(frame.Len())), 0
					for at := frame.Position; at < frame.Position+uint64(frame.Len()); at++ {
						if f.delivered[at] == 0 && slices.Contains(poison[name], at) {
							dead++
						}
					}
					if n += dead; frame.Position >= c.start {
						require.Equal(t, frame.Len(), n, "%s lost rows of position %d", name, frame.Position)
					} else {
						require.Zero(t, n, "rows of position %d were never meant for %s", frame.Position, name)
					}
				}
				for uuid, order := range f.orders {
					require.True(t, slices.IsSorted(order), "%s %s: %v", name, uuid, order)
				}
			}
		})
	})
}
