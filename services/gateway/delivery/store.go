package delivery

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// store is the SQL of this package. Positions, orgs and ids are below 2^63 and fit SQLite's integer.
type store struct{ db *database.DB }

// known is a pusher that has a cursor.
type known struct {
	name          string
	start, cursor uint64
	paused        bool
	totals        totals
	fresh         bool // not in the store yet
}

// room is what some dead letters take.
type room struct{ rows, bytes int64 }

func openStore(ctx context.Context, db *database.DB) (*store, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "delivery", files); err != nil {
		return nil, err
	}
	return &store{db}, nil
}

func (s *store) pushers(ctx context.Context) (map[string]*known, error) {
	all := make(map[string]*known)
	err := database.Each(ctx, s.db.Reader(), func(rows *sql.Rows) error {
		k := &known{}
		err := rows.Scan(&k.name, &k.start, &k.cursor, &k.paused, &k.totals.delivered, &k.totals.skipped, &k.totals.dead)
		all[k.name] = k
		return err
	}, "SELECT name, start, cursor, paused, delivered, skipped, dead FROM pushers")
	return all, err
}

func (s *store) highest(ctx context.Context) (highest uint64, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT max(coalesce((SELECT max(cursor) FROM pushers), 0),
		coalesce((SELECT max(hi) FROM notes), 0), coalesce((SELECT max(position) + 1 FROM dead_letters), 0))`).Scan(&highest)
	return highest, err
}

func (s *store) putPusher(ctx context.Context, k *known) error {
	return s.exec(ctx, `INSERT INTO pushers (name, start, cursor) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET start = excluded.start, cursor = excluded.cursor`, k.name, int64(k.start), int64(k.cursor))
}

func (s *store) setPaused(ctx context.Context, name string, paused bool) error {
	return s.exec(ctx, "UPDATE pushers SET paused = ? WHERE name = ?", paused, name)
}

// forget deletes a pusher's cursor and notes; its dead letters stay, and nothing waits to be replayed to it.
func (s *store) forget(ctx context.Context, name string) error {
	return s.db.Write(ctx, func(tx *database.Tx) error {
		for _, q := range []string{"DELETE FROM pushers WHERE name = ?", "DELETE FROM notes WHERE pusher = ?", "UPDATE dead_letters SET replay_to = NULL WHERE replay_to = ?"} {
			if _, err := tx.ExecContext(ctx, q, name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) stocks(ctx context.Context) (map[string]room, error) {
	all := make(map[string]room)
	err := database.Each(ctx, s.db.Reader(), func(rows *sql.Rows) error {
		var name string
		var r room
		err := rows.Scan(&name, &r.rows, &r.bytes)
		all[name] = r
		return err
	}, "SELECT pusher, count(*), coalesce(sum(size), 0) FROM dead_letters GROUP BY pusher")
	return all, err
}

// notes returns what is known of a pusher's rows in [from, to), oldest note first.
func (s *store) notes(ctx context.Context, pusher string, from, to uint64) ([]note, error) {
	var all []note
	err := database.Each(ctx, s.db.Reader(), func(rows *sql.Rows) error {
		var lo int64
		var blob []byte
		if err := rows.Scan(&lo, &blob); err != nil {
			return err
		}
		notes, err := unpackNotes(uint64(lo), blob)
		for _, n := range notes {
			if n.from < to && n.to > from {
				all = append(all, n)
			}
		}
		return err
	}, "SELECT lo, ranges FROM notes WHERE pusher = ? AND hi > ? AND lo < ? ORDER BY id", pusher, int64(from), int64(to))
	return all, err
}

func (s *store) prune(ctx context.Context, before uint64) error {
	return s.exec(ctx, "DELETE FROM notes WHERE hi <= ?", int64(before))
}

// save writes the changes of all pushers in one transaction: a cursor and the dead letters that it passes are durable
// together or not at all. It returns the room of the dead letters that were replayed, or were there already.
func (s *store) save(ctx context.Context, all []change) (freed map[string]room, err error) {
	// Once begun, a flush is finished: a stop waits for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		freed = make(map[string]room)
		for i := range all {
			if err := saveOne(ctx, tx, &all[i], freed); err != nil {
				return fmt.Errorf("pusher %s: %w", all[i].chain.Name, err)
			}
		}
		return nil
	})
	return freed, err
}

func saveOne(ctx context.Context, tx *database.Tx, ch *change, freed map[string]room) error {
	name := ch.chain.Name
	known, err := saveLetters(ctx, tx, name, ch.letters)
	if err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	if known.rows > 0 {
		r := freed[name]
		freed[name] = room{r.rows + known.rows, r.bytes + known.bytes}
	}
	for _, id := range ch.revived {
		var pusher string
		var size int64
		err := tx.QueryRowContext(ctx, "DELETE FROM dead_letters WHERE id = ? RETURNING pusher, size", id).Scan(&pusher, &size)
		if errors.Is(err, sql.ErrNoRows) {
			continue // deleted by a person in the meantime
		}
		if err != nil {
			return fmt.Errorf("replayed dead letter: %w", err)
		}
		r := freed[pusher]
		freed[pusher] = room{r.rows + 1, r.bytes + size}
	}
	for _, r := range ch.returned {
		if _, err := tx.ExecContext(ctx, `UPDATE dead_letters SET class = ?, code = ?, message = ?, attempts = ?, failed_at = ?, replay_to = NULL
			WHERE id = ?`, r.class, r.code, r.message, r.attempts, r.failedAt.UnixNano(), r.id); err != nil {
			return fmt.Errorf("dead letter that failed again: %w", err)
		}
	}
	if len(ch.notes) > 0 {
		lo, hi, blob := packNotes(ch.notes)
		if _, err := tx.ExecContext(ctx, "INSERT INTO notes (pusher, lo, hi, ranges) VALUES (?, ?, ?, ?)", name, int64(lo), int64(hi), blob); err != nil {
			return fmt.Errorf("notes: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE pushers SET cursor = ?, delivered = ?, skipped = ?, dead = ? WHERE name = ?",
		int64(ch.cursor), int64(ch.totals.delivered), int64(ch.totals.skipped), int64(ch.totals.dead), name); err != nil {
		return fmt.Errorf("cursor: %w", err)
	}
	return nil
}

// saveLetters adds dead letters. One that is there already (of a pusher that was forgotten and began again) is brought up to
// date: it takes no room a second time, which is returned.
func saveLetters(ctx context.Context, tx *database.Tx, pusher string, letters []letter) (known room, err error) {
	if len(letters) == 0 {
		return known, nil
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO dead_letters (pusher, position, delivery, org, user, uuid, idx, received_at, request_id, data, size,
		class, code, message, attempts, first_failed_at, failed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (pusher, position, received_at) DO UPDATE SET class = excluded.class, code = excluded.code, message = excluded.message,
		attempts = attempts + excluded.attempts, failed_at = excluded.failed_at RETURNING first_failed_at`)
	if err != nil {
		return known, err
	}
	defer insert.Close()
	for i := range letters {
		l := &letters[i]
		index := sql.NullInt64{Int64: int64(l.index), Valid: l.index != protocol.NoIndex}
		var first int64 // that of the first time, when there was one
		if err := insert.QueryRowContext(ctx, pusher, int64(l.position), int64(l.origin), int64(l.org), int64(l.user), l.uuid, index,
			l.receivedAt.UnixNano(), l.requestID, l.data, l.size(), l.class, l.code, l.message, l.attempts, l.first.UnixNano(), l.failedAt.UnixNano()).Scan(&first); err != nil {
			return known, err
		}
		if first != l.first.UnixNano() {
			known.rows, known.bytes = known.rows+1, known.bytes+l.size()
		}
	}
	return known, nil
}

