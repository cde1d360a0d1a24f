package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// onStream opens a stream to a fresh process with the instance configured, and takes both away afterwards.
func (s *suite) onStream(ctx context.Context, do func(*process, *stream) error) error {
	p, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	st, err := s.deliver(ctx, p, instance)
	if err != nil {
		return err
	}
	defer st.close()
	return do(p, st)
}

func checkOutcomes(ctx context.Context, s *suite) error {
	return s.onStream(ctx, func(_ *process, st *stream) error {
		frames := s.plain("outcomes", 6)
		frames[1].OrgID, frames[1].UserID = 2, 0
		frames[2].UUID = frames[3].UUID
		frames[3].UUID += "-second"
		frames[4].Index = []int32{2, protocol.NoIndex, 0}
		if err := st.deliver(ctx, append(pack(frames[:3], st.limits, 3), pack(frames[3:], st.limits, 1)...)...); err != nil {
			return err
		}
		s.note = st.summary()
		return nil
	})
}

// summary says what became of the rows of a stream.
func (st *stream) summary() string {
	count := map[string]int{}
	for _, o := range st.outcomes {
		count[o.Class.String()]++
	}
	var words []string
	for _, c := range []protocol.Class{protocol.Retry, protocol.Throttled, protocol.Rejected, protocol.Unauthenticated, protocol.Duplicate, protocol.Skipped} {
		if n := count[c.String()]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, c))
		}
	}
	for _, o := range st.outcomes {
		if o.Message != "" && o.Class != protocol.Duplicate {
			words = append(words, fmt.Sprintf("for example %q", oneLine(o.Message)))
			break
		}
	}
	return strings.Join(words, ", ")
}

// checkOrder needs a plugin that fails a row, which a rule cannot make it do: it looks where that happens.
func checkOrder(ctx context.Context, s *suite) error {
	return s.onStream(ctx, func(_ *process, st *stream) error {
		frames := s.plain("order", 4)
		frames[1].UUID += "-other"
		frames[3].UUID += "-other"
		batches := pack(frames, st.limits, 4)
		if err := st.send(ctx, true, batches...); err != nil {
			return err
		}
		if err := st.settle(ctx); err != nil {
			return err
		}
		judged := false
		for _, batch := range batches {
			undelivered := map[string]uint64{} // uuid → position of its first row that is to come again
			for _, f := range batch {
				for row := range f.Len() {
					at := f.Position + uint64(row)
					o := st.outcomes[at]
					first, behind := undelivered[f.UUID]
					switch {
					case behind && (o.Class == protocol.Delivered || o.Class == protocol.Duplicate):
						return fail(
							fmt.Sprintf("the row at position %d to wait for the one at %d of the same uuid, which is to be sent again", at, first), o.Class.String(),
							"when ordered is set, stop delivering a uuid's rows at the first that fails, and give the rest of them RETRY",
						)
					case behind:
						judged = true
					case again(o.Class):
						undelivered[f.UUID] = at
					}
				}
			}
		}
		if !judged {
			return skipf("no row failed, so what happens to the rows behind it could not be seen")
		}
		return nil
	})
}

func checkWindow(ctx context.Context, s *suite) error {
	return s.onStream(ctx, func(p *process, st *stream) error {
		for _, batch := range pack(s.plain("window", 3), st.limits, 1) {
			if err := st.deliver(ctx, batch); err != nil {
				return during(err, "with one batch in flight")
			}
		}
		wanted := st.window
		if err := st.finish(ctx); err != nil {
			return err
		}
		full, err := s.deliver(ctx, p, instance)
		if err != nil {
			return err
		}
		defer full.close()
		full.window = wanted
		if err := full.deliver(ctx, pack(s.plain("window", 24), st.limits, 1)...); err != nil {
			return during(err, "with %d batches in flight", wanted)
		}
		if full.window != hostWindow {
			s.note = fmt.Sprintf("it asks for a window of %d", full.window)
		}
		return nil
	})
}

func checkPacks(ctx context.Context, s *suite) error {
	if !slices.Contains(s.hello.Capabilities, protocol.CapPacks) {
		return skipf("it does not say the capability %s: each batch gets a message of its own", protocol.CapPacks)
	}
	const change = "deliver and acknowledge each batch of a pack; or do not say the capability packs"
	return s.onStream(ctx, func(_ *process, st *stream) error {
		for _, frames := range [][]protocol.Frame{s.plain("packs", 2*hostWindow), s.plain("packs", 3), s.plain("packs", 1)} {
			for batches := pack(frames, st.limits, 1); len(batches) > 0; {
				n := min(len(batches), st.window)
				if err := st.sendTogether(false, batches[:n]...); err != nil {
					return addChange(err, change)
				}
				if err := st.settle(ctx); err != nil {
					return during(addChange(err, change), "with %d batches in one message", n)
				}
				batches = batches[n:]
			}
		}
		return nil
	})
}

