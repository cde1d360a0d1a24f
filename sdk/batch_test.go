package sdk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func batchOf(positions ...uint64) *Batch {
	b := &Batch{}
	for _, p := range positions {
		b.Frames = append(b.Frames, protocol.Frame{UUID: "u", Position: p, Data: []byte(`{}{}{}`), Ends: []uint32{2, 4, 6}, Index: []int32{4, protocol.NoIndex, 0}})
	}
	return b
}

func TestSilenceMeansDelivered(t *testing.T) {
	require.Empty(t, batchOf(10, 20).finish(nil))
}

func TestTheLastWordAboutARowCounts(t *testing.T) {
	b := batchOf(10, 20)
	rows := slices.Collect(b.Rows())
	require.Len(t, rows, 6)
	require.Equal(t, b.Len(), len(rows))
	b.Fail(rows[1], errors.New("first"))
	b.Reject(rows[1], "bad", errors.New("second"))
	b.Fail(rows[2], errors.New("taken back"))
	b.Fail(rows[2], nil)
	b.Skip(rows[3], "not mine")
	b.Duplicate(rows[5])
	require.Equal(t, []Outcome{
		{Position: 10, Row: 1, Class: Rejected, Code: "bad", Message: "second"},
		{Position: 20, Row: 0, Class: Skipped, Code: "skipped", Message: "not mine"},
		{Position: 20, Row: 2, Class: Duplicate, Code: "duplicate"},
	}, b.finish(nil))
}

func TestAReturnedErrorAppliesToRowsOfWhichNothingWasSaid(t *testing.T) {
	b := batchOf(10)
	rows := slices.Collect(b.Rows())
	b.Duplicate(rows[0])
	b.Fail(rows[1], nil) // delivered, said aloud
	require.Equal(t, []Outcome{
		{Position: 10, Row: 0, Class: Duplicate, Code: "duplicate"},
		{Position: 10, Row: 2, Class: Throttled, Code: "throttled", Message: "send: busy", RetryAfter: time.Minute},
	}, b.finish(fmt.Errorf("send: %w", Throttle(time.Minute, errors.New("busy")))))
}

func TestRowsBehindAFailedOneOfTheirUUIDWaitWithIt(t *testing.T) {
	b := batchOf(10, 20, 30)
	b.Frames[1].UUID = "other"
	b.Ordered = true
	var tried []uint64
	for row := range b.Rows() {
		tried = append(tried, row.Position())
		switch row.Position() {
		case 11:
			b.Fail(row, errors.New("busy"))
		case 21:
			b.Reject(row, "bad", errors.New("never")) // settled: nothing waits for it
		}
	}
	require.Equal(t, []uint64{10, 11, 20, 21, 22}, tried)
	again := map[uint64]string{}
	for _, o := range b.finish(nil) {
		if o.Class == Retry {
			again[o.Position+uint64(o.Row)] = o.Code
		}
	}
	require.Equal(t, map[uint64]string{11: "error", 12: "not_sent", 30: "not_sent", 31: "not_sent", 32: "not_sent"}, again)
}

func TestWithoutOrderEveryRowIsTried(t *testing.T) {
	b := batchOf(10, 20)
	tried := 0
	for row := range b.Rows() {
		tried++
		b.Fail(row, errors.New("busy"))
	}
	require.Equal(t, 6, tried)
}

func TestARowThatWasDeliveredAfterAllHoldsUpNoOther(t *testing.T) {
	b := batchOf(10)
	b.Ordered = true
	tried := 0
	for row := range b.Rows() {
		tried++
		b.Fail(row, errors.New("first try"))
		b.Fail(row, nil)
	}
	require.Equal(t, 3, tried)
	require.Empty(t, b.finish(nil))
}

