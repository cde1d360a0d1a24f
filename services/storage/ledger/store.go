package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

func (l *Ledger) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return l.db.Migrate(ctx, "ledger", files)
}

// change runs fn in a transaction that it may share with other changes of the org. The org's row is locked before all others, so
// that no two transactions wait for each other.
func (l *Ledger) change(ctx context.Context, org uint64, fn func(ctx context.Context, tx *database.Tx) error) error {
	return l.changeBy(ctx, l.db.Group, org, fn)
}

// grouping is Group of the database, or GroupUnsynced.
type grouping func(ctx context.Context, lane string, fn func(ctx context.Context, tx *database.Tx) error) error

// changeBy is change by one of the two.
func (l *Ledger) changeBy(ctx context.Context, group grouping, org uint64, fn func(ctx context.Context, tx *database.Tx) error) error {
	err := group(ctx, strconv.FormatUint(org, 10), func(ctx context.Context, tx *database.Tx) error {
		if err := l.lock(ctx, tx, org); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
	var quota *QuotaError
	if errors.As(err, &quota) {
		l.metrics.refused.Inc()
	}
	return err
}

// lock locks the org's row, if there is one; SQLite's writer is alone anyway.
func (l *Ledger) lock(ctx context.Context, tx *database.Tx, org uint64) error {
	if tx.Dialect() == database.SQLite {
		return nil
	}
	return run(ctx, tx, "SELECT org FROM ledger_orgs WHERE org = ? FOR UPDATE", int64(org))
}

func run(ctx context.Context, tx *database.Tx, query string, args ...any) error {
	_, err := tx.ExecContext(ctx, query, args...)
	return err
}

// changed is how many rows a statement changed.
func changed(ctx context.Context, tx *database.Tx, query string, args ...any) (int64, error) {
	done, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// fits is the one rule of the quota; its arguments are the default limit twice, and what is to be added.
const fits = "(coalesce(byte_limit, ?) < 0 OR used + reserved + ? <= coalesce(byte_limit, ?))"

// reserve adds to what the org has reserved, if it fits; surely, when that was decided already.
func (l *Ledger) reserve(ctx context.Context, tx *database.Tx, org uint64, bytes int64, surely bool) error {
	if bytes > maxBytes {
		return l.quotaError(ctx, tx, org, bytes)
	}
	add := "UPDATE ledger_orgs SET reserved = reserved + ? WHERE org = ? AND (? = 1 OR " + fits + ")"
	args := []any{bytes, int64(org), surely, l.defaultLimit, bytes, l.defaultLimit}
	n, err := changed(ctx, tx, add, args...)
	if n > 0 || err != nil {
		return err
	}
	if err := insertOrg(ctx, tx, org); err != nil { // the first that it does
		return err
	}
	if n, err = changed(ctx, tx, add, args...); n > 0 || err != nil {
		return err
	}
	return l.quotaError(ctx, tx, org, bytes)
}

func insertOrg(ctx context.Context, tx *database.Tx, org uint64) error {
	return run(ctx, tx, "INSERT INTO ledger_orgs (org) VALUES (?) ON CONFLICT (org) DO NOTHING", int64(org))
}

func (l *Ledger) quotaError(ctx context.Context, tx *database.Tx, org uint64, bytes int64) error {
	e := &QuotaError{Limit: l.defaultLimit, Requested: bytes}
	err := tx.QueryRowContext(ctx, "SELECT coalesce(byte_limit, ?), used, reserved FROM ledger_orgs WHERE org = ?", l.defaultLimit, int64(org)).
		Scan(&e.Limit, &e.Used, &e.Reserved)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return e
}

// charged is what the file of that name costs the org; 0: there is none.
func charged(ctx context.Context, tx *database.Tx, org uint64, objectName string) (bytes int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT size FROM ledger_files WHERE org = ? AND object_name = ? AND free = 0", int64(org), objectName).Scan(&bytes)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return bytes, err
}

// holdRow is a row of ledger_holds.
type holdRow struct {
	org                  uint64
	kind                 Kind
	objectName, key      string
	asked, credit, bytes int64
	free                 bool
	owner                string
	expires, created     time.Time
}

// need is what must be reserved.
func (r *holdRow) need() int64 {
	if r.free {
		return 0
	}
	return max(0, r.asked-r.credit)
}

func insertHold(ctx context.Context, tx *database.Tx, r *holdRow) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `INSERT INTO ledger_holds (org, kind, object_name, key, asked, credit, bytes, free, owner, expires, created)
		SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
		WHERE NOT EXISTS (SELECT 1 FROM ledger_files WHERE key = ?) AND NOT EXISTS (SELECT 1 FROM ledger_tombstones WHERE key = ?)
		ON CONFLICT (key) DO NOTHING RETURNING id`,
		int64(r.org), string(r.kind), r.objectName, r.key, r.asked, r.credit, r.bytes, r.free, r.owner, micros(r.expires), micros(r.created), r.key, r.key).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrExists
	}
	return id, err
}