// where is the condition of a filter.
func (f *Filter) where() (string, []any) {
	var conds []string
	var args []any
	add := func(cond string, arg any) {
		conds, args = append(conds, cond), append(args, arg)
	}
	if f.Org != 0 {
		add("org = ?", int64(f.Org))
	}
	if f.IDs != nil {
		ids := make([]int64, 0, len(f.IDs))
		for _, text := range f.IDs {
			if id, ok := parseDeadLetterID(text); ok { // another text is the id of nothing
				ids = append(ids, id)
			}
		}
		list, _ := json.Marshal(ids) // integers always marshal
		add("id IN (SELECT value FROM json_each(?))", string(list))
	}
	if f.Pusher != "" {
		add("pusher = ?", f.Pusher)
	}
	if f.UUID != "" {
		add("uuid = ?", f.UUID)
	}
	if f.Class != "" {
		add("class = ?", f.Class)
	}
	if !f.Since.IsZero() {
		add("failed_at >= ?", f.Since.UnixNano())
	}
	if !f.Until.IsZero() {
		add("failed_at < ?", f.Until.UnixNano())
	}
	if len(conds) == 0 {
		return "1", nil
	}
	return strings.Join(conds, " AND "), args
}

const letterColumns = "id, org, pusher, position, delivery, uuid, idx, data, class, code, message, attempts, first_failed_at, failed_at"

