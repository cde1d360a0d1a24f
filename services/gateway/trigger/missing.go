package trigger

import (
	"fmt"
	"sync"
	"time"
)

// missing remembers since when the tower has had no trigger for a uuid. Once it was looked for in vain long enough, each
// further row costs one request and no patience: it is remembered for as long again after the last answer.
type missing struct {
	patience time.Duration

	mu    sync.Mutex
	since map[string]spell
}

type spell struct{ first, last time.Time }

// maxMissing bounds what is remembered: a client that makes uuids up must not fill the memory.
const maxMissing = 100_000

// note takes an answer and says what it means for the rows.
func (m *missing) note(uuid string, why *unfitError, now time.Time) *NotFound {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, known := m.since[uuid]
	if !known || now.Sub(s.last) > m.patience+time.Minute {
		s = spell{first: now}
	}
	s.last = now
	if !known && len(m.since) >= maxMissing {
		m.purge(now)
	}
	if m.since == nil {
		m.since = make(map[string]spell)
	}
	m.since[uuid] = s
	e := &NotFound{Code: CodeMissing, Until: s.first.Add(m.patience)}
	e.Final = !now.Before(e.Until)
	what := "the control tower has no trigger for this uuid"
	if why.result == resultInvalid {
		e.Code, what = CodeInvalid, "the control tower has no fitting trigger for this uuid"
	}
	e.Reason = fmt.Sprintf("%s: %s, for %s", what, why.what, now.Sub(s.first).Round(time.Second))
	return e
}

func (m *missing) forget(uuid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.since, uuid)
}

// purge makes room: what is old goes, else any half.
func (m *missing) purge(now time.Time) {
	for uuid, s := range m.since {
		if now.Sub(s.last) > m.patience+time.Minute {
			delete(m.since, uuid)
		}
	}
	for uuid := range m.since {
		if len(m.since) <= maxMissing/2 {
			return
		}
		delete(m.since, uuid)
	}
}
