package seal

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"time"

	"github.com/rivergate/rivergate/services/platform/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// store is the SQL of this package. Orgs are below 2^63.
type store struct{ db *database.DB }

// wrappedKey is a row of seal_keys.
type wrappedKey struct {
	id      string
	wrapped []byte
	master  string
}

var (
	errRotated = errors.New("the master key was rotated meanwhile")
	errHasKey  = errors.New("the org has a key")
)

func (s *store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return s.db.Migrate(ctx, "seal", files)
}

// claim makes fingerprint the master key of a database that has none, and returns the one that it has.
func (s *store) claim(ctx context.Context, fingerprint string) (wraps string, err error) {
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO seal_master (one, fingerprint) VALUES (1, ?) ON CONFLICT DO NOTHING", fingerprint); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT fingerprint FROM seal_master").Scan(&wraps)
	})
	return wraps, err
}

func (s *store) wraps(ctx context.Context) (fingerprint string, err error) {
	err = s.db.Reader().QueryRowContext(ctx, "SELECT fingerprint FROM seal_master").Scan(&fingerprint)
	return fingerprint, err
}

// current is the key for new objects of an org. ErrKeyGone: it has none.
func (s *store) current(ctx context.Context, org uint64) (wrappedKey, error) {
	return s.one(ctx, `SELECT k.id, k.wrapped, k.master FROM seal_orgs o JOIN seal_keys k ON k.org = o.org AND k.id = o.current
		WHERE o.org = ?`, int64(org))
}

func (s *store) find(ctx context.Context, org uint64, keyID string) (wrappedKey, error) {
	return s.one(ctx, "SELECT id, wrapped, master FROM seal_keys WHERE org = ? AND id = ?", int64(org), keyID)
}

func (s *store) one(ctx context.Context, query string, args ...any) (row wrappedKey, err error) {
	err = s.db.Reader().QueryRowContext(ctx, query, args...).Scan(&row.id, &row.wrapped, &row.master)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrKeyGone
	}
	return row, err
}

// add inserts a key and makes it the current one. errRotated: it is wrapped by a master key that is no longer that of the
// database. errHasKey, without replace: there is a current one.
func (s *store) add(ctx context.Context, org uint64, row wrappedKey, replace bool, now time.Time) error {
	return s.db.Write(ctx, func(tx *database.Tx) error {
		// The same value again: it locks the row, so that changes of keys stand in line and no rotation misses a new key.
		n, err := affected(tx.ExecContext(ctx, "UPDATE seal_master SET fingerprint = fingerprint WHERE fingerprint = ?", row.master))
		if err != nil {
			return err
		}
		if n == 0 {
			return errRotated
		}
		onConflict := "NOTHING"
		if replace {
			onConflict = "UPDATE SET current = excluded.current"
		}
		n, err = affected(tx.ExecContext(ctx, "INSERT INTO seal_orgs (org, current) VALUES (?, ?) ON CONFLICT (org) DO "+onConflict, int64(org), row.id))
		if err != nil {
			return err
		}
		if n == 0 {
			return errHasKey
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO seal_keys (org, id, wrapped, master, created) VALUES (?, ?, ?, ?, ?)",
			int64(org), row.id, row.wrapped, row.master, now.UnixMicro())
		return err
	})
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// rewrap replaces the wrapped form of all keys that are not wrapped by master, and makes that the one of the database.
func (s *store) rewrap(ctx context.Context, master string, wrap func(org uint64, row wrappedKey) ([]byte, error)) (n int, err error) {
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		n = 0
		if _, err := tx.ExecContext(ctx, "UPDATE seal_master SET fingerprint = ?", master); err != nil { // first: no key is added meanwhile
			return err
		}
		var after orgWrappedKey
		for {
			rows, err := page(ctx, tx, after)
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				return nil
			}
			for _, after = range rows {
				row := after
				if row.master == master {
					continue
				}
				wrapped, err := wrap(uint64(row.org), row.wrappedKey)
				if err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, "UPDATE seal_keys SET wrapped = ?, master = ? WHERE org = ? AND id = ?",
					wrapped, master, row.org, row.id); err != nil {
					return err
				}
				n++
			}
		}
	})
	return n, err
}

type orgWrappedKey struct {
	org int64
	wrappedKey
}

// page returns some keys, those that come next.
func page(ctx context.Context, tx *database.Tx, after orgWrappedKey) (list []orgWrappedKey, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT org, id, wrapped, master FROM seal_keys WHERE (org, id) > (?, ?) ORDER BY org, id LIMIT 1000",
		after.org, after.id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var row orgWrappedKey
		if err := rows.Scan(&row.org, &row.id, &row.wrapped, &row.master); err != nil {
			return nil, err
		}
		list = append(list, row)
	}
	return list, rows.Err()
}

func (s *store) deleteOrg(ctx context.Context, org uint64) (n int, err error) {
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE seal_master SET fingerprint = fingerprint"); err != nil { // locks, see add
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM seal_orgs WHERE org = ?", int64(org)); err != nil {
			return err
		}
		deleted, err := affected(tx.ExecContext(ctx, "DELETE FROM seal_keys WHERE org = ?", int64(org)))
		n = int(deleted)
		return err
	})
	return n, err
}