// letters returns up to limit dead letters that the filter matches, by rising ids above beyond, or by falling ones below it.
// It stops before their data take more than letterPageBytes; more: there are others.
func (s *store) letters(ctx context.Context, f Filter, beyond int64, newestFirst bool, limit int) (all []DeadLetter, more bool, err error) {
	cond, args := f.where()
	order := "id > ? ORDER BY id"
	if newestFirst {
		order = "id < ? ORDER BY id DESC"
	}
	bytes := 0
	err = database.Each(ctx, s.db.Reader(), func(rows *sql.Rows) error {
		var l DeadLetter
		var id, org, position, delivery, first, failed int64
		var index sql.NullInt32
		var data []byte
		err := rows.Scan(&id, &org, &l.Pusher, &position, &delivery, &l.UUID, &index, &data, &l.Class, &l.Code, &l.Message, &l.Attempts, &first, &failed)
		l.ID, l.number, l.Org, l.Position, l.DeliveryID, l.Data = deadLetterID(id), id, uint64(org), uint64(position), DeliveryID(uint64(delivery)), data
		l.FirstFailedAt, l.FailedAt = time.Unix(0, first).UTC(), time.Unix(0, failed).UTC()
		if index.Valid {
			l.Index = &index.Int32
		}
		if bytes += len(data); err == nil && (len(all) == limit || len(all) > 0 && bytes > letterPageBytes) {
			more = true
			return database.ErrEnough
		}
		all = append(all, l)
		return err
	}, "SELECT "+letterColumns+" FROM dead_letters WHERE "+cond+" AND "+order+" LIMIT ?", append(args, beyond, limit+1)...)
	return all, more, err
}

// lastDead is why the last of the dead rows in [from, to) failed.
func (s *store) lastDead(ctx context.Context, pusher string, from, to uint64) (reason string, err error) {
	err = database.Each(ctx, s.db.Reader(), func(rows *sql.Rows) error {
		var o protocol.Outcome
		err := rows.Scan(&o.Code, &o.Message)
		reason = reasonOf(&o)
		return err
	}, "SELECT code, message FROM dead_letters WHERE pusher = ? AND position >= ? AND position < ? ORDER BY failed_at DESC LIMIT 1",
		pusher, int64(from), int64(to))
	return reason, err
}

