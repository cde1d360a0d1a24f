package delivery

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const (
	traceOfTheTest = "0af7651916cd43dd8448eb211c80319c"
	acceptingSpan  = "b7ad6b7169203331"
)

// tracedRows is a frame whose request is traced.
func tracedRows(uuid string, n int) protocol.Frame {
	f := rows(1, uuid, n)
	f.TraceParent = "00-" + traceOfTheTest + "-" + acceptingSpan + "-01"
	return f
}

func newTracedRig(t *testing.T, pushers ...Pusher) (*rig, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	r := newRig(t, pushers...)
	r.options.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	return r, recorder
}

// told is a span as text: outcome, attempt, rows, what became of them, status.
func told(s sdktrace.ReadOnlySpan) string {
	all := map[string]string{}
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	text := fmt.Sprintf("%s: attempt %s of %s rows: %s", s.Name(), all["rivergate.attempt"], all["rivergate.rows"], all["rivergate.outcome"])
	for _, class := range []string{"delivered", "skipped", "retry", "rejected"} {
		if n := all["rivergate.rows."+class]; n != "" {
			text += ", " + n + " " + class
		}
	}
	if n := all["rivergate.dead_letters"]; n != "" {
		text += ", " + n + " dead"
	}
	if s.Status().Code == codes.Error {
		text += "; error: " + s.Status().Description
	}
	return text
}

func TestEachAttemptAtATracedFrameIsASpan(t *testing.T) {
	in(t, func(t *testing.T) {
		var parents []string
		tries := 0
		f := newFake(func(p *process, b *protocol.Batch) reaction {
			p.takes(time.Second)
			parents = append(parents, b.Frames[0].TraceParent)
			if tries++; tries > 1 {
				return reaction{outcomes: outcome(b, protocol.Rejected, only(firstPosition+2))}
			}
			o := outcome(b, protocol.Retry, func(_ *protocol.Frame, row int) bool { return row > 1 })
			return reaction{outcomes: append(o, outcome(b, protocol.Skipped, only(firstPosition))...)}
		})
		r, recorder := newTracedRig(t, pusher("http", f))
		r.start()
		r.settledAll(r.postFrame(tracedRows("a", 5)))
		spans := recorder.Ended()
		require.Len(t, spans, 2)
		require.Equal(t, "deliver http: attempt 1 of 5 rows: retry, 1 delivered, 1 skipped, 3 retry; error: code: it is retry", told(spans[0]))
		require.Equal(t, "deliver http: attempt 2 of 3 rows: rejected, 2 delivered, 1 rejected, 1 dead; error: code: it is rejected", told(spans[1]))
		for i, s := range spans {
			require.Equal(t, traceOfTheTest, s.SpanContext().TraceID().String())
			require.Equal(t, acceptingSpan, s.Parent().SpanID().String())
			require.True(t, s.Parent().IsRemote())
			require.Equal(t, time.Second, s.EndTime().Sub(s.StartTime()), "from send to acknowledgement")
			require.Equal(t, "00-"+traceOfTheTest+"-"+s.SpanContext().SpanID().String()+"-01", parents[i], "what the plugin does hangs on the attempt")
		}
	})
}

func TestOnlyTracedFramesOfABatchHaveSpans(t *testing.T) {
	in(t, func(t *testing.T) {
		p := pusher("http", newFake(nil))
		p.Order, p.BatchRows = OrderNone, 100
		r, recorder := newTracedRig(t, p)
		r.start()
		broken := rows(1, "a", 1)
		broken.TraceParent = "00-nonsense"
		frames := []*protocol.Frame{r.post("a", 2), r.postFrame(tracedRows("a", 3)), r.postFrame(broken), r.post("b", 4), r.postFrame(tracedRows("b", 5))}
		for _, frame := range frames {
			r.settledAll(frame)
		}
		require.Len(t, recorder.Ended(), 2)
		require.Equal(t, "deliver http: attempt 1 of 3 rows: delivered, 3 delivered", told(recorder.Ended()[0]))
		require.Equal(t, "deliver http: attempt 1 of 5 rows: delivered, 5 delivered", told(recorder.Ended()[1]))
	})
}

