package delivery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestAPluginThatLiesIsKilledAndNothingIsSettledWrongly(t *testing.T) {
	one := func(o protocol.Outcome) func(b *protocol.Batch) protocol.Ack {
		return func(b *protocol.Batch) protocol.Ack {
			return protocol.Ack{ThroughSeq: b.Seq, Outcomes: []protocol.Outcome{o}}
		}
	}
	row := protocol.Outcome{Position: firstPosition, Class: protocol.Retry}
	with := func(change func(o *protocol.Outcome)) protocol.Outcome {
		o := row
		change(&o)
		return o
	}
	for name, lie := range map[string]func(b *protocol.Batch) protocol.Ack{
		"a batch that was never sent": func(b *protocol.Batch) protocol.Ack { return protocol.Ack{ThroughSeq: b.Seq + 1} },
		"a frame that was never sent": one(with(func(o *protocol.Outcome) { o.Position = 1 })),
		"a row beyond the frame":      one(with(func(o *protocol.Outcome) { o.Row = 3 })),
		"a row before the frame":      one(with(func(o *protocol.Outcome) { o.Row = -1 })),
		"a class that does not exist": one(with(func(o *protocol.Outcome) { o.Class = 77 })),
		"a class of the host's":       one(with(func(o *protocol.Outcome) { o.Class = protocol.Poison })),
		"a class of silence":          one(with(func(o *protocol.Outcome) { o.Class = protocol.Delivered })),
		"a window below zero":         func(b *protocol.Batch) protocol.Ack { return protocol.Ack{ThroughSeq: b.Seq, Window: -1} },
		"a row twice": func(b *protocol.Batch) protocol.Ack {
			return protocol.Ack{ThroughSeq: b.Seq, Outcomes: []protocol.Outcome{row, row}}
		},
		"outcomes without an acknowledgement": func(*protocol.Batch) protocol.Ack {
			return protocol.Ack{Outcomes: []protocol.Outcome{row}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				f := newFake(nil)
				f.behave = func(p *process, b *protocol.Batch) reaction {
					if p.number < 4 {
						ack := lie(b)
						return reaction{ack: &ack}
					}
					return reaction{}
				}
				r := newRig(t, pusher("http", f))
				r.start()
				frame := r.post("a", 3)
				after(50 * time.Millisecond)
				require.Contains(t, r.status("http").Blocked, "protocol error")
				require.EqualValues(t, firstPosition, r.status("http").Cursor)
				require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
				require.Equal(t, 3, f.has(frame.Position, frame.Position+3))
				require.Contains(t, f.process(0).reason(), "protocol error")
				require.Empty(t, r.letters(), "no row is blamed for it")
			})
		})
	}
}

func TestAnAcknowledgementSettlesAllBatchesBeforeIt(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction { return reaction{mute: b.Seq < 4} }
		p := pusher("http", f)
		p.Order = OrderNone
		r := newRig(t, p)
		r.start()
		frame := r.post("a", 40)
		require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
		require.Len(t, f.all(), 1)
		require.Len(t, f.batches, 4)
	})
}

func TestThePluginMayLowerTheWindowButNotRaiseIt(t *testing.T) {
	for window, want := range map[int]int{2: 2, 50: 4} {
		in(t, func(t *testing.T) {
			most := 0
			f := newFake(nil)
			f.behave = func(*process, *protocol.Batch) reaction {
				<-time.After(time.Second)
				return reaction{window: window}
			}
			p := pusher("http", f)
			p.Order, p.Window = OrderNone, 4
			r := newRig(t, p)
			r.start()
			frame := r.post("a", 300)
			c := r.chain("http")
			for range 20 {
				after(time.Second)
				c.mu.Lock()
				if c.session.seq > 8 {
					require.LessOrEqual(t, len(c.inflight), want)
					most = max(most, len(c.inflight))
				}
				c.mu.Unlock()
			}
			require.Equal(t, want, most)
			r.settledAll(frame)
		})
	}
}

func TestBatchesKeepToTheLimitsOfThePlugin(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.limits = protocol.Limits{MaxBatchRows: 3, MaxBatchBytes: 600}
		big := 0
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			n, bytes := 0, 0
			for i := range b.Frames {
				n += b.Frames[i].Len()
				bytes += len(b.Frames[i].Data)
			}
			if n > 3 || bytes > 600 {
				big++
			}
			return reaction{}
		}
		p := pusher("http", f)
		p.BatchBytes = 300
		r := newRig(t, p)
		r.start()
		huge := protocol.Frame{OrgID: 1, UUID: "a"}
		for _, size := range []int{10, 350, 10, 700, 10} { // fits, goes alone, fits, fits nowhere, fits
			huge.Data = append(huge.Data, make([]byte, size)...)
			huge.Ends = append(huge.Ends, uint32(len(huge.Data)))
		}
		frame := r.postFrame(huge)
		progress := r.settledAll(frame)
		require.Equal(t, 4, progress[0].Delivered)
		require.Equal(t, 1, progress[0].Dead)
		require.Contains(t, progress[0].LastError, "row_too_large")
		r.settledAll(r.post("b", 20))
		require.Zero(t, big)
	})
}
