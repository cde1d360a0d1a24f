package lifecycle

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/rivergate/rivergate/services/platform/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// finishTime is for what is written although the service ends.
const finishTime = 5 * time.Second

func (l *Lifecycle) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return l.db.Migrate(ctx, "lifecycle", files)
}

// change runs one statement and returns how many rows it changed.
func (l *Lifecycle) change(ctx context.Context, doing, query string, args ...any) (n int64, err error) {
	err = l.db.Write(ctx, func(tx *database.Tx) error {
		done, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err = done.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("lifecycle: %s: %w", doing, err)
	}
	return n, nil
}

// acquire takes the scheduled run, unless another host has it or the newest ended after since.
func (l *Lifecycle) acquire(ctx context.Context, since time.Time) (bool, error) {
	now := l.now()
	n, err := l.change(ctx, "take the scheduled run", `INSERT INTO lifecycle_runs (org, owner, expires, ran) VALUES (0, ?, ?, 0)
		ON CONFLICT (org) DO UPDATE SET owner = excluded.owner, expires = excluded.expires
		WHERE lifecycle_runs.expires <= ? AND lifecycle_runs.ran <= ?`, l.owner, now.Add(lease).UnixMicro(), now.UnixMicro(), since.UnixMicro())
	return n == 1, err
}

// renew keeps it. errTaken.
func (l *Lifecycle) renew(ctx context.Context) error {
	n, err := l.change(ctx, "keep the scheduled run", "UPDATE lifecycle_runs SET expires = ? WHERE org = 0 AND owner = ?", l.now().Add(lease).UnixMicro(), l.owner)
	if err == nil && n == 0 {
		err = errTaken
	}
	return err
}

// release lets others have it, also when the service ends.
func (l *Lifecycle) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	_, err := l.change(ctx, "let the scheduled run go", "UPDATE lifecycle_runs SET expires = 0 WHERE org = 0 AND owner = ?", l.owner)
	return err
}

// ran notes the end of a run.
func (l *Lifecycle) ran(ctx context.Context, org uint64) error {
	_, err := l.change(ctx, "note the end of a run", `INSERT INTO lifecycle_runs (org, owner, expires, ran) VALUES (?, '', 0, ?)
		ON CONFLICT (org) DO UPDATE SET owner = '', expires = 0, ran = excluded.ran`, int64(org), l.now().UnixMicro())
	return err
}

// lastRun is when the newest run over an org ended; zero: none has.
func (l *Lifecycle) lastRun(ctx context.Context, org uint64) (time.Time, error) {
	var ran int64
	err := l.db.Reader().QueryRowContext(ctx, "SELECT coalesce(max(ran), 0) FROM lifecycle_runs WHERE org IN (0, ?)", int64(org)).Scan(&ran)
	if err != nil {
		return time.Time{}, fmt.Errorf("lifecycle: last run: %w", err)
	}
	if ran == 0 {
		return time.Time{}, nil
	}
	return time.UnixMicro(ran).UTC(), nil
}
