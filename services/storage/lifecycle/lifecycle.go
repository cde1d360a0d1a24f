// Package lifecycle keeps files where they belong: those that nobody has read for long move to a dearer read and a cheaper place (hot, warm,
// cold), and those whose time is over are deleted.
//
// A move copies the object to a new key in the other tier, reads the copy through and compares its SHA-256, and only then lets the
// ledger point there, if the file is still the one that was copied. The former object becomes a tombstone that the files' sweeper purges:
// at every instant the ledger points at a whole object. Who found the former key just before it was purged looks again in the ledger.
// A crash between the steps leaves a hold that the ledger's sweeper takes back, never a file without its object.
package lifecycle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/objects"
)

// Policy is how long after its last access a file goes where.
type Policy struct {
	WarmAfterDays, ColdAfterDays int
}

// The policy and the limit where nothing else is said.
const (
	DefaultWarmAfterDays = 30
	DefaultColdAfterDays = 90
	DefaultLimit         = 10_000
	DefaultEvery         = time.Hour
)

const (
	day = 24 * time.Hour
	// moveTime bounds one move.
	moveTime = 30 * time.Minute
	// attempts at a file that others change meanwhile.
	attempts = 3
	// giveUp is after how many failures in a row a run ends: the backend or the database is down.
	giveUp = 5
	batch  = 200
)

// Files opens what is stored as it was uploaded.
type Files interface {
	Open(ctx context.Context, file ledger.File, from, length int64) (io.ReadCloser, error)
}

// Options is what a Lifecycle needs. DB, Ledger, Objects and Files are needed.
type Options struct {
	DB      *database.DB
	Ledger  *ledger.Ledger
	Objects objects.Backend
	Files   Files

	Policy Policy        // zero: the default one
	Every  time.Duration // between scheduled runs over all orgs, by one host at a time; 0: DefaultEvery; negative: none

	Log      hclog.Logger          // nil: none
	Registry prometheus.Registerer // nil: no metrics
	Now      func() time.Time      // nil: time.Now
}

// Lifecycle moves files. Make one with Open; Close it.
type Lifecycle struct {
	db      *database.DB
	ledger  *ledger.Ledger
	objects objects.Backend
	files   Files
	policy  Policy
	every   time.Duration
	log     hclog.Logger
	now     func() time.Time
	owner   string // of the scheduled runs of this process

	moved        *prometheus.CounterVec
	bytes, ended prometheus.Counter

	life context.Context // ends with Close
	end  context.CancelFunc
	busy sync.WaitGroup
}

// errCopy: the backend made something else of it.
var errCopy = errors.New("the copy does not have the checksum of the file")

// Open prepares the table and begins the scheduled runs.
func Open(ctx context.Context, o Options) (*Lifecycle, error) {
	l := &Lifecycle{
		db: o.DB, ledger: o.Ledger, objects: o.Objects, files: o.Files, policy: o.Policy, every: cmp.Or(o.Every, DefaultEvery),
		log: o.Log, now: o.Now, owner: uuid.NewString(),
	}
	if l.policy == (Policy{}) {
		l.policy = Policy{DefaultWarmAfterDays, DefaultColdAfterDays}
	}
	if l.log == nil {
		l.log = hclog.NewNullLogger()
	}
	if l.now == nil {
		l.now = time.Now
	}
	if err := l.migrate(ctx); err != nil {
		return nil, err
	}
	l.moved = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rivergate_storage_tier_moves_total", Help: "Files that were moved, by the tier that they went to."}, []string{"tier"})
	l.bytes = prometheus.NewCounter(prometheus.CounterOpts{Name: "rivergate_storage_tier_moved_bytes_total", Help: "Their size."})
	l.ended = prometheus.NewCounter(prometheus.CounterOpts{Name: "rivergate_storage_lifecycle_expired_total", Help: "Files that a run of the policy deleted since their time was over."})
	if o.Registry != nil {
		for _, c := range []prometheus.Collector{l.moved, l.bytes, l.ended} {
			if err := o.Registry.Register(c); err != nil {
				return nil, fmt.Errorf("register the metrics of the lifecycle: %w", err)
			}
		}
	}
	l.life, l.end = context.WithCancel(context.WithoutCancel(ctx))
	if l.every > 0 {
		l.busy.Go(l.schedule)
	}
	return l, nil
}

