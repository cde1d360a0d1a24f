package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/rivergate/rivergate/services/platform/database"
)

// What the sums of an org should be, from its files and holds.
const (
	rightUsed     = "SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM ledger_files WHERE org = ? AND free = 0"
	rightReserved = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM ledger_holds WHERE org = ?"
	partColumns   = "kind, category, tier, free, files, bytes"
	rightParts    = "SELECT kind, category, tier, free, count(*) AS files, CAST(sum(size) AS BIGINT) AS bytes FROM ledger_files WHERE org = ? GROUP BY kind, category, tier, free"
	countColumns  = "usr, level, piece, category, files"
)

var rightCounts = fmt.Sprintf(`SELECT usr, 1 AS level, sequence >> %[1]d AS piece, category, count(*) AS files FROM ledger_files WHERE org = ? AND kind = 'file' GROUP BY usr, sequence >> %[1]d, category
	UNION ALL SELECT usr, 2 AS level, sequence >> %[2]d AS piece, category, count(*) AS files FROM ledger_files WHERE org = ? AND kind = 'file' GROUP BY usr, sequence >> %[2]d, category`, shift1, shift2)

// checks are what is written, and what is right; the argument of each placeholder is the org. Of tables it is the number of wrong rows, and none.
var checks = []struct{ what, written, right string }{
	{"used", "SELECT coalesce((SELECT used FROM ledger_orgs WHERE org = ?), 0)", rightUsed},
	{"reserved", "SELECT coalesce((SELECT reserved FROM ledger_orgs WHERE org = ?), 0)", rightReserved},
	{"parts", wrongRows("SELECT "+partColumns+" FROM ledger_parts WHERE org = ? AND (files <> 0 OR bytes <> 0)", rightParts), "SELECT 0"},
	{"counts", wrongRows("SELECT "+countColumns+" FROM ledger_counts WHERE org = ?", rightCounts), "SELECT 0"},
}

// wrongRows counts the rows that only one of two queries has.
func wrongRows(written, right string) string {
	less := func(a, b string) string {
		return "(SELECT count(*) FROM (SELECT * FROM (" + a + ") AS a EXCEPT SELECT * FROM (" + b + ") AS b) AS c)"
	}
	return "SELECT " + less(written, right) + " + " + less(right, written)
}

// orgTimes is the org as often as a query wants it.
func orgTimes(query string, org uint64) []any {
	args := make([]any, strings.Count(query, "?"))
	for i := range args {
		args[i] = int64(org)
	}
	return args
}

// books compares the sums of each org with its files and holds.
func (l *Ledger) books(ctx context.Context, _ Objects, o ReconcileOptions, r *Report) error {
	for org := uint64(0); ; {
		var next sql.NullInt64
		tables := []string{"ledger_orgs", "ledger_files", "ledger_holds", "ledger_parts", "ledger_counts"}
		query := "SELECT min(org) FROM (SELECT min(org) AS org FROM " + strings.Join(tables, " WHERE org > ? UNION ALL SELECT min(org) FROM ") + " WHERE org > ?) AS x"
		if err := l.db.Reader().QueryRowContext(ctx, query, orgTimes(query, org)...).Scan(&next); err != nil || !next.Valid {
			return err
		}
		org = uint64(next.Int64)
		r.Orgs++
		wrong, err := l.Differences(ctx, org)
		if err != nil {
			return err
		}
		r.Books = append(r.Books, wrong...)
		if len(wrong) > 0 && o.Fix {
			if err := l.rewrite(ctx, org); err != nil {
				return err
			}
		}
	}
}

// Differences are the sums of an org that are wrong, all at one instant.
func (l *Ledger) Differences(ctx context.Context, org uint64) (wrong []Difference, err error) {
	err = l.db.Snapshot(ctx, func(tx *database.Tx) error {
		wrong = nil
		for _, check := range checks {
			d := Difference{Org: org, What: check.what}
			if err := tx.QueryRowContext(ctx, check.written, orgTimes(check.written, org)...).Scan(&d.Written); err != nil {
				return err
			}
			if err := tx.QueryRowContext(ctx, check.right, orgTimes(check.right, org)...).Scan(&d.Right); err != nil {
				return err
			}
			if d.Written != d.Right {
				wrong = append(wrong, d)
			}
		}
		return nil
	})
	return wrong, err
}

// rewrite makes an org's sums right.
func (l *Ledger) rewrite(ctx context.Context, org uint64) error {
	return l.db.Write(ctx, func(tx *database.Tx) error {
		if err := insertOrg(ctx, tx, org); err != nil {
			return err
		}
		if err := l.lock(ctx, tx, org); err != nil {
			return err
		}
		for _, statement := range []string{
			"UPDATE ledger_orgs SET used = (" + rightUsed + "), reserved = (" + rightReserved + ") WHERE org = ?",
			"DELETE FROM ledger_parts WHERE org = ?",
			"INSERT INTO ledger_parts (org, " + partColumns + ") SELECT CAST(? AS BIGINT), x.* FROM (" + rightParts + ") AS x",
			"DELETE FROM ledger_counts WHERE org = ?",
			"INSERT INTO ledger_counts (org, " + countColumns + ") SELECT CAST(? AS BIGINT), x.* FROM (" + rightCounts + ") AS x",
		} {
			if err := run(ctx, tx, statement, orgTimes(statement, org)...); err != nil {
				return err
			}
		}
		return nil
	})
}
