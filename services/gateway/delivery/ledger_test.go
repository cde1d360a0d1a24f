package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// TestNoFaultLosesARowOrBreaksTheOrderOfAKey throws random faults at a chain and keeps a ledger of every position.
func TestNoFaultLosesARowOrBreaksTheOrderOfAKey(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type plan struct {
			order            Order
			window, rows     int
			keys, frames     int
			retry, reject    int // of a thousand rows
			crash, hang, lie int // of a thousand batches
			trouble, missing int // of a thousand look-ups of triggers; -1: the plugin wants none
			transforms       bool
			halts, crashes   bool
			seed             uint64
		}
		pl := plan{
			order:  rapid.SampledFrom([]Order{OrderKey, OrderKey, OrderNone}).Draw(rt, "order"),
			window: rapid.IntRange(1, 6).Draw(rt, "window"), rows: rapid.IntRange(1, 20).Draw(rt, "batch rows"),
			keys: rapid.IntRange(1, 12).Draw(rt, "keys"), frames: rapid.IntRange(1, 60).Draw(rt, "frames"),
			retry: rapid.SampledFrom([]int{0, 20, 200}).Draw(rt, "retry"), reject: rapid.SampledFrom([]int{0, 20}).Draw(rt, "reject"),
			crash: rapid.SampledFrom([]int{0, 20, 60}).Draw(rt, "crash"), hang: rapid.SampledFrom([]int{0, 10}).Draw(rt, "hang"),
			lie: rapid.SampledFrom([]int{0, 20}).Draw(rt, "lie"), halts: rapid.Bool().Draw(rt, "halts"), crashes: rapid.Bool().Draw(rt, "host crashes"),
			trouble: rapid.SampledFrom([]int{-1, 0, 300}).Draw(rt, "tower in trouble"), missing: rapid.SampledFrom([]int{0, 300}).Draw(rt, "trigger missing"),
			transforms: rapid.Bool().Draw(rt, "transforms"), seed: rapid.Uint64().Draw(rt, "seed"),
		}
		synctest.Test(t, func(t *testing.T) {
			chance := &dice{rand: rand.New(rand.NewPCG(pl.seed, 1))}
			var calm atomic.Bool
			f := newFake(nil)
			f.behave = func(p *process, b *protocol.Batch) reaction {
				if calm.Load() {
					return reaction{}
				}
				<-time.After(time.Duration(chance.IntN(3)) * time.Millisecond)
				if chance.IntN(1000) < pl.crash {
					return reaction{crash: "signal: killed"}
				}
				if chance.IntN(1000) < pl.hang {
					<-p.dead
				}
				if chance.IntN(1000) < pl.lie {
					return reaction{ack: &protocol.Ack{ThroughSeq: b.Seq + 1000}}
				}
				var all []protocol.Outcome
				failed := map[string]bool{}
				for i := range b.Frames {
					fr := &b.Frames[i]
					for row := range fr.Len() {
						o := protocol.Outcome{Position: fr.Position, Row: row, Class: protocol.Retry, Code: "busy"}
						switch {
						case pl.order == OrderKey && failed[fr.UUID]: // as the SDK asks of an author
						case chance.IntN(1000) < pl.reject:
							o.Class = protocol.Rejected
						case chance.IntN(1000) < pl.retry:
							o.Class = []protocol.Class{protocol.Retry, protocol.Retry, protocol.Throttled, protocol.Unauthenticated}[chance.IntN(4)]
							failed[fr.UUID] = true
						default:
							continue
						}
						all = append(all, o)
					}
				}
				return reaction{outcomes: all}
			}
			p := pusher("http", f)
			p.Order, p.Window, p.BatchRows, p.RetryAttempts = pl.order, pl.window, pl.rows, 0
			if pl.transforms { // of 30 rows, one is dropped and one fails
				p.Filter, p.Rename = "row.n != 4 and (row.n != 5 or row.none > 1)", map[string]string{"n": "number"}
			}
			r := newRig(t, p)
			defer func() { _ = r.halt() }()
			missing := missingFor(time.Second)
			tw := newTower(func(_ context.Context, uuid string) ([]byte, error) {
				<-time.After(time.Duration(chance.IntN(3)) * time.Millisecond)
				switch at := chance.IntN(1000); {
				case calm.Load() || at >= pl.trouble+pl.missing:
					return triggerOf(uuid), nil
				case at < pl.trouble:
					return nil, errTowerDown
				}
				return nil, missing(uuid)
			})
			tw.forgets = pl.seed%2 == 0
			r.options.Triggers = tw
			f.needsTrigger.Store(pl.trouble >= 0)
			r.start()
			var frames []*protocol.Frame
			for i := range pl.frames {
				frames = append(frames, r.post(fmt.Sprint("key", chance.IntN(pl.keys)), 1+chance.IntN(30)))
				if chance.IntN(4) == 0 {
					after(time.Duration(chance.IntN(300)) * time.Millisecond)
				}
				if pl.halts && i%20 == 10 {
					require.NoError(t, r.halt())
					r.start()
				}
				if pl.crashes && i%20 == 15 {
					heal := r.sicken("UPDATE ON pushers")
					after(time.Duration(chance.IntN(300)) * time.Millisecond)
					_ = r.halt() // fails when there was something to write
					heal()
					r.start()
				}
			}
			after(time.Hour)
			calm.Store(true)
			last := frames[len(frames)-1]
			told, stored := 0, 0
			end := last.Position + uint64(last.Len())
			for _, frame := range frames {
				told += r.settledAll(frame)[0].Dead
			}
			after(time.Second)
			for _, frame := range frames {
				stored += r.settledAll(frame)[0].Dead
			}
			require.Equal(t, end, r.storedCursor("http"))
			require.Zero(t, r.chain("http").backlog.Load())
			require.Zero(t, r.chain("http").ahead.rows.Load())
			require.Zero(t, r.chain("http").ahead.bytes.Load())

			// The ledger: each position is delivered or dead.
			dead := map[uint64]bool{}
			for l, err := range r.ExportDeadLetters(context.Background(), Filter{Org: 1}) {
				require.NoError(t, err)
				require.False(t, dead[l.Position], "twice in the dead letters")
				dead[l.Position] = true
			}
			for _, frame := range frames {
				for i := range frame.Len() {
					at := frame.Position + uint64(i)
					want := string(frame.Row(i))
					if pl.transforms {
						require.True(t, i != 5 || dead[at] && f.times(at) == 0, "position %d cannot be transformed", at)
						want = strings.Replace(want, "n", "number", 1)
					}
					if pl.transforms && i == 4 {
						require.Zero(t, f.times(at), "position %d is dropped", at)
						continue
					}
					require.True(t, f.delivered[at] > 0 || dead[at], "position %d is lost", at)
					if f.delivered[at] > 0 {
						require.Equal(t, want, f.data[at])
						if pl.trouble >= 0 {
							require.Equal(t, string(triggerOf(frame.UUID)), f.trigger(at))
						}
					}
				}
			}
			require.Equal(t, []int{len(dead), len(dead)}, []int{told, stored}, "progress knows every dead row")
			if pl.order == OrderKey {
				for uuid, order := range f.orders {
					require.True(t, slices.IsSorted(order), "%s: %v", uuid, order)
				}
			}
		})
	})
}

// dice is chance for several goroutines.
type dice struct {
	mu   sync.Mutex
	rand *rand.Rand
}

func (d *dice) IntN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}
