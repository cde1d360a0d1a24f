package gateway

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/journal"
)

const keyHeader = "Idempotency-Key"

func TestARepeatedRequestGetsTheFirstAnswerAlsoAfterARestart(t *testing.T) {
	dir := t.TempDir()
	body := `{"uuid":"u","rows":[{"data":{"a":1}},{"data":{"Bad key":2}}]}`
	r := newRig(t, func(o *Options, _ *pushers) { o.Journal = openJournal(t, dir) })
	first := r.post("/data/batch", body, keyHeader, "k 1")
	first.accepted()
	require.Equal(t, string(first.body), string(r.post("/data/batch", body, keyHeader, "k 1").body))
	require.Equal(t, string(first.body), string(r.post("/api/v1/gateway/data/batch?wait=1ms", body, keyHeader, "k 1").body), "another mount is the same route")
	require.Len(t, r.pushers.accepted, 1)
	require.NoError(t, r.journal.Close())

	again := newRig(t, func(o *Options, _ *pushers) { o.Journal = openJournal(t, dir) })
	require.Equal(t, string(first.body), string(again.post("/data/batch", body, keyHeader, "k 1").body))
	require.Empty(t, again.pushers.accepted)
	require.Equal(t, keyHeader, again.post("/data/batch", body+" ", keyHeader, "k 1").refused(422).Details.Field)
}

func TestAKeyBelongsToOneOrgAndOneRoute(t *testing.T) {
	r := newRig(t)
	first := r.post("/data", oneRow, keyHeader, "k").accepted()
	other := r.post("/data", oneRow, keyHeader, "k", "X-Org-ID", "2").accepted()
	require.NotEqual(t, first.DeliveryID, other.DeliveryID)
	r.post("/data/batch", `{"uuid":"u","rows":[{"data":{}}]}`, keyHeader, "k").accepted()
	require.Len(t, r.pushers.accepted, 3)
}

func TestTheUUIDOfLinesIsPartOfTheRequest(t *testing.T) {
	r := newRig(t)
	lines := []string{"Content-Type", "application/x-ndjson", keyHeader, "k"}
	r.post("/data/batch?uuid=a", `{"data":{}}`, lines...).accepted()
	r.post("/data/batch?uuid=a&wait=1ms", `{"data":{}}`, lines...).accepted()
	r.post("/data/batch?uuid=b", `{"data":{}}`, lines...).refused(422)
	require.Len(t, r.pushers.accepted, 1)
}

// released is a journal that has let everything go.
type released struct{ journal.Journal }

func (released) Lookup(context.Context, uint64) (*journal.Record, error) { return nil, journal.ErrGone }

func TestARepetitionShowsWhenTheRowsCameAlsoOnceTheJournalHasLetThemGo(t *testing.T) {
	r := newRig(t, func(o *Options, p *pushers) {
		o.Journal = released{openJournal(t, t.TempDir())}
		p.progress = func(context.Context) []delivery.Progress {
			return []delivery.Progress{{Name: "file", State: "delivered", Delivered: 1}}
		}
	})
	first := data[DeliveryState](r.post("/data?wait=5s", oneRow, keyHeader, "k"))
	require.Equal(t, first, data[DeliveryState](r.post("/data?wait=5s", oneRow, keyHeader, "k")))
}

// slow is a journal whose appends wait for the test.
type slow struct {
	journal.Journal
	entered chan struct{}
	leave   chan struct{}
}

func (s slow) Append(ctx context.Context, r *journal.Record) (uint64, error) {
	s.entered <- struct{}{}
	<-s.leave
	return s.Journal.Append(ctx, r)
}

func TestARequestWhoseKeyIsStillRunningConflicts(t *testing.T) {
	s := slow{entered: make(chan struct{}, 1), leave: make(chan struct{})}
	r := newRig(t, func(o *Options, _ *pushers) {
		s.Journal = openJournal(t, t.TempDir())
		o.Journal = s
	})
	first := make(chan answer, 1)
	go func() { first <- r.post("/data", oneRow, keyHeader, "k") }()
	<-s.entered
	require.Contains(t, r.post("/data", oneRow, keyHeader, "k").refused(409).Message, "still running")
	close(s.leave)
	id := (<-first).accepted().DeliveryID
	require.Equal(t, id, r.post("/data", oneRow, keyHeader, "k").accepted().DeliveryID)
}

func TestARequestThatFailedMayUseItsKeyAgain(t *testing.T) {
	r := newRig(t)
	r.post("/data", `{"uuid":"u"}`, keyHeader, "k").refused(422)
	r.pushers.admit = &delivery.BacklogError{Pusher: "file"}
	r.post("/data", oneRow, keyHeader, "k").refused(429)
	r.pushers.admit = nil
	r.post("/data", oneRow, keyHeader, "k").accepted()
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	r := newRig(t)
	for _, bad := range []string{strings.Repeat("k", 256), "ü"} {
		require.Equal(t, keyHeader, r.post("/data", oneRow, keyHeader, bad).refused(400).Details.Field)
	}
	r.post("/data", oneRow, keyHeader, strings.Repeat("k", 255)).accepted()
}

func TestControlRoutesKeepTheirAnswersForAKey(t *testing.T) {
	r := newRig(t)
	path := "/api/v1/gateway/pushers/file/pause"
	first := r.post(path, "", keyHeader, "k")
	require.Equal(t, 200, first.status)
	require.Equal(t, string(first.body), string(r.post(path, "", keyHeader, "k").body))
	require.Equal(t, []string{"pause file"}, r.pushers.steered, "done once")
	r.post("/api/v1/gateway/pushers/http/pause", "", keyHeader, "k").refused(422)
	r.post("/api/v1/gateway/pushers/none/pause", "", keyHeader, "k2").refused(404)
	r.post("/api/v1/gateway/pushers/http/pause", "", keyHeader, "k2")
	require.Equal(t, []string{"pause file", "pause http"}, r.pushers.steered)
}