// remove deletes up to limit dead letters and returns the room they took.
func (s *store) remove(ctx context.Context, f Filter, limit int) (freed map[string]room, n int, err error) {
	cond, args := f.where()
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		freed, n = make(map[string]room), 0
		rows, err := tx.QueryContext(ctx, "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE "+cond+" LIMIT ?) RETURNING pusher, size",
			append(args, limit)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var pusher string
			var size int64
			if err := rows.Scan(&pusher, &size); err != nil {
				return err
			}
			r := freed[pusher]
			freed[pusher] = room{r.rows + 1, r.bytes + size}
			n++
		}
		return rows.Err()
	})
	return freed, n, err
}

// markReplay marks dead letters of the orgs (nil: all) for the pusher to, which is that of the letters when own is set. It marks
// some at once, each letter once; after an error, those before it stay marked.
func (s *store) markReplay(ctx context.Context, f Filter, to string, own bool, orgs []uint64, perSecond float64) (n int, err error) {
	cond, args := f.where()
	if own {
		cond, args = cond+" AND pusher = ?", append(args, to)
	}
	if orgs != nil {
		list, err := json.Marshal(orgs)
		if err != nil {
			return 0, err
		}
		cond, args = cond+" AND org IN (SELECT value FROM json_each(?))", append(args, string(list))
	}
	var last int64 // what comes later is not meant
	if err := s.db.Reader().QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM dead_letters").Scan(&last); err != nil {
		return 0, err
	}
	query := "UPDATE dead_letters SET replay_to = ?, replay_rate = ? WHERE id IN (SELECT id FROM dead_letters WHERE " + cond +
		" AND id > ? AND id <= ? ORDER BY id LIMIT ?) RETURNING id"
	for after := int64(0); ; {
		marked, highest := 0, after
		err := s.db.Write(ctx, func(tx *database.Tx) error {
			rows, err := tx.QueryContext(ctx, query, slices.Concat([]any{to, perSecond}, args, []any{after, last, changeAtOnce})...)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var id int64
				if err := rows.Scan(&id); err != nil {
					return err
				}
				marked, highest = marked+1, max(highest, id)
			}
			return rows.Err()
		})
		if err != nil {
			return n, err
		}
		if n += marked; marked < changeAtOnce {
			return n, nil
		}
		after = highest
	}
}

// replays returns the next dead letters to be replayed to a pusher, all with one rate, until rows or bytes are reached.
func (s *store) replays(ctx context.Context, to string, rows int, bytes int64) ([]replayItem, float64, error) {
	var items []replayItem
	var rate float64
	err := database.Each(ctx, s.db.Reader(), func(r *sql.Rows) error {
		var it replayItem
		var org, user, position, delivery, received, first int64
		var index sql.NullInt32
		var perSecond float64
		if err := r.Scan(&it.id, &it.pusher, &org, &user, &position, &delivery, &it.frame.UUID, &index, &received, &it.frame.RequestID, &it.frame.Data,
			&it.attempts, &first, &perSecond); err != nil {
			return err
		}
		f := &it.frame
		f.OrgID, f.UserID, f.Position, f.ReceivedAt = uint64(org), uint64(user), uint64(position), time.Unix(0, received).UTC()
		f.Ends = []uint32{uint32(len(f.Data))}
		if index.Valid {
			f.Index = []int32{index.Int32}
		}
		it.origin, it.first = uint64(delivery), time.Unix(0, first).UTC()
		if len(items) == 0 {
			rate = perSecond
		}
		if bytes -= int64(len(f.Data)); perSecond != rate || bytes < 0 && len(items) > 0 {
			return database.ErrEnough
		}
		items = append(items, it)
		return nil
	}, `SELECT id, pusher, org, user, position, delivery, uuid, idx, received_at, request_id, data, attempts, first_failed_at, replay_rate
		FROM dead_letters WHERE replay_to = ? ORDER BY replay_rate, id LIMIT ?`, to, rows)
	return items, rate, err
}

func (s *store) exec(ctx context.Context, query string, args ...any) error {
	return s.db.Write(ctx, func(tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}