func checkRetry(ctx context.Context, s *suite) error {
	first, second := s.plain("retry", 2), s.plain("retry", 2)
	again := append(append([]protocol.Frame{}, first...), second...)
	return s.onStream(ctx, func(p *process, st *stream) error {
		if err := st.deliver(ctx, pack(first, st.limits, 1)...); err != nil {
			return err
		}
		if err := st.send(ctx, false, pack(second, st.limits, 2)...); err != nil {
			return err
		}
		st.cancel() // before the acknowledgement: whether the rows arrived nobody knows
		for _, when := range []string{"a new stream", "a new Configure"} {
			if when == "a new Configure" {
				if err := s.configure(ctx, p, instance); err != nil {
					return during(err, "a second Configure")
				}
			}
			next, err := s.deliver(ctx, p, instance)
			if err != nil {
				return err
			}
			err = next.deliver(ctx, pack(again, st.limits, 2)...)
			summary := next.summary()
			next.close()
			if err != nil {
				return during(err, "rows that come again after %s", when)
			}
			if s.note = "whether the destination has rows twice, only it can tell"; summary != "" {
				s.note = "rows that came again: " + summary + "; " + s.note
			}
		}
		return nil
	})
}

func checkOddBytes(ctx context.Context, s *suite) error {
	return s.onStream(ctx, func(p *process, st *stream) error {
		frames := []protocol.Frame{s.frame("odd-bytes", oddRows()...), s.frame("odd-bytes", bareRows()...)}
		for i, uuid := range oddUUIDs() {
			f := s.frame("odd-bytes", `{"a":1}`, `{"a":2}`)
			f.UUID, f.Index = uuid, []int32{protocol.NoIndex, int32(i)}
			frames = append(frames, f)
		}
		last := s.frame("odd-bytes", `{"a":1}`, `{"a":2}`, `{"a":3}`)
		last.OrgID, last.UserID, last.RequestID = 1<<63, 1<<64-1, ""
		last.Index = []int32{0, protocol.NoIndex, 1<<31 - 1}
		last.ReceivedAt = time.Unix(0, 1).UTC()
		if err := st.deliver(ctx, pack(append(frames, last), st.limits, 2)...); err != nil {
			return err
		}
		s.note = st.summary()
		return s.healthy(ctx, p, instance)
	})
}

const (
	largeRow   = 16 << 20
	largeBatch = 20 << 20
)

func checkLargeBatch(ctx context.Context, s *suite) error {
	return s.onStream(ctx, func(_ *process, st *stream) error {
		limit := func(n int) int {
			if m := st.limits.MaxBatchBytes; m > 0 && m < uint64(n) {
				return int(m)
			}
			return n
		}
		many := make([]string, 5000)
		for i := range many {
			many[i] = fmt.Sprintf(`{"n":%d,"text":"one of many small rows"}`, i)
		}
		row := func(size int) string {
			const frame = `{"text":""}`
			return `{"text":"` + strings.Repeat("x", max(0, size-len(frame))) + `"}`
		}
		piece := row(limit(64 << 10))
		pieces := make([]string, largeBatch/len(piece))
		for i := range pieces {
			pieces[i] = piece
		}
		for _, c := range []struct {
			what string
			rows []string
		}{
			{"5000 rows", many},
			{fmt.Sprintf("a batch of %d MiB", largeBatch>>20), pieces},
			{fmt.Sprintf("a row of %d bytes", limit(largeRow)), []string{row(limit(largeRow))}},
		} {
			if err := st.deliver(ctx, pack([]protocol.Frame{s.frame("large-batch", c.rows...)}, st.limits, 1)...); err != nil {
				return during(addChange(err, "raise the limit of received messages to 64 MiB (gRPC's own is 4 MiB), or state max_batch_rows and max_batch_bytes in Handshake"), "%s", c.what)
			}
		}
		s.note = st.summary()
		if st.limits != (protocol.Limits{}) {
			s.note = strings.TrimPrefix(s.note+fmt.Sprintf("; within its limits of %d rows and %d bytes (0: none)", st.limits.MaxBatchRows, st.limits.MaxBatchBytes), "; ")
		}
		return nil
	})
}

// checkLogs never fails: what is too much is the operator's to say.
func checkLogs(ctx context.Context, s *suite) error {
	return s.onStream(ctx, func(p *process, st *stream) error {
		batches := pack(s.plain("logs", 50), st.limits, 1)
		before := p.stderr.count()
		if err := st.deliver(ctx, batches...); err != nil {
			return err
		}
		_, stray := p.stdout.noise()
		s.note = fmt.Sprintf("%d lines on standard error and %d on standard output while %d batches were delivered", p.stderr.count()-before, stray, len(batches))
		if lines := p.stderr.count() - before; lines > 10*len(batches) {
			s.note += ": a host drops lines of a plugin that floods its log; log a summary, or at level debug"
		}
		return nil
	})
}