// Close ends the run under way; the file that is being moved stays where it was.
func (l *Lifecycle) Close() error {
	l.end()
	l.busy.Wait()
	return nil
}

// tiers are those of the backend.
func (l *Lifecycle) tiers(ctx context.Context) ([]protocol.Tier, error) {
	can, err := l.objects.Abilities(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the storage backend for its tiers: %w", err)
	}
	return can.Tiers, nil
}

// errThere: the file is in the tier already.
var errThere = errors.New("it is in that tier already")

// Move brings a file into a tier. Errors: ledger.ErrNotFound, ledger.ErrChanged when others change it all the time.
func (l *Lifecycle) Move(ctx context.Context, f ledger.File, tier protocol.Tier) (ledger.File, error) {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	for range attempts {
		if f.Tier == tier {
			return f, errThere
		}
		moved, err := l.move(ctx, f, tier)
		if err == nil {
			l.moved.WithLabelValues(string(tier)).Inc()
			l.bytes.Add(float64(f.Size))
			return moved, nil
		}
		// Overwritten, moved or deleted meanwhile: look again.
		if !errors.Is(err, ledger.ErrChanged) && !errors.Is(err, protocol.ErrNotFound) {
			return f, err
		}
		again, failed := l.ledger.ByID(ctx, f.Org, f.ID)
		if failed != nil {
			return f, failed
		}
		if again.Key == f.Key {
			return f, err // its object is gone: nothing for us to mend
		}
		f = again
	}
	return f, ledger.ErrChanged
}

func (l *Lifecycle) move(ctx context.Context, f ledger.File, tier protocol.Tier) (moved ledger.File, err error) {
	hold, err := l.ledger.Reserve(ctx, ledger.Reservation{Org: f.Org, ObjectName: f.ObjectName, Kind: f.Kind, Free: true})
	if err != nil {
		return ledger.File{}, err
	}
	defer func() { err = errors.Join(err, hold.Release(ctx)) }() // after Move: does nothing
	copied, err := l.objects.Copy(ctx, f.Key, protocol.Put{
		Key: hold.Key(), Size: f.StoredSize, ContentType: f.ContentType, Tier: tier, OnlyNew: true,
	})
	if err != nil {
		return ledger.File{}, fmt.Errorf("copy the object to the tier %s: %w", tier, err)
	}
	if copied.Size != f.StoredSize {
		return ledger.File{}, errCopy
	}
	there := f
	there.Key = hold.Key()
	if err := l.verify(ctx, there); err != nil {
		return ledger.File{}, err
	}
	return hold.Move(ctx, f, tier, copied.Size, f.KeyID)
}

