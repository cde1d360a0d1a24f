package database

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

const (
	// checkpointAt is how many pages of the log may not be in the file yet.
	checkpointAt = 1000
	// longLog is how many pages the log has when a commit makes the checkpoint, should all this fail.
	longLog = "4000"
	// betweenLooks is how long a look at the log is not repeated.
	betweenLooks = 50 * time.Millisecond
)

// checkpoints copies what SQLite's log holds into the file, beside the commits. SQLite itself does it within the commit that made the log
// long, whose caller would wait for some thousand writes and the disk.
//
// Before 3.51.3, SQLite could damage a file when one connection wrote at the moment another one did this.
type checkpoints struct {
	pool   *sql.DB // of a connection of its own
	writer *sql.DB
	wrote  chan struct{} // holds a token when the log may have grown
	stop   context.CancelFunc
	done   chan struct{}
}

func startCheckpoints(pool, writer *sql.DB) *checkpoints {
	ctx, stop := context.WithCancel(context.Background())
	c := &checkpoints{pool: pool, writer: writer, wrote: make(chan struct{}, 1), stop: stop, done: make(chan struct{})}
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
		c.look(ctx)
		select {
		case <-time.After(betweenLooks):
		case <-ctx.Done():
			return
		}
	}
}

// look makes a checkpoint when the log is long enough: of nearly all beside the commits, and of what came meanwhile when nobody else has the
// writer. Then the log begins again, on blocks that the disk has ready; while a commit is under way, it would not. An error is no loss:
// the log has everything, and grows until it succeeds; as with SQLite's own checkpoints.
func (c *checkpoints) look(ctx context.Context) {
	if left, err := checkpoint(ctx, c.pool, "NOOP"); err != nil || left < checkpointAt {
		return
	}
	if _, err := checkpoint(ctx, c.pool, "PASSIVE"); err == nil {
		_, _ = checkpoint(ctx, c.writer, "PASSIVE")
	}
}

// checkpoint returns how many pages of the log are not in the file. ctx bounds the wait for the connection.
func checkpoint(ctx context.Context, pool *sql.DB, mode string) (left int, err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return 0, err
	}
	var busy, pages, copied int
	err = conn.QueryRowContext(context.WithoutCancel(ctx), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &copied)
	return pages - copied, errors.Join(err, conn.Close())
}

func (c *checkpoints) close() error {
	c.stop()
	<-c.done
	return c.pool.Close()
}
