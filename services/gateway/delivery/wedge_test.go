package delivery

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// works says n times, every pause, that it is at work; false: the process ended.
func (p *process) works(n int, pause time.Duration) bool {
	for range n {
		select {
		case <-time.After(pause):
		case <-p.dead:
			return false
		}
		select {
		case p.acks <- protocol.Ack{Working: true}:
		case <-p.dead:
			return false
		}
	}
	return true
}

func TestAWedgedPluginIsToldApartFromASlowOne(t *testing.T) {
	in(t, func(t *testing.T) {
		stuck := newFake(nil)
		stuck.behave = func(p *process, _ *protocol.Batch) reaction {
			if p.number == 0 {
				<-p.dead
			}
			return reaction{}
		}
		slow := newFake(func(*process, *protocol.Batch) reaction {
			<-time.After(10 * time.Second) // one after the other: eight in flight take 80 s
			return reaction{}
		})
		s := pusher("slow", slow)
		s.Order = OrderNone
		r := newRig(t, pusher("stuck", stuck), s)
		registry := prometheus.NewPedanticRegistry()
		r.options.Registry = registry
		r.start()
		var frame *protocol.Frame
		for range 60 {
			frame = r.post("a", 10)
		}
		after(29 * time.Second)
		require.Empty(t, r.status("stuck").Condition)
		require.Empty(t, r.status("slow").Condition)
		require.Equal(t, 8, r.status("slow").Window)
		after(2 * time.Second)
		require.Contains(t, stuck.process(0).reason(), "wedged on a batch: it has acknowledged nothing for 30s (1 batch, 10 rows in flight)")
		after(20 * time.Second)
		require.Empty(t, r.status("stuck").Condition, "its next process gets on")
		require.Equal(t, "slow", r.status("slow").Condition)
		require.Equal(t, "a batch takes 40s from send to acknowledgement (TIMEOUT is 30s): 4 of 8 batches in flight allowed", r.status("slow").ConditionReason)
		require.Equal(t, 4, r.status("slow").Window)
		after(80 * time.Second)
		require.Equal(t, 2, r.status("slow").Window, "what was sent before the first halving is no reason for the second")
		r.settledAll(frame)
		require.Equal(t, 2, r.status("slow").Window, "20 s is neither too slow nor quick")
		require.Len(t, slow.all(), 1, "it was never killed")
		require.EqualValues(t, 1, series(t, registry, "rivergate_pusher_wedged_total", "stuck stuck"))
		require.EqualValues(t, 2, series(t, registry, "rivergate_pusher_wedged_total", "slow slow"))
		require.EqualValues(t, 2, series(t, registry, "rivergate_pusher_window", "slow"))
		require.EqualValues(t, 1, series(t, registry, "rivergate_pusher_condition", "slow slow"))
		require.EqualValues(t, 1, series(t, registry, "rivergate_pusher_condition", "well stuck"))
	})
}

