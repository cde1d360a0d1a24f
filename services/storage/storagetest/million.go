package storagetest

import (
	"context"
	"fmt"

	"github.com/rivergate/rivergate/services/platform/database"
)

// files is how many Million makes.
const files = 1_000_000

// MillionName is the name of one of the files that Million makes, 1..1,000,000.
func MillionName(org, user, number int) string {
	return fmt.Sprintf("organizations/%d/files/%d/measurements_20260101_000000_%08x.csv", org, user, number)
}

// Million gives an org that the ledger knows, and that has no files, a million of one user's, in SQLite. There are rows alone, and no objects.
func Million(ctx context.Context, db *database.DB, org, user int) error {
	return db.Write(ctx, func(tx *database.Tx) error {
		for _, statement := range []struct {
			text string
			args []any
		}{
			{`INSERT INTO ledger_files (org, usr, workspace, kind, category, purpose, object_name, file_name, key, size, stored_size, content_type, sha256, tier, key_id, free,
			columns, metadata, data_source, sequence, created, accessed, tier_changed, expires)
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?),
			named(i, name) AS (SELECT i, 'organizations/' || ? || '/files/' || ? || '/measurements_20260101_000000_' || printf('%08x', i) || '.csv' FROM n)
			SELECT ?, ?, 0, 'file', CASE i % 3 WHEN 0 THEN 'data_source' WHEN 1 THEN 'general' ELSE 'profile_image' END, '', name, 'measurements.csv',
			name, 1000, 1000, 'text/csv', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'hot', '', 0, '["a","b","c"]', '', 0, i,
			1767225600000000 + i, 1, 0, 0 FROM named`, []any{files, org, user, org, user}},
			{"UPDATE ledger_orgs SET sequence = ?, used = 1000 * ? WHERE org = ?", []any{files, files, org}},
			{"INSERT INTO ledger_counts SELECT org, usr, 1, sequence >> 8, category, count(*) FROM ledger_files WHERE org = ? GROUP BY org, usr, sequence >> 8, category", []any{org}},
			{"INSERT INTO ledger_counts SELECT org, usr, 2, sequence >> 15, category, count(*) FROM ledger_files WHERE org = ? GROUP BY org, usr, sequence >> 15, category", []any{org}},
			{"INSERT INTO ledger_parts SELECT org, kind, category, tier, free, count(*), sum(size) FROM ledger_files WHERE org = ? GROUP BY kind, category", []any{org}},
		} {
			if _, err := tx.ExecContext(ctx, statement.text, statement.args...); err != nil {
				return err
			}
		}
		return nil
	})
}
