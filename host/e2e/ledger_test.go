package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// rowID names one row for all time: the uuid carries the run and the client, the sequence rises within it.
type rowID struct {
	uuid string
	seq  int
}

// ledger notes what became of each request at the gateway's door.
type ledger struct {
	mu         sync.Mutex
	accepted   map[rowID]bool // answered 202
	statuses   map[int]int    // answers by status
	unanswered int            // rows of requests that got no answer: they may or may not have been kept
	wrong      []string       // answers that contradict the contract
}

func newLedger() *ledger {
	return &ledger{accepted: map[rowID]bool{}, statuses: map[int]int{}}
}

func (l *ledger) answered(uuid string, from, rows int, a rig.Answer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.unanswered += rows
		return
	}
	l.statuses[a.Status]++
	if a.Status != 202 {
		if (a.Status == 429 || a.Status == 503) && a.Header.Get("Retry-After") == "" {
			l.wrong = append(l.wrong, fmt.Sprintf("%d without Retry-After: %s", a.Status, a.Body))
		}
		return
	}
	var body struct {
		Success bool
		Data    struct {
			DeliveryID string `json:"delivery_id"`
			Rows       int    `json:"rows"`
		}
	}
	if err := json.Unmarshal(a.Body, &body); err != nil || !body.Success || body.Data.Rows != rows ||
		!strings.HasPrefix(body.Data.DeliveryID, "dlv-") {
		l.wrong = append(l.wrong, fmt.Sprintf("202 for %d rows with body %s", rows, a.Body))
	}
	for i := range rows {
		l.accepted[rowID{uuid, from + i}] = true
	}
}

// count is the number of rows accepted so far.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// answers is how many requests were answered with the status.
func (l *ledger) answers(status int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.statuses[status]
}

// settle checks the ledger against what arrived and what lies in the dead letters of one pusher: nothing accepted is
// missing, nothing is in both places, nothing arrived twice, and rows of a uuid are in order. It prints the counts.
func (l *ledger) settle(t *testing.T, pusher string, arrived []arrival, dead []rig.DeadLetter) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Empty(t, l.wrong, "answers against the contract")

	seen := make(map[rowID]int, len(arrived))
	positions := make(map[uint64]int, len(arrived))
	last := map[string]int{}
	var disorder []string
	for _, a := range arrived {
		id := a.id(t)
		seen[id]++
		if a.Position > 0 { // an HTTP destination is told none
			positions[a.Position]++
		}
		if before, ok := last[id.uuid]; ok && id.seq <= before && seen[id] == 1 {
			disorder = append(disorder, fmt.Sprintf("%s: %d after %d", id.uuid, id.seq, before))
		}
		last[id.uuid] = max(last[id.uuid], id.seq)
	}
	buried := map[rowID]bool{}
	for _, d := range dead {
		buried[rowOf(t, d.UUID, d.Data)] = true
	}

	var lost, twice, both []string
	for id := range l.accepted {
		if seen[id] == 0 && !buried[id] {
			lost = append(lost, fmt.Sprint(id))
		}
	}
	for id, n := range seen {
		if n > 1 {
			twice = append(twice, fmt.Sprintf("%v ×%d", id, n))
		}
		if buried[id] {
			both = append(both, fmt.Sprint(id))
		}
	}
	for p, n := range positions {
		if n > 1 {
			twice = append(twice, fmt.Sprintf("position %d ×%d", p, n))
		}
	}
	t.Logf("%s: %d rows accepted, %d delivered, %d dead-lettered, %d without an answer; answers by status %v",
		pusher, len(l.accepted), len(seen), len(buried), l.unanswered, l.statuses)
	require.NotEmpty(t, l.accepted, "the load got nothing accepted: this proves nothing")
	require.Empty(t, few(lost), "accepted rows that are neither delivered nor dead-lettered (%d)", len(lost))
	require.Empty(t, few(twice), "rows that arrived more than once (%d)", len(twice))
	require.Empty(t, few(both), "rows that are delivered and dead-lettered (%d)", len(both))
	require.Empty(t, few(disorder), "rows out of the order of their uuid (%d)", len(disorder))
	// What arrived beyond the accepted rows was sent and lost its answer; never something that nobody sent.
	require.LessOrEqual(t, len(seen)+len(buried), len(l.accepted)+l.unanswered, "more rows arrived than were sent")
}

// merge adds the entries of another ledger.
func (l *ledger) merge(o *ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.Copy(l.accepted, o.accepted)
	for s, n := range o.statuses {
		l.statuses[s] += n
	}
	l.unanswered += o.unanswered
	l.wrong = append(l.wrong, o.wrong...)
}

func few(all []string) []string {
	slices.Sort(all)
	return all[:min(len(all), 10)]
}
