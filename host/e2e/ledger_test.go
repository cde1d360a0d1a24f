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

// settle checks the ledger against what arrived and what lies in the dead letters of one pusher, and prints the counts.
func (l *ledger) settle(t *testing.T, pusher string, arrived []arrival, dead []rig.DeadLetter) {
	t.Helper()
	buried := make([]rowID, len(dead))
	for i, d := range dead {
		buried[i] = rowOf(t, d.UUID, d.Data)
	}
	l.settleRows(t, pusher, deliveries(t, arrived), buried)
}

// deliveries are the rows of the load among what arrived, in its order.
func deliveries(t *testing.T, arrived []arrival) []delivery {
	t.Helper()
	all := make([]delivery, len(arrived))
	for i, a := range arrived {
		all[i] = delivery{a.id(t), a.Position}
	}
	return all
}

// settleRows is settle for a destination of any form.
func (l *ledger) settleRows(t *testing.T, pusher string, delivered []delivery, buried []rowID) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%s: %d rows accepted, %d delivered, %d dead-lettered, %d without an answer; answers by status %v",
		pusher, len(l.accepted), len(delivered), len(buried), l.unanswered, l.statuses)
	require.NotEmpty(t, l.accepted, "the load got nothing accepted: this proves nothing")
	require.Empty(t, l.wrong, "answers against the contract")
	for fault, rows := range l.faults(delivered, buried) {
		require.Empty(t, few(rows), "%s (%d)", fault, len(rows))
	}
}

// delivery is one row at the destination; position 0: the destination is told none.
type delivery struct {
	rowID
	position uint64
}

// faults are the promises: nothing accepted is missing, nothing is in both places, nothing arrived twice, rows of a uuid are
// in order, and nothing arrived that nobody sent. The keys are the faults' names, the values the rows; empty when all is
// well. The caller holds mu.
func (l *ledger) faults(delivered []delivery, buried []rowID) map[string][]string {
	found := map[string][]string{}
	note := func(fault string, what any) { found[fault] = append(found[fault], fmt.Sprint(what)) }

	seen := make(map[rowID]bool, len(delivered))
	positions := make(map[uint64]bool, len(delivered))
	last := map[string]int{}
	for _, d := range delivered {
		if seen[d.rowID] || d.position > 0 && positions[d.position] {
			note("rows that arrived more than once", d)
		} else if before, ok := last[d.uuid]; ok && d.seq < before {
			note("rows out of the order of their uuid", fmt.Sprintf("%v after %d", d, before))
		}
		seen[d.rowID], positions[d.position] = true, true
		last[d.uuid] = max(last[d.uuid], d.seq)
	}
	dead := make(map[rowID]bool, len(buried))
	for _, id := range buried {
		if dead[id] {
			note("rows with two dead letters", id)
		}
		if dead[id] = true; seen[id] {
			note("rows that are delivered and dead-lettered", id)
		}
	}
	beyond := 0
	for id := range l.accepted {
		if !seen[id] && !dead[id] {
			note("accepted rows that are neither delivered nor dead-lettered", id)
		}
	}
	for _, settled := range []map[rowID]bool{seen, dead} {
		for id := range settled {
			if !l.accepted[id] {
				beyond++ // its request lost the answer; there are only so many of those
			}
		}
	}
	if beyond > l.unanswered {
		note("more rows arrived than were sent", beyond-l.unanswered)
	}
	return found
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

func TestTheLedgerNoticesEachFault(t *testing.T) {
	at := func(seq int, position uint64) delivery { return delivery{rowID{"u", seq}, position} }
	l := newLedger()
	for seq := range 3 {
		l.accepted[rowID{"u", seq}] = true
	}
	l.unanswered = 1
	require.Empty(t, l.faults([]delivery{at(0, 10), at(1, 11), at(2, 12)}, nil))
	require.Empty(t, l.faults([]delivery{at(0, 10), at(2, 12), at(3, 13)}, []rowID{{"u", 1}}), "row 3 lost its answer")

	for fault, c := range map[string]struct {
		delivered []delivery
		buried    []rowID
	}{
		"accepted rows that are neither delivered nor dead-lettered": {[]delivery{at(0, 10), at(2, 12)}, nil},
		"rows that arrived more than once":                           {[]delivery{at(0, 10), at(1, 11), at(1, 11), at(2, 12)}, nil},
		"rows out of the order of their uuid":                        {[]delivery{at(1, 11), at(0, 10), at(2, 12)}, nil},
		"rows that are delivered and dead-lettered":                  {[]delivery{at(0, 10), at(1, 11), at(2, 12)}, []rowID{{"u", 1}}},
		"rows with two dead letters":                                 {[]delivery{at(0, 10), at(1, 11)}, []rowID{{"u", 2}, {"u", 2}}},
		"more rows arrived than were sent":                           {[]delivery{at(0, 10), at(1, 11), at(2, 12), at(3, 13), at(4, 14)}, nil},
	} {
		found := l.faults(c.delivered, c.buried)
		require.Len(t, found, 1, fault)
		require.NotEmpty(t, found[fault], "%s: %v", fault, found)
	}
	require.NotEmpty(t, l.faults([]delivery{at(0, 10), at(1, 10), at(2, 12)}, nil), "two rows with one position")
}
