package database

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	groupJobs = 128              // changes in one transaction, at most
	groupTime = 30 * time.Second // for one such transaction
)

// lanes hold the changes that wait for a common transaction.
type lanes struct {
	mu   sync.Mutex
	open map[string]*lane // that somebody leads
}

type lane struct{ waiting []*job }

// job is one change. It is waiting, or taken by the leader of its lane, or done.
type job struct {
	fn    func(ctx context.Context, tx *Tx) error
	loose bool          // it need not be on the disk when its caller hears of it
	taken bool          // guarded by lanes.mu
	lead  chan struct{} // holds a token when its caller is to lead
	done  chan struct{}
	err   error
}

var errPanic = errors.New("a change in the same transaction panicked")

// Group runs fn in a transaction that it may share with other changes of the lane that come at the same time: they cost one
// commit, that is one wait for the disk. Each stands or falls alone (a savepoint) until the commit. It returns after the commit.
//
// fn uses the context that it is given: once begun, a change is finished, and a caller who goes away undoes nobody else's. It may
// run again, as with Write. With SQLite, all lanes are one; with PostgreSQL, put what needs the same row lock into one lane.
func (db *DB) Group(ctx context.Context, name string, fn func(ctx context.Context, tx *Tx) error) error {
	return db.group(ctx, name, fn, false)
}

// GroupUnsynced is Group for a change that a power cut may undo, though not the end of the process: SQLite commits it without a wait
// for the disk. The next commit of another change brings it there. With PostgreSQL, whose server may fall alone, it is Group.
func (db *DB) GroupUnsynced(ctx context.Context, name string, fn func(ctx context.Context, tx *Tx) error) error {
	return db.group(ctx, name, fn, db.dialect == SQLite)
}

func (db *DB) group(ctx context.Context, name string, fn func(ctx context.Context, tx *Tx) error, loose bool) error {
	if db.dialect == SQLite {
		name = ""
	}
	j := &job{fn: fn, loose: loose, lead: make(chan struct{}, 1), done: make(chan struct{})}
	l := &db.lanes
	l.mu.Lock()
	if l.open == nil {
		l.open = make(map[string]*lane)
	}
	ln, led := l.open[name]
	if !led {
		ln = &lane{}
		l.open[name] = ln
		j.lead <- struct{}{}
	}
	ln.waiting = append(ln.waiting, j)
	l.mu.Unlock()

	select {
	case <-j.done:
	case <-j.lead:
		db.lead(ctx, name, ln)
		<-j.done
	case <-ctx.Done():
		if l.leave(name, ln, j) {
			return ctx.Err()
		}
		<-j.done
	}
	return j.err
}

// leave takes a job out of the line, unless its transaction has begun.
func (l *lanes) leave(name string, ln *lane, j *job) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j.taken {
		return false
	}
	for i := range ln.waiting {
		if ln.waiting[i] == j {
			ln.waiting = append(ln.waiting[:i], ln.waiting[i+1:]...)
			break
		}
	}
	select {
	case <-j.lead:
		l.handOver(name, ln)
	default:
	}
	return true
}

// handOver lets the first who waits lead, or closes the lane.
func (l *lanes) handOver(name string, ln *lane) {
	if len(ln.waiting) == 0 {
		delete(l.open, name)
		return
	}
	ln.waiting[0].lead <- struct{}{}
}

// lead runs one transaction with what waits, its own job among it, and lets another one lead then.
func (db *DB) lead(ctx context.Context, name string, ln *lane) {
	l := &db.lanes
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupTime)
	defer cancel()
	conn, err := db.writer.Conn(ctx) // who comes while we wait for it, comes along
	l.mu.Lock()
	n := min(len(ln.waiting), groupJobs)
	jobs := ln.waiting[:n:n]
	ln.waiting = append([]*job(nil), ln.waiting[n:]...)
	loose := true
	for _, j := range jobs {
		j.taken, j.err = true, errPanic
		loose = loose && j.loose
	}
	l.mu.Unlock()
	defer func() {
		for _, j := range jobs {
			close(j.done)
		}
		l.mu.Lock()
		l.handOver(name, ln)
		l.mu.Unlock()
	}()
	if err == nil {
		err = conn.Close() // back into the pool, from where the transaction takes it
	}
	if err == nil {
		within := ctx
		if db.dialect == SQLite {
			within = context.WithoutCancel(ctx) // nothing of it waits for anybody, and each statement would have its own goroutine to watch for the end
		}
		err = db.again(ctx, func() error {
			return db.once(ctx, loose, func(tx *Tx) error { return runJobs(within, tx, jobs) })
		})
	}
	for _, j := range jobs {
		if err != nil {
			j.err = err
		}
	}
}

// runJobs gives each job its own outcome; an error is of the transaction, thus of all.
func runJobs(ctx context.Context, tx *Tx, jobs []*job) error {
	if len(jobs) == 1 { // alone, it needs no savepoint: its error undoes the transaction
		jobs[0].err = jobs[0].fn(ctx, tx)
		return jobs[0].err
	}
	for _, j := range jobs {
		if _, err := tx.ExecContext(ctx, "SAVEPOINT job"); err != nil {
			return fmt.Errorf("savepoint: %w", err)
		}
		j.err = j.fn(ctx, tx)
		if j.err != nil {
			if tx.Dialect() == Postgres && passing(j.err) {
				return j.err // all run again
			}
			if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT job"); err != nil {
				return errors.Join(j.err, fmt.Errorf("savepoint: %w", err))
			}
		}
		if _, err := tx.ExecContext(ctx, "RELEASE SAVEPOINT job"); err != nil {
			return fmt.Errorf("savepoint: %w", err)
		}
	}
	return nil
}
