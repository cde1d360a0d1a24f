package delivery

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestARowThatEndsThePluginIsFoundAndTheOthersArrive(t *testing.T) {
	for _, order := range []Order{OrderKey, OrderNone} {
		t.Run(string(order), func(t *testing.T) {
			in(t, func(t *testing.T) {
				bad := uint64(firstPosition + 437)
				f := newFake(nil)
				f.behave = func(_ *process, b *protocol.Batch) reaction {
					if len(outcome(b, protocol.Retry, only(bad))) > 0 {
						return reaction{crash: "exit status 2"}
					}
					return reaction{}
				}
				p := pusher("http", f)
				p.Order, p.BatchRows = order, 250
				r := newRig(t, p)
				r.start()
				var frames []*protocol.Frame
				for i := range 10 {
					frames = append(frames, r.post(fmt.Sprint("key", i), 100))
				}
				for _, frame := range frames {
					r.settledAll(frame)
				}
				require.Equal(t, 999, f.has(firstPosition, firstPosition+1000))
				after(time.Second)
				letters := r.letters()
				require.Len(t, letters, 1)
				require.Equal(t, bad, letters[0].Position)
				require.Equal(t, "poison", letters[0].Class)
				require.Contains(t, letters[0].Message, "exit status 2")
				require.Less(t, len(f.all()), 12, "few restarts")
			})
		})
	}
}

func TestARowThatHangsThePluginIsFoundToo(t *testing.T) {
	in(t, func(t *testing.T) {
		bad := uint64(firstPosition + 7)
		f := newFake(nil)
		f.behave = func(p *process, b *protocol.Batch) reaction {
			if len(outcome(b, protocol.Retry, only(bad))) > 0 {
				<-p.dead
			}
			return reaction{}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		frame := r.post("a", 10)
		require.Equal(t, StatePartlyDead, r.settledAll(frame)[0].State)
		require.Equal(t, 9, f.has(frame.Position, frame.Position+10))
		after(time.Second)
		require.Equal(t, "poison", r.letters()[0].Class)
		require.Contains(t, r.letters()[0].Message, "it has acknowledged nothing for 30s")
		require.Contains(t, f.process(0).reason(), "it has acknowledged nothing for 30s")
	})
}

func TestRandomKillsCostNoRow(t *testing.T) {
	in(t, func(t *testing.T) {
		chance := rand.New(rand.NewPCG(1, 2))
		f := newFake(func(*process, *protocol.Batch) reaction {
			<-time.After(time.Millisecond)
			return reaction{}
		})
		r := newRig(t, pusher("http", f))
		r.start()
		var last *protocol.Frame
		for i := range 1000 {
			last = r.post(fmt.Sprint("key", i%20), 1+i%13)
			after(time.Duration(chance.IntN(5)) * time.Millisecond)
			if chance.IntN(10) == 0 {
				f.kill("signal: killed")
			}
		}
		whole := &protocol.Frame{OrgID: 1, Position: firstPosition, Ends: make([]uint32, last.Position+uint64(last.Len())-firstPosition)}
		r.settledAll(whole)
		require.Equal(t, whole.Len(), f.has(firstPosition, firstPosition+uint64(whole.Len())))
		require.Empty(t, r.letters())
		require.Greater(t, len(f.all()), 20)
	})
}

func TestAStopOnPurposeBlamesNoRow(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(p *process, _ *protocol.Batch) reaction {
			if p.number < 10 {
				return reaction{mute: true}
			}
			return reaction{}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		frame := r.post("a", 1)
		for i := range 10 { // the plugin host replaces the process ten times while the row is in flight
			after(10 * time.Second)
			f.process(i).end("", false)
		}
		require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
		require.Empty(t, r.letters())
	})
}

func TestARetiredStreamEndsInGoodOrder(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(*process, *protocol.Batch) reaction {
			<-time.After(time.Second)
			return reaction{}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		first := r.post("a", 1)
		after(500 * time.Millisecond)
		close(f.process(0).retired)
		second := r.post("a", 1)
		r.settledAll(second)
		require.Equal(t, 1, f.sent[first.Position], "its acknowledgement was still taken")
		require.Len(t, f.all(), 2)
	})
}
