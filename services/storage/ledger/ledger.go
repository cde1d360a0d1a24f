// Package ledger keeps the books of the storage: which files there are, what each org may use and uses, and what is under way.
//
// At every instant, on both databases and also after a kill, Σ sizes of visible files + Σ live holds = used + reserved, per org.
//
// An upload reserves (Reserve), the bytes go to the backend under the hold's key, and Commit makes the file visible and turns the hold
// into use, in one transaction. Release, or the end of the lease of a process that died, gives the bytes back and leaves a tombstone: a
// key whose object is to be deleted. Deleting and overwriting leave tombstones, too. Whoever deletes the object calls Purged.
// A key with a tombstone is never given again while an object of it might be there.
package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
)

// Kind is what a file is for. KindFile alone is listed by List.
type Kind string

// The kinds.
const (
	KindFile     Kind = "file"     // a user's upload
	KindInternal Kind = "internal" // of another service: query results, temporary files
	KindModel    Kind = "model"    // an artifact of the model registry
	KindChunk    Kind = "chunk"    // of staging
)

// Unlimited is the limit of an org that may use all there is.
const Unlimited = -1

// File is a stored file.
type File struct {
	ID           int64 // storage_file_id; stays when the file is overwritten
	Org          uint64
	User         uint64 // 0: none
	Workspace    uint64 // 0: none
	Kind         Kind
	Category     string // file_category of a user's upload
	Purpose      string // of an internal file
	ObjectName   string // what the API calls it, unique in its org
	FileName     string // the client's name for it
	Key          string // of its object in the backend; another one after each overwrite or move
	Size         int64  // of the plaintext, what the quota counts
	StoredSize   int64  // of the object
	ContentType  string
	SHA256       string // of the plaintext, hex
	Tier         protocol.Tier
	KeyID        string // of package seal; empty: not encrypted by us
	Free         bool   // not counted against the quota
	Columns      []string
	Metadata     json.RawMessage
	DataSourceID int64 // 0: none
	Created      time.Time
	Accessed     time.Time // roughly: see Touch
	TierChanged  time.Time // zero: never
	Expires      time.Time // zero: never
}

// Options is what a Ledger needs.
type Options struct {
	DefaultLimit int64 // bytes, of orgs without a limit of their own; Unlimited
	// Lease is how long what a process held stays held after it died; 0: a minute. The clocks of hosts that share a database must agree
	// within half of it.
	Lease time.Duration
	// Host is a name that no other living process has, that of a locked data folder, say: what an earlier process of that name held is
	// free for Sweep at once. Empty: it stays held for the rest of its lease.
	Host     string
	Log      hclog.Logger          // nil: no log
	Registry prometheus.Registerer // nil: no metrics
	TopOrgs  int                   // orgs that have metrics of their own, those that use most; the others are "other". 0: 20
	Now      func() time.Time      // nil: time.Now
}

// Mode says what Commit does about a file of that object name.
type Mode int

// The modes.
const (
	Create  Mode = iota // ErrExists when there is one
	Replace             // the old one is gone in the same instant; its object becomes a tombstone
)

// Reservation asks for room before bytes flow, or while the first few do (see Plan).
type Reservation struct {
	Org        uint64
	ObjectName string
	Kind       Kind
	Bytes      int64 // to begin with; of unknown lengths, Grow in steps
	Free       bool  // counts nothing against the quota
	Overwrite  bool  // only what it takes more than the present file of that name is reserved
	// Fresh promises that this object name never was and never comes again (it has random characters, or a number given once). Its
	// key is the name itself; otherwise it is the name with ~ and 8 hex digits.
	Fresh bool
	// Lease 0: the hold lives as long as it is neither committed nor released and this process lives; the ledger renews it.
	// Otherwise it lives that long without us, for uploads that outlive a request or a process (see Ledger.Hold and Hold.Keep).
	Lease time.Duration
}

// Usage is what an org uses.
type Usage struct {
	Limit      int64                  // Unlimited
	Own        bool                   // the limit is the org's own, not the default
	Used       int64                  // Σ sizes of visible files that count
	Reserved   int64                  // Σ live holds
	Files      int64                  // of KindFile
	Categories map[string]Part        // of KindFile by category, the others by kind
	Tiers      map[protocol.Tier]Part // of all
}

// Part is a part of an org's files.
type Part struct{ Files, Bytes int64 }

// Query asks for a page of a user's files, KindFile only.
type Query struct {
	Org, User uint64
	Category  string // empty: all
	Offset    int64
	Limit     int
	Sort      Sort
	Ascending bool
}

// Sort is an order of files; those that are equal in it are ordered by age.
type Sort string

// The orders. Pages in the order of SortCreated cost the same wherever they are; those of the others get dearer with the offset, which
// is at most MaxSortedOffset.
const (
	SortCreated Sort = "" // newest first, unless Ascending
	SortName    Sort = "name"
	SortSize    Sort = "size"
)

// MaxSortedOffset is how deep pages by name or size go.
const MaxSortedOffset = 10_000

// OrgUsage is an org in a list.
type OrgUsage struct {
	Org                   uint64
	Limit, Used, Reserved int64
	Own                   bool // see Usage
}

// Tombstone is a key whose object is to be deleted. Then call Purged.
type Tombstone struct {
	Org   uint64
	Key   string
	Since time.Time
}

// Ledger keeps the books. Make one with Open.
type Ledger struct {
	db           *database.DB
	log          hclog.Logger
	now          func() time.Time
	defaultLimit int64
	lease        time.Duration
	owner        string // of the holds of this process

	metrics *metrics
	life    context.Context // until Close; of the keeper and of requests
	end     context.CancelFunc
	keeper  sync.WaitGroup

	mu      sync.Mutex
	held    map[int64]bool      // holds of this process that have not ended
	touched map[int64]time.Time // by the id of the file; written by the keeper
}

const (
	defaultLease = time.Minute
	finishTime   = 30 * time.Second // for what is finished although its caller went away
)

// Open prepares the tables and begins to renew this process's holds. Close ends that.
func Open(ctx context.Context, db *database.DB, o Options) (*Ledger, error) {
	l := &Ledger{
		db: db, log: o.Log, now: o.Now, defaultLimit: o.DefaultLimit, lease: cmp.Or(o.Lease, defaultLease), owner: o.Host + "/" + uuid.NewString(),
		held: make(map[int64]bool), touched: make(map[int64]time.Time),
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
	if o.Host != "" {
		if err := l.takeOver(ctx, o.Host); err != nil {
			return nil, fmt.Errorf("ledger: take over from an earlier process: %w", err)
		}
	}
	if err := l.renew(ctx); err != nil {
		return nil, fmt.Errorf("ledger: announce this process: %w", err)
	}
	l.metrics = newMetrics(l, cmp.Or(o.TopOrgs, 20))
	if o.Registry != nil {
		if err := o.Registry.Register(l.metrics); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	l.life, l.end = context.WithCancel(context.WithoutCancel(ctx))
	l.keeper.Go(func() { l.keep(l.life) })
	return l, nil
}

// Close ends what its routes still do, and stops renewing: holds that have not ended by now are free for Sweep.
func (l *Ledger) Close() error {
	l.end()
	l.keeper.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), finishTime)
	defer cancel()
	if err := errors.Join(l.flushTouched(ctx), l.retire(ctx)); err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// micros is how a time is stored.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