// series reads one series: the values of its labels with spaces between.
func series(t *testing.T, registry *prometheus.Registry, name, labels string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.Metric {
			values := ""
			for _, l := range m.Label {
				values += " " + l.GetValue()
			}
			if family.GetName() == name && values == " "+labels {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	require.Fail(t, "no series "+name+" "+labels)
	return 0
}

func TestAStuckPluginStaysMarkedUntilItGetsOn(t *testing.T) {
	in(t, func(t *testing.T) {
		var healed atomic.Bool
		f := newFake(func(p *process, _ *protocol.Batch) reaction {
			if !healed.Load() {
				<-p.dead
			}
			return reaction{}
		})
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		r.post("a", 100)
		after(70 * time.Second)
		s := r.status("http")
		require.Equal(t, "stuck", s.Condition)
		require.Contains(t, s.ConditionReason, "acknowledged nothing for 30s (1 batch,")
		require.GreaterOrEqual(t, len(f.all()), 3)
		healed.Store(true)
		f.kill("signal: killed")
		after(time.Minute)
		require.Empty(t, r.status("http").Condition)
		require.Empty(t, r.status("http").ConditionReason)
	})
}

func TestTheWindowOfASlowPluginGrowsAgainStepByStep(t *testing.T) {
	in(t, func(t *testing.T) {
		var pause atomic.Int64
		pause.Store(int64(10 * time.Second))
		f := newFake(func(p *process, _ *protocol.Batch) reaction {
			p.takes(time.Duration(pause.Load()))
			return reaction{}
		})
		p := pusher("http", f)
		p.Order = OrderNone
		r := newRig(t, p)
		r.start()
		for range 30 {
			r.post("a", 10)
		}
		after(200 * time.Second)
		require.Equal(t, 2, r.status("http").Window)
		pause.Store(int64(time.Second))
		var seen []int
		for range 100 {
			r.post("a", 10)
			after(time.Second)
			if w := r.status("http").Window; len(seen) == 0 || seen[len(seen)-1] != w {
				seen = append(seen, w)
			}
		}
		require.Equal(t, []int{2, 3, 4, 5, 6, 7, 8}, seen)
		require.Empty(t, r.status("http").Condition)
		require.Len(t, f.all(), 1)
	})
}

func TestAPluginThatAnswersAtTheLastMomentIsNotKilled(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(func(p *process, _ *protocol.Batch) reaction {
			p.takes(30*time.Second - time.Millisecond)
			return reaction{}
		})
		r := newRig(t, pusher("http", f))
		r.start()
		var last *protocol.Frame
		for i := range 60 {
			last = r.post(fmt.Sprint("key", i), 3)
		}
		r.settledAll(last)
		after(time.Hour)
		require.Len(t, f.all(), 1)
		require.Empty(t, f.process(0).reason())
		require.Equal(t, 1, r.status("http").Window, "but too much was in flight for it")
		require.Zero(t, r.chain("http").backlog.Load())
	})
}

func TestAPluginThatSaysItIsAtWorkGetsMoreTimeButNotForEver(t *testing.T) {
	in(t, func(t *testing.T) {
		for minutes, why := range map[int]string{
			4: "",
			7: "wedged on a batch: it says that it is at work, but has acknowledged nothing for 5m0s, 10 times its TIMEOUT (1 batch, 5 rows in flight)",
		} {
			f := newFake(nil)
			f.behave = func(p *process, b *protocol.Batch) reaction {
				if p.number == 0 && !p.works(6*minutes, 10*time.Second) {
					return reaction{mute: true}
				}
				return reaction{}
			}
			r := newRig(t, pusher("http", f))
			r.start()
			frame := r.post("a", 5)
			after(299 * time.Second)
			require.Empty(t, f.process(0).reason())
			require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
			require.Equal(t, why, f.process(0).reason())
			require.NoError(t, r.halt())
		}
	})
}

func TestAPluginThatStopsSayingItIsAtWorkIsStuck(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(p *process, b *protocol.Batch) reaction {
			if p.number == 0 && p.works(5, 10*time.Second) {
				<-p.dead
			}
			return reaction{}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		r.settledAll(r.post("a", 5))
		require.Equal(t, "wedged on a batch: it has acknowledged nothing for 1m20s, and last said that it is at work 30s ago (1 batch, 5 rows in flight)",
			f.process(0).reason())
	})
}

func TestAWordOfBeingAtWorkWithOutcomesBreaksTheProtocol(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(p *process, b *protocol.Batch) reaction {
			if p.number == 0 {
				return reaction{ack: &protocol.Ack{Working: true, Outcomes: outcome(b, protocol.Retry, nil)}}
			}
			return reaction{}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		r.settledAll(r.post("a", 5))
		require.Contains(t, f.process(0).reason(), "at work")
	})
}

func TestAnIdlePusherSleeps(t *testing.T) {
	in(t, func(t *testing.T) {
		var pushers []Pusher
		for i := range 50 {
			pushers = append(pushers, pusher(fmt.Sprint("p", i), newFake(nil)))
		}
		pushers = append(pushers, pusher("absent", never{}), pusher("paused", newFake(nil)))
		r := newRig(t, pushers...)
		r.start()
		require.NoError(t, r.Pause(t.Context(), "paused"))
		r.post("a", 30)
		after(time.Second)
		for _, c := range r.chains() {
			c.mu.Lock()
			wait := c.quiet(time.Now())
			c.mu.Unlock()
			require.Equal(t, time.Hour, wait, "%s has a timer", c.Name)
			require.Empty(t, c.wake, c.Name)
		}
		require.Empty(t, r.dirty, "and there is nothing to write")
	})
}