// Another goroutine may bring a row home after all when the rows behind it were passed over already.
func TestARowThatWaitsHoldsUpThoseBehindItAlsoWhenItsReasonIsGone(t *testing.T) {
	b := batchOf(10, 20)
	b.Frames[1].UUID = "other"
	b.Ordered = true
	next, stop := iter.Pull(b.Rows())
	defer stop()
	first, _ := next()
	second, _ := next()
	b.Fail(second, errors.New("busy"))
	b.Fail(first, errors.New("busy"))
	b.Fail(first, nil)
	row, _ := next()
	require.Equal(t, uint64(20), row.Position(), "row 12 waits for row 11")
	b.Fail(second, nil)
	var again []uint64
	for row := range b.Rows() {
		if row.UUID() == "u" {
			b.Fail(row, nil)
		}
	}
	for _, o := range b.finish(nil) {
		again = append(again, o.Position+uint64(o.Row))
	}
	require.Empty(t, again)
}

func TestErrorsCarryTheirClass(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		err   error
		class Class
		code  string
	}{
		{boom, Retry, "error"},
		{fmt.Errorf("post: %w", context.DeadlineExceeded), Retry, "timeout"},
		{Permanent("http_422", boom), Rejected, "http_422"},
		{fmt.Errorf("x: %w", BadCredentials("http_401", boom)), Unauthenticated, "http_401"},
		{RetryIn(time.Second, "", boom), Retry, "error"},
		{&Error{Class: protocol.Poison, Err: boom}, Retry, "error"},
		{&Error{Class: protocol.Delivered, Code: "odd"}, Retry, "odd"},
		{errors.Join(boom, Permanent("a", boom)), Rejected, "a"},
	} {
		got := outcomeOf(c.err)
		require.Equal(t, c.class, got.Class, "%v", c.err)
		require.Equal(t, c.code, got.Code, "%v", c.err)
		require.NotEmpty(t, got.Message)
	}
}

func TestRowsOfAnotherBatchAreIgnored(t *testing.T) {
	old, b := batchOf(10), batchOf(10)
	for row := range old.Rows() {
		b.Fail(row, errors.New("stale"))
	}
	b.Fail(Row{}, errors.New("zero"))
	require.Empty(t, b.finish(nil))
	for row := range b.Rows() {
		b.Fail(row, errors.New("too late"))
	}
	require.Empty(t, b.outcomes)
}

func TestOutcomesMayBeSaidFromManyGoroutines(t *testing.T) {
	b := batchOf(10, 20, 30, 40)
	var wg sync.WaitGroup
	for row := range b.Rows() {
		wg.Go(func() { b.Reject(row, "no", nil) })
	}
	wg.Wait()
	require.Len(t, b.finish(nil), 12)
}

func TestARowKnowsWhatTheClientSent(t *testing.T) {
	rows := slices.Collect(batchOf(10).Rows())
	index, ok := rows[0].Index()
	require.True(t, ok)
	require.Equal(t, 4, index)
	_, ok = rows[1].Index()
	require.False(t, ok)
	require.Equal(t, uint64(12), rows[2].Position())
	require.Equal(t, "u", rows[2].UUID())
	require.Equal(t, `{}`, string(rows[2].JSON()))
}

func TestProblemsOfOpenAreNamed(t *testing.T) {
	boom := errors.New("boom")
	require.Equal(t, []protocol.ConfigProblem{{Reason: "boom"}}, problemsOf(boom))
	require.Equal(t, []protocol.ConfigProblem{{Field: "path", Reason: "boom"}}, problemsOf(FieldError("path", boom)))
	require.Equal(t, []protocol.ConfigProblem{{Field: "path", Reason: "open: path: boom"}}, problemsOf(fmt.Errorf("open: %w", FieldError("path", boom))))
	require.Equal(t, []protocol.ConfigProblem{{Field: "a", Reason: "boom"}, {Field: "b", Reason: "boom"}, {Reason: "boom"}},
		problemsOf(errors.Join(FieldError("a", boom), FieldError("b", boom), boom)))
	require.NoError(t, FieldError("a", nil))
}
