package database

import (
	"context"
	"database/sql"
	"time"
)

const (
	// checkpointAt is how many pages of the log may not be in the file yet.
	checkpointAt = 1000
	// longLog is how many pages the log has when a commit does it after all: only from its start can the log be written again, and it
	// gets there when no commit comes meanwhile.
	longLog = "4000"
	// betweenLooks is how long a look at the log is not repeated.
	betweenLooks = 50 * time.Millisecond
)

// checkpoints copies what SQLite's log holds into the file, on a connection of its own. SQLite itself would do it within the commit that
// made the log long, whose caller would wait for some thousand writes and the disk.
//
// Before 3.51.3, SQLite could damage a file when one connection wrote at the moment another one did this.
type checkpoints struct {
	pool  *sql.DB
	wrote chan struct{} // holds a token when the log may have grown
	stop  context.CancelFunc
	done  chan struct{}
}

func startCheckpoints(pool *sql.DB) *checkpoints {
	ctx, stop := context.WithCancel(context.Background())
	c := &checkpoints{pool: pool, wrote: make(chan struct{}, 1), stop: stop, done: make(chan struct{})}
	go c.run(ctx)
	return c
}

// committed is to be called after a commit.
func (c *checkpoints) committed() {
	select {
	case c.wrote <- struct{}{}:
	default:
	}
}

func (c *checkpoints) run(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case <-c.wrote:
		case <-ctx.Done():
			return
		}
		c.look(context.WithoutCancel(ctx))
		select {
		case <-time.After(betweenLooks):
		case <-ctx.Done():
			return
		}
	}
}

// look makes a checkpoint when the log is long enough. An error is no loss: the log has everything, and grows until it succeeds; as with
// SQLite's own checkpoints.
func (c *checkpoints) look(ctx context.Context) {
	var busy, pages, copied int
	if err := c.pool.QueryRowContext(ctx, "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &pages, &copied); err == nil && pages-copied >= checkpointAt {
		_ = c.pool.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied)
	}
}

func (c *checkpoints) close() error {
	c.stop()
	<-c.done
	return c.pool.Close()
}
