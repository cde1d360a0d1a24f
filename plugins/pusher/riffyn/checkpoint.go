package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // driver "sqlite"

	"github.com/rivergate/rivergate/sdk"
)

// checkpoint knows how far each row is, over crashes: a small SQLite database. The API has no idempotency key, so what is
// not known here is written again.
//
//	begin      the keys are about to be appended    write, rows
//	appended   they are, these are the events       event_group, event
//	done       all values of these rows are there   done
//	forget     they were not appended               (gone)
type checkpoint struct {
	db     *sql.DB
	lock   *os.File
	pruned time.Time
}

const schema = `
CREATE TABLE IF NOT EXISTS writes (
	id          INTEGER PRIMARY KEY,
	experiment  TEXT NOT NULL,
	activity    TEXT NOT NULL,
	run         TEXT NOT NULL,
	resource    TEXT NOT NULL,
	property    TEXT NOT NULL,
	event_group TEXT NOT NULL DEFAULT '', -- empty: the keys may or may not have been appended
	sent_at     INTEGER NOT NULL,         -- Unix milliseconds
	seen_at     INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS writes_run ON writes (run);
CREATE INDEX IF NOT EXISTS writes_seen_at ON writes (seen_at);
CREATE TABLE IF NOT EXISTS rows (
	position INTEGER PRIMARY KEY,
	print    INTEGER NOT NULL,            -- of org, uuid and instant: another journal counts from the beginning
	write    INTEGER NOT NULL REFERENCES writes (id) ON DELETE CASCADE,
	number   INTEGER NOT NULL,            -- in the write
	key      TEXT NOT NULL,
	event    TEXT NOT NULL DEFAULT '',
	done     INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS rows_write ON rows (write, number);
PRAGMA user_version = 1;
`

// maxRows bounds the rows that are remembered although they are done.
const maxRows = 1_000_000

// pruneEvery is how often what is old is taken out.
const pruneEvery = 10 * time.Minute

// errLocked: another process serves this instance, perhaps an older one that is still finishing.
var errLocked = errors.New("another process still writes this checkpoint")

// write is keys that were appended together, or are about to be.
type write struct {
	id                 int64
	to                 target
	resource, property string
	group              string // empty: nobody knows whether they were appended
	sentAt             time.Time
	keys               []string // of all its rows; filled by load
}

// known is what the checkpoint has of a row.
type known struct {
	write *write
	event string
	done  bool
}

func openCheckpoint(ctx context.Context, path string) (c *checkpoint, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	defer func() {
		if err != nil {
			_ = lock.Close() // nothing was written to it
		}
	}()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "cache_size(-1024)", "foreign_keys(1)",
		"journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(16777216)"}}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("open checkpoint %s: %w", path, err), db.Close())
	}
	return &checkpoint{db: db, lock: lock}, nil
}

// close gives the lock up last.
func (c *checkpoint) close() error { return errors.Join(c.db.Close(), c.lock.Close()) }

// print tells rows of different journals apart that have the same position.
func print(row sdk.Row) int64 {
	h := fnv.New64a()
	var number [16]byte
	binary.BigEndian.PutUint64(number[:], row.OrgID())
	binary.BigEndian.PutUint64(number[8:], uint64(row.ReceivedAt().UnixMilli())) // a dead letter keeps milliseconds
	_, _ = h.Write(number[:])                                                    // never fails
	_, _ = h.Write([]byte(row.UUID()))
	return int64(h.Sum64())
}