func TestTheSpansOfAPluginThatIsKilledEndWithTheReason(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(p *process, _ *protocol.Batch) reaction {
			switch p.number {
			case 0:
				<-p.dead
			case 1:
				return reaction{ack: &protocol.Ack{ThroughSeq: 99}}
			case 2:
				p.end("", false)
			case 3, 4, 5:
				return reaction{crash: "exit status 2"}
			}
			return reaction{}
		}
		r, recorder := newTracedRig(t, pusher("http", f))
		r.start()
		r.settledAll(r.postFrame(tracedRows("a", 1)))
		var all []string
		for _, s := range recorder.Ended() {
			all = append(all, told(s))
		}
		require.Equal(t, []string{
			"deliver http: attempt 1 of 1 rows: none; error: wedged on a batch: it has acknowledged nothing for 30s (1 batch, 1 row in flight)",
			"deliver http: attempt 2 of 1 rows: none; error: protocol error: acknowledged batch 99, but only 1 were sent",
			"deliver http: attempt 2 of 1 rows: none; error: the stream ended before an acknowledgement",
			"deliver http: attempt 2 of 1 rows: none; error: exit status 2",
			"deliver http: attempt 3 of 1 rows: poison, 1 dead; error: the plugin ended 3 times in a row on this row alone: exit status 2",
		}, all)
		require.Len(t, recorder.Started(), len(all), "none is left open")
	})
}

func TestARowThatNoMessageCarriesHasASpanToo(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.limits = protocol.Limits{MaxBatchBytes: 400}
		r, recorder := newTracedRig(t, pusher("http", f))
		r.start()
		frame := tracedRows("a", 1)
		frame.Data = append(frame.Data, make([]byte, 1000)...)
		frame.Ends[0] = uint32(len(frame.Data))
		r.settledAll(r.postFrame(frame))
		require.Len(t, recorder.Ended(), 1)
		require.Contains(t, told(recorder.Ended()[0]), "rejected, 1 dead; error: the row takes")
	})
}

func TestEverySpanEndsWhateverHappens(t *testing.T) {
	in(t, func(t *testing.T) {
		var n atomic.Int32
		f := newFake(nil)
		f.behave = func(p *process, b *protocol.Batch) reaction {
			p.takes(5 * time.Millisecond)
			switch n.Add(1) % 7 {
			case 0:
				return reaction{crash: "exit status 2"}
			case 1:
				return reaction{outcomes: outcome(b, protocol.Retry, func(f *protocol.Frame, row int) bool { return row%2 == 0 })}
			}
			return reaction{}
		}
		p := pusher("http", f)
		p.RetryAttempts = 0
		r, recorder := newTracedRig(t, p)
		r.start()
		for i := range 200 {
			r.postFrame(tracedRows(fmt.Sprint("key", i%9), 1+i%15))
			if i%50 == 49 {
				p.Window = 1 + i%3
				r.apply(p)
			}
		}
		after(20 * time.Second)
		r.postFrame(tracedRows("last", 500))
		after(7 * time.Millisecond) // some are in flight
		require.NoError(t, r.halt())
		require.Greater(t, len(recorder.Started()), 30)
		require.Len(t, recorder.Ended(), len(recorder.Started()))
	})
}

func TestAFrameThatIsNotTracedCostsNothing(t *testing.T) {
	r, _ := newTracedRig(t, pusher("http", newFake(nil)))
	r.open()
	c := r.chain("http")
	b := &batch{lane: c.lanes[0]}
	for range 100 {
		b.add(piece{Frame: rows(1, "a", 1)})
	}
	frames := make([]protocol.Frame, len(b.pieces))
	for i := range frames {
		frames[i] = b.pieces[i].Frame
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { c.depart(b, frames) }))
}
