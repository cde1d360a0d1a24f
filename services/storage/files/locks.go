package files

import (
	"context"
	"errors"
	"sync"
	"time"
)

// locks let one request at a time work on an upload. A client that comes back has given up its request before, of which the host may
// not know yet: the newer request sends the older one away.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	leave func()
	free  chan struct{}
}

var errLocked = errors.New("another request works on the upload")

// take waits for the upload; leave is called when another request wants it. release must be called.
func (l *locks) take(ctx context.Context, id string, wait time.Duration, leave func()) (release func(), err error) {
	late := time.NewTimer(wait)
	defer late.Stop()
	for {
		l.mu.Lock()
		other := l.held[id]
		if other == nil {
			mine := &lock{leave, make(chan struct{})}
			if l.held == nil {
				l.held = map[string]*lock{}
			}
			l.held[id] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, id)
				l.mu.Unlock()
				close(mine.free)
			}, nil
		}
		l.mu.Unlock()
		other.leave()
		select {
		case <-other.free:
		case <-late.C:
			return nil, errLocked
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
