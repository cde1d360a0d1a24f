package files

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

//go:embed migrations
var migrations embed.FS

// store is the SQL of this package: uploads that outlive a request. Files and bytes are the ledger's.
type store struct{ db *database.DB }

// The kinds of uploads.
const (
	kindTus   = "tus"
	kindParts = "parts"
)

// partial is an upload that outlives a request.
type partial struct {
	id       string
	kind     string
	file     ledger.File // what is known before; its Key and KeyID are those of the object to be
	sha256   string      // announced, hex; empty: not
	metadata string      // of tus, as it was sent
	size     int64
	partSize int64 // of kindParts
	hold     int64
	backend  string // the backend's upload; empty: none was needed yet
	received int64  // bytes that are safe
	parted   int64  // of these, those that are in parts; the others are the tail
	tail     string // the tail's key; empty: none
	tailKey  string // the tail's key id
	tailHold int64  // the tail's hold; 0: none
	hash     []byte // state of SHA-256 behind the bytes that are in parts
	fileID   int64  // 0: not complete
	expires  time.Time
}

var (
	errNoUpload = errors.New("there is no such upload")
	errMoved    = errors.New("another request has changed the upload")
)

func (s *store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return s.db.Migrate(ctx, "files", files)
}

const columns = `id, kind, org, user_id, workspace, object_name, file_name, content_type, category, sha256, metadata, size, part_size, hold, object_key,
	key_id, backend, received, parted, tail, tail_key_id, tail_hold, hash, file_id, expires`

func (s *store) add(ctx context.Context, u *partial) error {
	f := &u.file
	return s.db.Write(ctx, func(tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO files_uploads (`+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			u.id, u.kind, int64(f.Org), int64(f.User), int64(f.Workspace), f.ObjectName, f.FileName, f.ContentType, f.Category, u.sha256, u.metadata, u.size,
			u.partSize, u.hold, f.Key, f.KeyID, u.backend, u.received, u.parted, u.tail, u.tailKey, u.tailHold, u.hash, u.fileID, u.expires.UnixMicro())
		return err
	})
}

func scan(row interface{ Scan(...any) error }) (*partial, error) {
	u := &partial{}
	f := &u.file
	var org, user, workspace, expires int64
	err := row.Scan(&u.id, &u.kind, &org, &user, &workspace, &f.ObjectName, &f.FileName, &f.ContentType, &f.Category, &u.sha256, &u.metadata, &u.size,
		&u.partSize, &u.hold, &f.Key, &f.KeyID, &u.backend, &u.received, &u.parted, &u.tail, &u.tailKey, &u.tailHold, &u.hash, &u.fileID, &expires)
	f.Kind, f.Org, f.User, f.Workspace, u.expires = ledger.KindFile, uint64(org), uint64(user), uint64(workspace), time.UnixMicro(expires).UTC()
	return u, err
}

// find returns an upload of an org. errNoUpload.
func (s *store) find(ctx context.Context, org uint64, kind, id string) (*partial, error) {
	u, err := scan(s.db.Reader().QueryRowContext(ctx, `SELECT `+columns+` FROM files_uploads WHERE id = ? AND org = ? AND kind = ?`, id, int64(org), kind))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoUpload
	}
	return u, err
}

// expired are uploads whose time is over.
func (s *store) expired(ctx context.Context, now time.Time, limit int) (list []*partial, err error) {
	rows, err := s.db.Reader().QueryContext(ctx, `SELECT `+columns+` FROM files_uploads WHERE expires <= ? ORDER BY expires LIMIT ?`, now.UnixMicro(), limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		u, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, rows.Err()
}

// advance keeps what a request has brought, and its parts, unless another one was faster: errMoved.
func (s *store) advance(ctx context.Context, u *partial, from int64, parts []protocol.Part) error {
	return s.db.Write(ctx, func(tx *database.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE files_uploads SET backend = ?, received = ?, parted = ?, tail = ?, tail_key_id = ?, tail_hold = ?, hash = ?, expires = ?
			WHERE id = ? AND received = ? AND file_id = 0`,
			u.backend, u.received, u.parted, u.tail, u.tailKey, u.tailHold, u.hash, u.expires.UnixMicro(), u.id, from)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, errMoved)
		}
		for _, p := range parts {
			if err := s.setPart(ctx, tx, u.id, p); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) setPart(ctx context.Context, tx *database.Tx, upload string, p protocol.Part) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO files_parts (upload, number, etag, size) VALUES (?, ?, ?, ?)
		ON CONFLICT (upload, number) DO UPDATE SET etag = excluded.etag, size = excluded.size`, upload, p.Number, p.ETag, p.Size)
	return err
}

// addPart keeps a part that came by its own URL, and lets the upload live on. errNoUpload when it is over.
func (s *store) addPart(ctx context.Context, u *partial, p protocol.Part) error {
	return s.db.Write(ctx, func(tx *database.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE files_uploads SET expires = ? WHERE id = ? AND file_id = 0`, u.expires.UnixMicro(), u.id)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, errNoUpload)
		}
		return s.setPart(ctx, tx, u.id, p)
	})
}

// parts are those of an upload, in their order. Size is that of the plaintext.
func (s *store) parts(ctx context.Context, upload string) (parts []protocol.Part, err error) {
	rows, err := s.db.Reader().QueryContext(ctx, `SELECT number, etag, size FROM files_parts WHERE upload = ? ORDER BY number`, upload)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p protocol.Part
		if err := rows.Scan(&p.Number, &p.ETag, &p.Size); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, rows.Err()
}

// countParts is how many there are.
func (s *store) countParts(ctx context.Context, upload string) (n int, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT count(*) FROM files_parts WHERE upload = ?`, upload).Scan(&n)
	return n, err
}

// has: whether an upload of the backend belongs to one of ours.
func (s *store) has(ctx context.Context, key, backend string) (bool, error) {
	var n int
	err := s.db.Reader().QueryRowContext(ctx, `SELECT count(*) FROM files_uploads WHERE object_key = ? AND backend = ?`, key, backend).Scan(&n)
	return n > 0, err
}

// completed notes the file that became of an upload; who asks again is told of it until it expires.
func (s *store) completed(ctx context.Context, id string, file int64, expires time.Time) error {
	return s.db.Write(ctx, func(tx *database.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE files_uploads SET file_id = ?, tail = '', tail_hold = 0, expires = ? WHERE id = ?`, file, expires.UnixMicro(), id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM files_parts WHERE upload = ?`, id)
		return err
	})
}

// remove forgets an upload, unless it lives on: another request may have renewed it. false: it was not removed.
func (s *store) remove(ctx context.Context, id string, notAfter time.Time) (removed bool, err error) {
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		done, err := tx.ExecContext(ctx, `DELETE FROM files_uploads WHERE id = ? AND expires <= ?`, id, notAfter.UnixMicro())
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		if removed = n == 1; err != nil || !removed {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM files_parts WHERE upload = ?`, id)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("remove upload %s: %w", id, err)
	}
	return removed, nil
}
