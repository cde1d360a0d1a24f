package storage

import (
	"context"
	"crypto/rand"
	"embed"
	"fmt"
	"io/fs"

	"github.com/rivergate/rivergate/services/platform/database"
)

//go:embed migrations
var migrations embed.FS

const signingKeySize = 32

// signingKey is the key that signs URLs. It lies in the database, so that all hosts of one installation share it, and is made by the first.
func signingKey(ctx context.Context, db *database.DB) ([]byte, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "storage", files); err != nil {
		return nil, err
	}
	fresh := make([]byte, signingKeySize)
	rand.Read(fresh)
	var key []byte
	err = db.Write(ctx, func(tx *database.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO storage_secrets (name, secret) VALUES ('urls', ?) ON CONFLICT DO NOTHING", fresh); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT secret FROM storage_secrets WHERE name = 'urls'").Scan(&key)
	})
	if err != nil {
		return nil, fmt.Errorf("find the key that signs URLs: %w", err)
	}
	return key, nil
}
