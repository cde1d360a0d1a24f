package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
)

var errUnbuilt = errors.New("signatures only: pull again soon")

type Ledger struct{}

func Open(ctx context.Context, db *database.DB, o Options) (*Ledger, error) { return nil, errUnbuilt }
func (l *Ledger) Close() error                                              { return errUnbuilt }
func (l *Ledger) Reserve(ctx context.Context, r Reservation) (*Hold, error) { return nil, errUnbuilt }

// Hold reopens one that was made with Reservation.Lease > 0 (tus, presigned multipart). ErrHoldLost.
func (l *Ledger) Hold(ctx context.Context, org uint64, id int64) (*Hold, error) {
	return nil, errUnbuilt
}

type Hold struct{}

func (h *Hold) ID() int64    { return 0 }
func (h *Hold) Key() string  { return "" }
func (h *Hold) Bytes() int64 { return 0 }

// Grow asks for n bytes more; a *QuotaError leaves the hold as it is.
func (h *Hold) Grow(ctx context.Context, n int64) error { return errUnbuilt }

// Keep lets a hold with Reservation.Lease > 0 live d from now. Others are renewed by the ledger itself.
func (h *Hold) Keep(ctx context.Context, d time.Duration) error { return errUnbuilt }

// Commit makes the file visible. Org, Kind, ObjectName, Key, Free, ID and Created are set here; f.Size is charged.
// database.ErrUnknown: it may have happened; leave the object alone.
func (h *Hold) Commit(ctx context.Context, f File, m Mode) (file File, replaced *File, err error) {
	return File{}, nil, errUnbuilt
}

// Move makes old, whose object was copied to Key, point there. For holds with Free. ErrChanged.
func (h *Hold) Move(ctx context.Context, old File, tier protocol.Tier, storedSize int64, keyID string) (File, error) {
	return File{}, errUnbuilt
}

// Release gives the bytes back and leaves a tombstone of Key: delete the object and call Purged, or leave it to the sweeper. Idempotent.
func (h *Hold) Release(ctx context.Context) error { return errUnbuilt }

// SetTier notes that the object's class was changed in place. ErrChanged.
func (l *Ledger) SetTier(ctx context.Context, f File, tier protocol.Tier) (File, error) {
	return File{}, errUnbuilt
}
func (l *Ledger) Find(ctx context.Context, org uint64, objectName string) (File, error) {
	return File{}, errUnbuilt
}
func (l *Ledger) ByID(ctx context.Context, org uint64, id int64) (File, error) {
	return File{}, errUnbuilt
}
func (l *Ledger) List(ctx context.Context, q Query) (files []File, total int64, err error) {
	return nil, 0, errUnbuilt
}
func (l *Ledger) Delete(ctx context.Context, org uint64, objectName string) (File, error) {
	return File{}, errUnbuilt
}

// DeleteVersion deletes f only while its key still is that. ErrChanged, ErrNotFound.
func (l *Ledger) DeleteVersion(ctx context.Context, f File) (File, error) { return File{}, errUnbuilt }

// Touch notes that f was read now; it is written now and then.
func (l *Ledger) Touch(f File) {}
func (l *Ledger) SetDataSource(ctx context.Context, org uint64, id, dataSource int64) error {
	return errUnbuilt
}
func (l *Ledger) Usage(ctx context.Context, org uint64) (Usage, error)        { return Usage{}, errUnbuilt }
func (l *Ledger) SetLimit(ctx context.Context, org uint64, bytes int64) error { return errUnbuilt }
func (l *Ledger) ClearLimit(ctx context.Context, org uint64) error            { return errUnbuilt }
func (l *Ledger) Orgs(ctx context.Context, after uint64, limit int) ([]OrgUsage, error) {
	return nil, errUnbuilt
}

// OrgUsage is an org in a list.
type OrgUsage struct {
	Org                   uint64
	Limit, Used, Reserved int64
	Own                   bool
}

// Sweep releases holds whose lease has ended, at most limit.
func (l *Ledger) Sweep(ctx context.Context, limit int) (n int, err error) { return 0, errUnbuilt }

// Tombstones are keys to delete, oldest first; they are the caller's for a minute.
func (l *Ledger) Tombstones(ctx context.Context, limit int) ([]Tombstone, error) {
	return nil, errUnbuilt
}
func (l *Ledger) Purged(ctx context.Context, key string) error { return errUnbuilt }
func (l *Ledger) ExpiredFiles(ctx context.Context, limit int) ([]File, error) {
	return nil, errUnbuilt
}

// Idle are files of a tier that were not read since before, ordered by id, those after the given id.
func (l *Ledger) Idle(ctx context.Context, tier protocol.Tier, before time.Time, after int64, limit int) ([]File, error) {
	return nil, errUnbuilt
}

// Objects is what Reconcile needs of the backend: protocol.Storage without the instance.
type Objects interface {
	Stat(ctx context.Context, key string) (protocol.Object, error)
	List(ctx context.Context, prefix, after string, limit int) (objects []protocol.Object, more bool, err error)
	Delete(ctx context.Context, key string) error
}
type ReconcileOptions struct {
	Prefix string // of the keys that are ours
	Fix    bool
}
type Report struct{}

func (r *Report) Empty() bool { return false }
func (l *Ledger) Reconcile(ctx context.Context, objects Objects, o ReconcileOptions) (Report, error) {
	return Report{}, errUnbuilt
}