const holdColumns = "kind, object_name, key, asked, credit, bytes, free"

func scanHold(row *database.Row) (r holdRow, err error) {
	err = row.Scan(&r.kind, &r.objectName, &r.key, &r.asked, &r.credit, &r.bytes, &r.free)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrHoldLost
	}
	return r, err
}

func holdOf(ctx context.Context, tx *database.Tx, org uint64, id int64) (holdRow, error) {
	return scanHold(tx.QueryRowContext(ctx, "SELECT "+holdColumns+" FROM ledger_holds WHERE id = ? AND org = ?", id, int64(org)))
}

// takeHold deletes the row; what was reserved stays reserved.
func takeHold(ctx context.Context, tx *database.Tx, org uint64, id int64) (holdRow, error) {
	return scanHold(tx.QueryRowContext(ctx, "DELETE FROM ledger_holds WHERE id = ? AND org = ? RETURNING "+holdColumns, id, int64(org)))
}

// commit is Hold.Commit within its transaction.
func (l *Ledger) commit(ctx context.Context, tx *database.Tx, h *Hold, f File, mode Mode) (File, *File, error) {
	hold, err := takeHold(ctx, tx, h.org, h.id)
	if err != nil {
		return File{}, nil, err
	}
	hold.objectName = cmp.Or(h.as, hold.objectName)
	old, err := l.former(ctx, tx, h, hold.objectName, mode)
	if err != nil {
		return File{}, nil, err
	}

	f.Org, f.Kind, f.ObjectName, f.Key, f.Free = h.org, hold.kind, hold.objectName, hold.key, hold.free
	f.complete(l.now())
	more := f.cost()
	if old != nil {
		more -= old.cost()
	}
	var step int64
	if f.Kind == KindFile {
		step = 1
	}
	var sequence int64
	err = tx.QueryRowContext(ctx, "UPDATE ledger_orgs SET used = used + ?, reserved = reserved - ?, sequence = sequence + ? WHERE org = ? AND (? = 1 OR "+fits+") RETURNING sequence",
		more, hold.bytes, step, int64(h.org), more <= hold.bytes, l.defaultLimit, more-hold.bytes, l.defaultLimit).Scan(&sequence)
	if errors.Is(err, sql.ErrNoRows) {
		if mode == Create { // this comes first, also of what does not fit
			if there, err := exists(ctx, tx, h.org, hold.objectName); there || err != nil {
				return File{}, nil, cmp.Or(err, ErrExists)
			}
		}
		return File{}, nil, l.quotaError(ctx, tx, h.org, more-hold.bytes)
	}
	if err != nil {
		return File{}, nil, err
	}
	sequence *= step

	if old == nil {
		f.ID, err = insertFile(ctx, tx, &f, sequence)
	} else {
		f.ID = old.ID
		err = l.overwrite(ctx, tx, old, &f, sequence)
	}
	if err == nil {
		err = count(ctx, tx, &f, sequence, +1)
	}
	return f, old, err
}

