package gateway

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/api"
)

const (
	// smallBody: bodies up to this size share pooled buffers; larger ones are allocated and given back at once.
	smallBody = 512 << 10
	// largeBudget is how many bytes of large bodies are in memory together; further ones wait.
	largeBudget = 32 << 20
	// budgetWait is how long a large body waits for memory before its client is told to come again.
	budgetWait = 10 * time.Second
	// keptParser is how much memory a pooled parser may hold.
	keptParser = 128 << 10
)

// memory lends what a data request needs: a buffer for the body, a parser, a record.
type memory struct {
	pool   sync.Pool // *loan
	budget *semaphore.Weighted
}

// loan is the memory of one request.
type loan struct {
	body   []byte
	parser intake.Parser
	record journal.Record
	answer []byte
	large  int64 // bytes taken from the budget
}

func newMemory(maxBody int64) *memory {
	return &memory{budget: semaphore.NewWeighted(max(largeBudget, maxBody))}
}

func (m *memory) borrow() *loan {
	if l, _ := m.pool.Get().(*loan); l != nil {
		return l
	}
	return &loan{body: make([]byte, 0, 4096)}
}

// reserve waits for size bytes of the budget for large bodies. Error: 503 when there are none for a while.
func (m *memory) reserve(ctx context.Context, l *loan, size int64) error {
	wait, cancel := context.WithTimeout(ctx, budgetWait)
	defer cancel()
	if err := m.budget.Acquire(wait, size); err != nil {
		return api.Unavailable(time.Second, "Too many large bodies are being read at once")
	}
	l.large = size
	return nil
}

// freeBody lets go of the body early; the parser's lists stay.
func (m *memory) freeBody(l *loan) {
	if l.large > 0 {
		m.budget.Release(l.large)
		l.large = 0
	}
	if cap(l.body) > smallBody+intake.Pad {
		l.body = nil
	}
	l.record.Data = nil // both share the body's memory
	l.parser.Drop()
}

func (m *memory) giveBack(l *loan) {
	m.freeBody(l)
	if l.parser.Size() > keptParser {
		l.parser = intake.Parser{}
	}
	l.record = journal.Record{}
	m.pool.Put(l)
}
