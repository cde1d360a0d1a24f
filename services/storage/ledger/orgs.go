package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
)

// Usage returns what an org uses and may use; of one that never used anything, its limit.
func (l *Ledger) Usage(ctx context.Context, org uint64) (Usage, error) {
	u := Usage{Limit: l.defaultLimit, Categories: map[string]Part{}, Tiers: map[protocol.Tier]Part{}}
	err := l.db.Snapshot(ctx, func(tx *database.Tx) error {
		u.Files = 0
		clear(u.Categories)
		clear(u.Tiers)
		err := tx.QueryRowContext(ctx, "SELECT coalesce(byte_limit, ?), byte_limit IS NOT NULL, used, reserved FROM ledger_orgs WHERE org = ?", l.defaultLimit, int64(org)).
			Scan(&u.Limit, &u.Own, &u.Used, &u.Reserved)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return database.Each(ctx, tx, func(rows *sql.Rows) error {
			var kind Kind
			var category string
			var tier protocol.Tier
			var free bool
			var p Part
			err := rows.Scan(&kind, &category, &tier, &free, &p.Files, &p.Bytes)
			u.Tiers[tier] = u.Tiers[tier].plus(p)
			if kind == KindFile {
				u.Files += p.Files
			} else {
				category = string(kind)
			}
			if !free {
				u.Categories[category] = u.Categories[category].plus(p)
			}
			return err
		}, "SELECT kind, category, tier, free, files, bytes FROM ledger_parts WHERE org = ? AND files > 0", int64(org))
	})
	return u, wrap("usage", err)
}

func (p Part) plus(other Part) Part { return Part{p.Files + other.Files, p.Bytes + other.Bytes} }

// SetLimit gives an org a limit of its own, bytes or Unlimited. Below what it uses, it can store nothing more, and nothing is deleted.
func (l *Ledger) SetLimit(ctx context.Context, org uint64, bytes int64) error {
	if bytes < 0 && bytes != Unlimited || bytes > maxBytes {
		return fmt.Errorf("a limit of %d bytes: it must be from 0 to %d, or %d for unlimited", bytes, int64(maxBytes), Unlimited)
	}
	return l.setLimit(ctx, org, sql.NullInt64{Int64: bytes, Valid: true})
}

// ClearLimit gives an org the default limit again.
func (l *Ledger) ClearLimit(ctx context.Context, org uint64) error {
	return l.setLimit(ctx, org, sql.NullInt64{})
}

func (l *Ledger) setLimit(ctx context.Context, org uint64, limit sql.NullInt64) error {
	return wrap("set a limit", l.change(ctx, org, func(ctx context.Context, tx *database.Tx) error {
		if err := insertOrg(ctx, tx, org); err != nil {
			return err
		}
		return run(ctx, tx, "UPDATE ledger_orgs SET byte_limit = ? WHERE org = ?", limit, int64(org))
	}))
}

// Orgs returns orgs that have something or a limit of their own, in the order of their number, those after the given one.
func (l *Ledger) Orgs(ctx context.Context, after uint64, limit int) ([]OrgUsage, error) {
	list, err := l.orgs(ctx, l.db.Reader(), "org > ? ORDER BY org LIMIT ?", int64(after), limit)
	return list, wrap("orgs", err)
}

func (l *Ledger) orgs(ctx context.Context, q database.Querier, condition string, args ...any) ([]OrgUsage, error) {
	var list []OrgUsage
	err := database.Each(ctx, q, func(rows *sql.Rows) error {
		var org int64
		var u OrgUsage
		err := rows.Scan(&org, &u.Limit, &u.Own, &u.Used, &u.Reserved)
		u.Org = uint64(org)
		list = append(list, u)
		return err
	}, "SELECT org, coalesce(byte_limit, ?), byte_limit IS NOT NULL, used, reserved FROM ledger_orgs WHERE "+condition, append([]any{l.defaultLimit}, args...)...)
	return list, err
}