// former is the file that a commit replaces; nil: there is none. With Create, nobody looks: insertFile finds out.
func (l *Ledger) former(ctx context.Context, tx *database.Tx, h *Hold, objectName string, mode Mode) (*File, error) {
	if mode == Create {
		return nil, nil
	}
	found, err := one(ctx, tx, "org = ? AND object_name = ?", int64(h.org), objectName)
	switch {
	case h.only != "" && (err == nil && found.SHA256 != h.only || errors.Is(err, ErrNotFound)):
		return nil, ErrChanged
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &found, nil
}

func exists(ctx context.Context, tx *database.Tx, org uint64, objectName string) (there bool, err error) {
	_, err = one(ctx, tx, "org = ? AND object_name = ?", int64(org), objectName)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// overwrite puts f in the place of old.
func (l *Ledger) overwrite(ctx context.Context, tx *database.Tx, old, f *File, sequence int64) error {
	var before int64
	if err := tx.QueryRowContext(ctx, "SELECT sequence FROM ledger_files WHERE id = ?", old.ID).Scan(&before); err != nil {
		return err
	}
	if err := count(ctx, tx, old, before, -1); err != nil {
		return err
	}
	args := append(f.values(), sequence, f.ID)
	if err := run(ctx, tx, "UPDATE ledger_files SET "+assignments+", sequence = ? WHERE id = ?", args...); err != nil {
		return err
	}
	return bury(ctx, tx, old.Org, old.Key, l.now())
}

// complete sets what the ledger decides of a new file.
func (f *File) complete(now time.Time) {
	f.Created = now.UTC().Truncate(time.Microsecond) // as it will be read
	f.Accessed = f.Created
	f.Expires, f.TierChanged = f.Expires.UTC().Truncate(time.Microsecond), f.TierChanged.UTC().Truncate(time.Microsecond)
	f.Tier = cmp.Or(f.Tier, protocol.TierHot)
}

// cost is what the file counts against the quota.
func (f *File) cost() int64 {
	if f.Free {
		return 0
	}
	return f.Size
}

// insertFile adds a row. ErrExists.
func insertFile(ctx context.Context, tx *database.Tx, f *File, sequence int64) (id int64, err error) {
	err = tx.QueryRowContext(ctx, "INSERT INTO ledger_files ("+fileColumns+", sequence) VALUES ("+placeholders+", ?) ON CONFLICT (org, object_name) DO NOTHING RETURNING id",
		append(f.values(), sequence)...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrExists
	}
	return id, err
}

// The columns of a file but for its id and sequence, and what goes into them.
const (
	fileColumns = "org, usr, workspace, kind, category, purpose, object_name, file_name, key, size, stored_size, content_type, sha256, tier, key_id, free, " +
		"columns, metadata, data_source, created, accessed, tier_changed, expires"
	placeholders = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
	assignments  = "org = ?, usr = ?, workspace = ?, kind = ?, category = ?, purpose = ?, object_name = ?, file_name = ?, key = ?, size = ?, stored_size = ?, content_type = ?, " +
		"sha256 = ?, tier = ?, key_id = ?, free = ?, columns = ?, metadata = ?, data_source = ?, created = ?, accessed = ?, tier_changed = ?, expires = ?"
)

func (f *File) values() []any {
	var columns string
	if f.Columns != nil {
		list, _ := json.Marshal(f.Columns) // strings always marshal
		columns = string(list)
	}
	return []any{
		int64(f.Org), int64(f.User), int64(f.Workspace), string(f.Kind), f.Category, f.Purpose, f.ObjectName, f.FileName, f.Key, f.Size, f.StoredSize,
		f.ContentType, f.SHA256, string(f.Tier), f.KeyID, f.Free, columns, string(f.Metadata), f.DataSourceID,
		micros(f.Created), micros(f.Accessed), micros(f.TierChanged), micros(f.Expires),
	}
}

func scanFile(scan func(dest ...any) error) (f File, err error) {
	var org, user, workspace, created, accessed, tierChanged, expires int64
	var columns, metadata string
	if err := scan(&f.ID, &org, &user, &workspace, &f.Kind, &f.Category, &f.Purpose, &f.ObjectName, &f.FileName, &f.Key, &f.Size, &f.StoredSize,
		&f.ContentType, &f.SHA256, &f.Tier, &f.KeyID, &f.Free, &columns, &metadata, &f.DataSourceID, &created, &accessed, &tierChanged, &expires); err != nil {
		return File{}, err
	}
	f.Org, f.User, f.Workspace = uint64(org), uint64(user), uint64(workspace)
	f.Created, f.Accessed, f.TierChanged, f.Expires = fromMicros(created), fromMicros(accessed), fromMicros(tierChanged), fromMicros(expires)
	if metadata != "" {
		f.Metadata = json.RawMessage(metadata)
	}
	if columns != "" {
		err = json.Unmarshal([]byte(columns), &f.Columns)
	}
	return f, err
}

// one is the file that a condition names; ErrNotFound.
func one(ctx context.Context, q database.Querier, condition string, args ...any) (File, error) {
	f, err := scanFile(q.QueryRowContext(ctx, "SELECT id, "+fileColumns+" FROM ledger_files WHERE "+condition, args...).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return f, err
}

// listed are the columns of a file in a list, where nobody asks for Columns and Metadata.
var listed = strings.Replace(fileColumns, "columns, metadata", "'', ''", 1)

// files are those that a condition names, in its order.
func files(ctx context.Context, q database.Querier, condition string, args ...any) ([]File, error) {
	return filesWith(ctx, q, fileColumns, condition, args...)
}

func filesWith(ctx context.Context, q database.Querier, columns, condition string, args ...any) ([]File, error) {
	var list []File
	err := database.Each(ctx, q, func(rows *sql.Rows) error {
		f, err := scanFile(rows.Scan)
		list = append(list, f)
		return err
	}, "SELECT id, "+columns+" FROM ledger_files WHERE "+condition, args...)
	return list, err
}

// take deletes a file's row that condition names, and leaves a tombstone; ErrNotFound.
func (l *Ledger) take(ctx context.Context, tx *database.Tx, condition string, args ...any) (File, error) {
	var sequence int64
	f, err := scanFile(func(dest ...any) error {
		return tx.QueryRowContext(ctx, "DELETE FROM ledger_files WHERE "+condition+" RETURNING id, "+fileColumns+", sequence", args...).Scan(append(dest, &sequence)...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return File{}, ErrNotFound
	}
	if err != nil {
		return File{}, err
	}
	if err := run(ctx, tx, "UPDATE ledger_orgs SET used = used - ? WHERE org = ?", f.cost(), int64(f.Org)); err != nil {
		return File{}, err
	}
	if err := count(ctx, tx, &f, sequence, -1); err != nil {
		return File{}, err
	}
	return f, bury(ctx, tx, f.Org, f.Key, l.now())
}

// bury leaves a tombstone.
func bury(ctx context.Context, tx *database.Tx, org uint64, key string, now time.Time) error {
	return buryLater(ctx, tx, org, key, now, now)
}

// buryLater leaves one that is not to be seen to before due.
func buryLater(ctx context.Context, tx *database.Tx, org uint64, key string, now, due time.Time) error {
	return run(ctx, tx, "INSERT INTO ledger_tombstones (key, org, since, due) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING", key, int64(org), micros(now), micros(due))
}

// repoint changes where a file's object is and in which tier; ErrChanged when it is not where old says.
func repoint(ctx context.Context, tx *database.Tx, old, f *File) error {
	n, err := changed(ctx, tx, "UPDATE ledger_files SET key = ?, tier = ?, tier_changed = ?, stored_size = ?, key_id = ? WHERE org = ? AND id = ? AND key = ? AND tier = ?",
		f.Key, string(f.Tier), micros(f.TierChanged), f.StoredSize, f.KeyID, int64(old.Org), old.ID, old.Key, string(old.Tier))
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrChanged
	}
	if err := countPart(ctx, tx, old, -1); err != nil {
		return err
	}
	return countPart(ctx, tx, f, +1)
}

// How many of the sequence are in a piece of level 1 and 2, as shifts.
const (
	shift1 = 8
	shift2 = 15
)

// count adds a file to the counts, or takes it away.
func count(ctx context.Context, tx *database.Tx, f *File, sequence, by int64) error {
	if err := countPart(ctx, tx, f, by); err != nil || f.Kind != KindFile {
		return err
	}
	org, user, piece1, piece2 := int64(f.Org), int64(f.User), sequence>>shift1, sequence>>shift2
	if err := run(ctx, tx, `INSERT INTO ledger_counts (org, usr, level, piece, category, files) VALUES (?, ?, 1, ?, ?, ?), (?, ?, 2, ?, ?, ?)
		ON CONFLICT (org, usr, level, piece, category) DO UPDATE SET files = ledger_counts.files + excluded.files`,
		org, user, piece1, f.Category, by, org, user, piece2, f.Category, by); err != nil || by > 0 {
		return err
	}
	return run(ctx, tx, "DELETE FROM ledger_counts WHERE org = ? AND usr = ? AND category = ? AND files = 0 AND (level = 1 AND piece = ? OR level = 2 AND piece = ?)",
		org, user, f.Category, piece1, piece2)
}

func countPart(ctx context.Context, tx *database.Tx, f *File, by int64) error {
	return run(ctx, tx, `INSERT INTO ledger_parts (org, kind, category, tier, free, files, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (org, kind, category, tier, free) DO UPDATE SET files = ledger_parts.files + excluded.files, bytes = ledger_parts.bytes + excluded.bytes`,
		int64(f.Org), string(f.Kind), f.Category, string(f.Tier), f.Free, by, by*f.Size)
}
