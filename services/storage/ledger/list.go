package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/rivergate/rivergate/services/platform/database"
)

// List returns a page of a user's files, without Columns and Metadata, and how many there are in all pages. Both are of one instant.
func (l *Ledger) List(ctx context.Context, q Query) (list []File, total int64, err error) {
	if q.Sort != SortCreated && q.Offset > MaxSortedOffset {
		return nil, 0, ErrDeep
	}
	err = l.db.Snapshot(ctx, func(tx *database.Tx) error {
		list = nil
		if total, err = q.total(ctx, tx); err != nil || q.Offset >= total {
			return err
		}
		cond, args := q.where("")
		skip := q.Offset
		if q.Sort == SortCreated {
			from, edge := "", int64(0)
			if from, edge, skip, err = q.seek(ctx, tx); err != nil {
				return err
			}
			cond, args = cond+from, append(args, edge)
		}
		// The limit as a number: SQLite compiles a statement anew each time whose limit is an argument.
		list, err = filesWith(ctx, tx, listed, fmt.Sprintf("%s AND kind = 'file' ORDER BY %s LIMIT %d OFFSET ?", cond, q.order(), q.Limit), append(args, skip)...)
		return err
	})
	return list, total, wrap("list files", err)
}

// where is whose files; extra goes between user and category.
func (q *Query) where(extra string, extraArgs ...any) (string, []any) {
	cond, args := "org = ? AND usr = ?"+extra, append([]any{int64(q.Org), int64(q.User)}, extraArgs...)
	if q.Category != "" {
		cond, args = cond+" AND category = ?", append(args, q.Category)
	}
	return cond, args
}

func (q *Query) order() string {
	column, falling := map[Sort]string{SortName: "file_name", SortSize: "size"}[q.Sort], ""
	if !q.Ascending {
		falling = " DESC"
	}
	if column == "" {
		return "sequence" + falling
	}
	return column + falling + ", sequence" + falling
}

func (q *Query) total(ctx context.Context, tx *database.Tx) (total int64, err error) {
	cond, args := q.where(" AND level = 2")
	err = tx.QueryRowContext(ctx, "SELECT coalesce(sum(files), 0) FROM ledger_counts WHERE "+cond, args...).Scan(&total)
	return total, err
}

// seek finds the piece of the sequence in which the page begins: a condition that leaves out the pieces before it, with its argument,
// and how many files to skip from there.
func (q *Query) seek(ctx context.Context, tx *database.Tx) (condition string, edge, skip int64, err error) {
	piece2, skip, err := q.piece(ctx, tx, 2, 0, 1<<62, q.Offset)
	if err != nil {
		return "", 0, 0, err
	}
	const within = 1 << (shift2 - shift1)
	piece1, skip, err := q.piece(ctx, tx, 1, piece2*within, piece2*within+within-1, skip)
	if err != nil {
		return "", 0, 0, err
	}
	if q.Ascending {
		return " AND sequence >= ?", piece1 << shift1, skip, nil
	}
	return " AND sequence < ?", (piece1 + 1) << shift1, skip, nil
}

// piece is that of a level between low and high in which the file after skip others is, and how many of its own are before it.
func (q *Query) piece(ctx context.Context, tx *database.Tx, level int, low, high, skip int64) (piece, rest int64, err error) {
	cond, args := q.where(" AND level = ? AND piece BETWEEN ? AND ?", level, low, high)
	order := " DESC"
	if q.Ascending {
		order = ""
	}
	rest, found := skip, false
	err = database.Each(ctx, tx, func(rows *sql.Rows) error {
		var files int64
		if err := rows.Scan(&piece, &files); err != nil {
			return err
		}
		if rest < files {
			found = true
			return database.ErrEnough
		}
		rest -= files
		return nil
	}, "SELECT piece, sum(files) FROM ledger_counts WHERE "+cond+" GROUP BY piece ORDER BY piece"+order, args...)
	if err == nil && !found {
		err = fmt.Errorf("the counts of files of org %d, user %d are wrong: run rivergate storage reconcile --fix", q.Org, q.User)
	}
	return piece, rest, err
}