// find returns what is known of the rows, by position, and notes that they were seen.
func (c *checkpoint) find(ctx context.Context, records []*record, now time.Time) (map[uint64]known, error) {
	prints := make(map[uint64]int64, len(records))
	positions := make([]uint64, len(records))
	for i, r := range records {
		positions[i] = r.row.Position()
		prints[positions[i]] = print(r.row)
	}
	list, err := json.Marshal(positions)
	if err != nil {
		return nil, err
	}
	rows, err := c.db.QueryContext(ctx, `SELECT r.position, r.print, r.event, r.done, w.id, w.experiment, w.activity, w.run, w.resource, w.property, w.event_group, w.sent_at, w.seen_at
		FROM json_each(?) p JOIN rows r ON r.position = p.value JOIN writes w ON w.id = r.write`, string(list))
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	defer rows.Close()
	found, writes, stale := map[uint64]known{}, map[int64]*write{}, []int64{}
	for rows.Next() {
		var position uint64
		var k known
		var w write
		var mark, sent, seen int64
		if err := rows.Scan(&position, &mark, &k.event, &k.done, &w.id, &w.to.experiment, &w.to.activity, &w.to.run, &w.resource, &w.property, &w.group, &sent, &seen); err != nil {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
		if mark != prints[position] {
			continue
		}
		if writes[w.id] == nil {
			w.sentAt = time.UnixMilli(sent)
			writes[w.id] = &w
			if now.Sub(time.UnixMilli(seen)) > pruneEvery {
				stale = append(stale, w.id)
			}
		}
		k.write = writes[w.id]
		found[position] = k
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	for _, id := range stale {
		if _, err := c.db.ExecContext(ctx, `UPDATE writes SET seen_at = ? WHERE id = ?`, now.UnixMilli(), id); err != nil {
			return nil, fmt.Errorf("write checkpoint: %w", err)
		}
	}
	return found, nil
}

// begin notes that the keys of these rows are about to be appended; durable on return.
func (c *checkpoint) begin(ctx context.Context, to target, act *activity, records []*record, now time.Time) (*write, error) {
	w := &write{to: to, resource: act.resource, property: act.properties[0].id, sentAt: now}
	keys := make([][3]any, len(records))
	for i, r := range records {
		keys[i] = [3]any{r.row.Position(), print(r.row), r.key}
	}
	err := c.change(ctx, func(tx *sql.Tx) error {
		made, err := tx.ExecContext(ctx, `INSERT INTO writes (experiment, activity, run, resource, property, sent_at, seen_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			to.experiment, to.activity, to.run, w.resource, w.property, now.UnixMilli(), now.UnixMilli())
		if err != nil {
			return err
		}
		if w.id, err = made.LastInsertId(); err != nil {
			return err
		}
		list, err := json.Marshal(keys)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO rows (position, print, write, number, key)
			SELECT value ->> 0, value ->> 1, ?, key, value ->> 2 FROM json_each(?)`, w.id, string(list))
		return err
	})
	return w, err
}

// load fills in the keys of a write, all its rows', in the order in which they were sent.
func (c *checkpoint) load(ctx context.Context, w *write) error {
	rows, err := c.db.QueryContext(ctx, `SELECT key FROM rows WHERE write = ? ORDER BY number`, w.id)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	defer rows.Close()
	w.keys = nil
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		w.keys = append(w.keys, key)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	return nil
}

// appended notes the events of all rows of a write, in its order; durable on return.
func (c *checkpoint) appended(ctx context.Context, w *write, group string, events []string) error {
	return c.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE writes SET event_group = ? WHERE id = ?`, group, w.id); err != nil {
			return err
		}
		list, err := json.Marshal(events)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE rows SET event = e.value FROM
			(SELECT position AS at, row_number() OVER (ORDER BY number) - 1 AS place FROM rows WHERE write = ?) o
			JOIN json_each(?) e ON e.key = o.place WHERE rows.position = o.at`, w.id, string(list))
		return err
	})
}

// finish notes that all values of the rows are in the run; durable on return.
func (c *checkpoint) finish(ctx context.Context, records []*record) error {
	positions := make([]uint64, len(records))
	for i, r := range records {
		positions[i] = r.row.Position()
	}
	list, err := json.Marshal(positions)
	if err != nil {
		return err
	}
	return c.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE rows SET done = 1, key = '', event = '' WHERE position IN (SELECT value FROM json_each(?))`, string(list))
		return err
	})
}

// forget takes a write back whose keys were not appended.
func (c *checkpoint) forget(ctx context.Context, w *write) error {
	return c.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM writes WHERE id = ?`, w.id)
		return err
	})
}

// groups are the event groups of a run that belong to writes we know.
func (c *checkpoint) groups(ctx context.Context, run string) (map[string]bool, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT event_group FROM writes WHERE run = ? AND event_group != ''`, run)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	defer rows.Close()
	groups := map[string]bool{}
	for rows.Next() {
		var group string
		if err := rows.Scan(&group); err != nil {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
		groups[group] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	return groups, nil
}

// prune takes out what was not seen for keep, and of writes whose rows are all done the oldest beyond the bound. Called
// between batches; it has nothing to do most times.
func (c *checkpoint) prune(ctx context.Context, keep time.Duration, bound int, now time.Time) error {
	if now.Sub(c.pruned) < pruneEvery {
		return nil
	}
	c.pruned = now
	return c.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM writes WHERE seen_at < ?`, now.Add(-keep).UnixMilli()); err != nil {
			return err
		}
		// Summed from the newest on: what lies beyond the bound, and has no row that is still on its way.
		_, err := tx.ExecContext(ctx, `DELETE FROM writes WHERE id IN (
			SELECT id FROM (SELECT write AS id, min(done) AS done, sum(count(*)) OVER (ORDER BY write DESC) AS total FROM rows GROUP BY write)
			WHERE total > ? AND done = 1)`, bound)
		return err
	})
}

// change runs fn in a transaction.
func (c *checkpoint) change(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if err := fn(tx); err != nil {
		return errors.Join(fmt.Errorf("write checkpoint: %w", err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}
