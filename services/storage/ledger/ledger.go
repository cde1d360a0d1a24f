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
	"encoding/json"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/sdk/protocol"
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
	DefaultLimit int64         // bytes, of orgs without a limit of their own; Unlimited
	Lease        time.Duration // how long what a dead process held stays held; 0: a minute
	Log          hclog.Logger  // nil: no log
	Registry     prometheus.Registerer
	TopOrgs      int              // orgs with metrics of their own, the largest; the others are "other". 0: 20
	Now          func() time.Time // nil: time.Now
}

// Mode says what Commit does about a file of that object name.
type Mode int

// The modes.
const (
	Create  Mode = iota // ErrExists when there is one
	Replace             // the old one is gone in the same instant; its object becomes a tombstone
)

// Reservation asks for room before bytes flow.
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

// Tombstone is a key whose object is to be deleted. Then call Purged.
type Tombstone struct {
	Org   uint64
	Key   string
	Since time.Time
}