// verify reads a copy through.
func (l *Lifecycle) verify(ctx context.Context, copied ledger.File) (err error) {
	body, err := l.files.Open(ctx, copied, 0, -1)
	if err != nil {
		return fmt.Errorf("read the copy of an object: %w", err)
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(sum, body)
	if err != nil {
		return fmt.Errorf("read the copy of an object: %w", err)
	}
	if n != copied.Size || hex.EncodeToString(sum.Sum(nil)) != copied.SHA256 {
		return errCopy
	}
	return nil
}

// Run is what one run of the policy is to do.
type Run struct {
	Org    uint64 // 0: all
	Policy Policy
	DryRun bool // changes nothing
	Limit  int  // files that are moved or deleted, at most
}

// Done is what it did, or would do.
type Done struct {
	Scanned, ToWarm, ToCold, Deleted int
	BytesMoved                       int64
	Failed                           int
}

// Apply runs the policy. Files that cannot be moved are left and counted; when that happens time and again, the run ends with the error.
func (l *Lifecycle) Apply(ctx context.Context, r Run) (Done, error) { return l.apply(ctx, r, nil) }

func (l *Lifecycle) apply(ctx context.Context, r Run, keep func(context.Context) error) (done Done, err error) {
	tiers, err := l.tiers(ctx)
	if err != nil {
		return done, err
	}
	run := &running{l: l, r: r, done: &done, began: l.now(), keep: keep}
	if err := run.expire(ctx); err != nil {
		return done, err
	}
	warm, cold := run.began.Add(-time.Duration(r.Policy.WarmAfterDays)*day), run.began.Add(-time.Duration(r.Policy.ColdAfterDays)*day)
	hasWarm, hasCold := slices.Contains(tiers, protocol.TierWarm), slices.Contains(tiers, protocol.TierCold)
	for _, step := range []struct {
		from, to protocol.Tier
		before   time.Time
		can      bool
	}{
		{protocol.TierHot, protocol.TierCold, cold, hasCold},
		{protocol.TierWarm, protocol.TierCold, cold, hasCold},
		{protocol.TierHot, protocol.TierWarm, warm, hasWarm},
	} {
		if step.can {
			if err := run.idle(ctx, step.from, step.to, step.before, cold, hasCold); err != nil {
				return done, err
			}
		}
	}
	if r.DryRun {
		return done, nil
	}
	return done, l.ran(ctx, r.Org)
}

// running is one run.
type running struct {
	l     *Lifecycle
	r     Run
	done  *Done
	began time.Time
	row   int                         // failures in a row
	keep  func(context.Context) error // of a scheduled run: renews its lease
}

func (r *running) left() int { return r.r.Limit - r.done.ToWarm - r.done.ToCold - r.done.Deleted }

// failed counts a file that was left; an error ends the run.
func (r *running) failed(ctx context.Context, f ledger.File, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, ledger.ErrNotFound) || errors.Is(err, ledger.ErrChanged) || errors.Is(err, errThere) {
		return nil // others were faster
	}
	r.done.Failed++
	r.l.log.Warn("a file stays where it is", "organization", f.Org, "file", f.ID, "error", err)
	if r.row++; r.row >= giveUp {
		return fmt.Errorf("%d files in a row could not be moved or deleted, the last: %w", r.row, err)
	}
	return nil
}

func (r *running) expire(ctx context.Context) error {
	list, err := r.l.ledger.Expired(ctx, r.r.Org, r.left())
	if err != nil {
		return err
	}
	for _, f := range list {
		r.done.Scanned++
		if !r.r.DryRun {
			if err := r.l.delete(ctx, f); err != nil {
				if err := r.failed(ctx, f, err); err != nil {
					return err
				}
				continue
			}
			r.row = 0
			r.l.ended.Inc()
		}
		r.done.Deleted++
	}
	return nil
}

// delete is final once the ledger has it; the object follows, if not now then with the sweeper.
func (l *Lifecycle) delete(ctx context.Context, f ledger.File) error {
	gone, err := l.ledger.DeleteVersion(ctx, f)
	if err != nil {
		return err
	}
	if err = l.objects.Delete(ctx, gone.Key); err == nil {
		err = l.ledger.Purged(ctx, gone.Key)
	}
	if err != nil {
		l.log.Debug("a deleted file's object stays for the sweeper", "error", err)
	}
	return nil
}

// idle moves what nobody has read since before. What is due for the cold tier is not for the warm one.
func (r *running) idle(ctx context.Context, from, to protocol.Tier, before, cold time.Time, hasCold bool) error {
	after := ledger.File{}
	for r.left() > 0 {
		list, err := r.l.ledger.Idle(ctx, r.r.Org, from, before, after, batch)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, f := range list {
			after = f
			if to == protocol.TierWarm && hasCold && f.Accessed.Before(cold) || !f.Expires.IsZero() && !f.Expires.After(r.began) {
				continue // counted before, or about to be deleted
			}
			if r.left() == 0 {
				return nil
			}
			if err := r.one(ctx, f, to); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *running) one(ctx context.Context, f ledger.File, to protocol.Tier) error {
	if r.keep != nil {
		if err := r.keep(ctx); err != nil {
			return err
		}
	}
	r.done.Scanned++
	if !r.r.DryRun {
		if _, err := r.l.Move(ctx, f, to); err != nil {
			return r.failed(ctx, f, err)
		}
		r.row = 0
	}
	r.done.BytesMoved += f.Size
	if to == protocol.TierCold {
		r.done.ToCold++
	} else {
		r.done.ToWarm++
	}
	return nil
}
