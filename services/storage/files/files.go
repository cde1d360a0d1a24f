// Package files takes files in and gives them out again: uploads in forms, by signed URL, in parts and resumable ones (tus);
// downloads with ranges and conditions; and the sweeper, which clears what failed uploads, deletions and expiry leave behind.
//
//	form → reservation → [hash, inspection, seal] → object → row and charge in one transaction → 201
//
// What a client sees of a file is its row. Bytes without a row are nobody's: each has a reservation, a tombstone or an upload
// that names its key, so that nothing is left behind, whatever was cut off where.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/inspect"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/objects"
	"github.com/rivergate/rivergate/services/storage/seal"
)

// What holds when Options says nothing.
const (
	DefaultMaxFile    = 100 << 20
	DefaultBucket     = "rivergen-storage"
	DefaultUploadTTL  = 24 * time.Hour
	DefaultSweepEvery = time.Minute
	DefaultSkew       = time.Second
)

// minSigningKey is 32 bytes: the strength of the hash.
const minSigningKey = 32

// Options makes a Service. Ledger, Objects, DB, SigningKey, Log and Registry are needed.
type Options struct {
	Ledger  *ledger.Ledger
	Objects objects.Backend
	DB      *database.DB
	Keys    *seal.Keys     // nil: the host does not encrypt
	Rules   *inspect.Rules // of uploads' content; nil: they are taken as what they say they are

	Bucket  string // for s3:// addresses, where the backend has none of its own
	MaxFile int64  // bytes of one upload

	SigningKey []byte        // of URLs; all hosts of one installation share it
	Skew       time.Duration // by which the clocks of these hosts may differ; below 0: not at all
	PublicURL  string        // where clients reach the host; empty: where the request came to

	UploadTTL  time.Duration // of resumable uploads and uploads in parts
	SweepEvery time.Duration
	Now        func() time.Time // nil: time.Now

	Log      hclog.Logger
	Registry prometheus.Registerer
}

// Service answers the routes of files.
type Service struct {
	ledger    *ledger.Ledger
	objects   objects.Backend
	store     *store
	keys      *seal.Keys
	rules     *inspect.Rules
	abilities protocol.Abilities
	bucket    string
	maxFile   int64
	signing   *Signing
	publicURL string
	uploadTTL time.Duration
	now       func() time.Time
	log       hclog.Logger
	locks     locks
	metrics   *metrics

	life context.Context // ends everything
	end  context.CancelFunc
	work sync.WaitGroup
}

// New makes the service and starts its sweeper. Close it after the server has stopped taking requests.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Ledger == nil || o.Objects == nil || o.DB == nil || o.Log == nil || o.Registry == nil {
		return nil, errors.New("files: ledger, objects, database, log and registry are needed")
	}
	if len(o.SigningKey) < minSigningKey {
		return nil, fmt.Errorf("files: the key that signs URLs has %d bytes; it needs %d", len(o.SigningKey), minSigningKey)
	}
	s := &Service{
		ledger: o.Ledger, objects: o.Objects, store: &store{o.DB}, keys: o.Keys, rules: o.Rules, bucket: o.Bucket,
		maxFile: orDefault(o.MaxFile, DefaultMaxFile), publicURL: o.PublicURL, uploadTTL: orDefault(o.UploadTTL, DefaultUploadTTL),
		now: o.Now, log: o.Log,
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.signing = &Signing{Key: o.SigningKey, Skew: max(0, orDefault(o.Skew, DefaultSkew)), Now: s.now}
	var err error
	if s.abilities, err = o.Objects.Abilities(ctx); err != nil {
		return nil, fmt.Errorf("files: ask the storage backend what it can do: %w", err)
	}
	if s.abilities.Bucket != "" {
		s.bucket = s.abilities.Bucket
	} else if s.bucket == "" {
		s.bucket = DefaultBucket
	}
	if err := s.store.migrate(ctx); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(o.Registry); err != nil {
		return nil, err
	}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	s.work.Go(func() { s.sweepOn(orDefault(o.SweepEvery, DefaultSweepEvery)) })
	return s, nil
}

func orDefault[T comparable](value, absent T) T {
	var none T
	if value == none {
		return absent
	}
	return value
}

// Close ends the sweeper and what requests are still doing.
func (s *Service) Close() error {
	s.end()
	s.work.Wait()
	return nil
}

// Find returns the row of an object. ledger.ErrNotFound.
func (s *Service) Find(ctx context.Context, org uint64, objectName string) (ledger.File, error) {
	return s.ledger.Find(ctx, org, objectName)
}

// Open gives length bytes of a file from byte from on, as they were uploaded; length below 0: to the end. The caller closes it.
func (s *Service) Open(ctx context.Context, file ledger.File, from, length int64) (io.ReadCloser, error) {
	fetch := func(ctx context.Context, from, length int64) (io.ReadCloser, error) {
		_, body, err := s.objects.Get(ctx, file.Key, protocol.Range{From: from, Length: length})
		if err != nil {
			return nil, backend("get an object", err)
		}
		return body, nil
	}
	if file.KeyID == "" {
		return fetch(ctx, from, length)
	}
	if s.keys == nil {
		return nil, fmt.Errorf("%s is encrypted, and this host has no keys: set RIVERGATE_STORAGE_ENCRYPTION=host", file.ObjectName)
	}
	return s.keys.Open(ctx, file.Org, file.KeyID, file.Size, from, length, fetch)
}

// open is Open of the newest version: a tier move or an overwrite may take the object from under a row that was read before.
func (s *Service) open(ctx context.Context, file ledger.File, from, length int64) (io.ReadCloser, error) {
	body, err := s.Open(ctx, file, from, length)
	for range 3 {
		if !errors.Is(err, protocol.ErrNotFound) {
			return body, err
		}
		again, failed := s.ledger.Find(ctx, file.Org, file.ObjectName)
		if failed != nil {
			return nil, failed
		}
		if again.Key == file.Key {
			return nil, err
		}
		if again.SHA256 != file.SHA256 {
			return nil, errChanged
		}
		file = again
		body, err = s.Open(ctx, file, from, length)
	}
	return body, err
}

// errChanged: another version has taken the place of the one that the answer was begun with.
var errChanged = errors.New("the object was replaced meanwhile")

// s3URI is where the bytes of a file are.
func (s *Service) s3URI(file ledger.File) string { return "s3://" + s.bucket + "/" + file.Key }
