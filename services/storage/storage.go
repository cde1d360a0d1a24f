// Package storage keeps files: it ties together the ledger (which files there are, what each org may use and uses), the seal (encryption at
// rest), the files themselves, and what stands beside them.
//
// Each part is a package of its own with its routes; parts import ledger and seal, never each other. What one needs of another it
// declares as a small interface, and this package passes it on. Late opens the service while the host serves already.
package storage

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/cache"
	"github.com/rivergate/rivergate/services/storage/files"
	"github.com/rivergate/rivergate/services/storage/inspect"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/lifecycle"
	"github.com/rivergate/rivergate/services/storage/models"
	"github.com/rivergate/rivergate/services/storage/objects"
	"github.com/rivergate/rivergate/services/storage/seal"
	"github.com/rivergate/rivergate/services/storage/vectors"
)

// Options makes a Service. DB, Objects, Log and Registry are needed.
type Options struct {
	DB      *database.DB
	OwnsDB  bool // it is closed with the service
	Objects objects.Backend
	Master  seal.Source // nil: the host does not encrypt; the backend does, or nobody
	// MasterDir is where a new master key is made when keys are rotated, for a host that was given none; empty: Master gives it.
	MasterDir string
	// Encrypted refuses a backend that does not encrypt at rest by itself.
	Encrypted bool

	Quota   int64  // bytes of an org without a limit of its own; ledger.Unlimited
	MaxFile int64  // bytes of one upload; 0: files.DefaultMaxFile
	Bucket  string // for s3:// addresses, where the backend has none; empty: files.DefaultBucket

	Rules inspect.Rules // of uploads' content

	Skew      time.Duration // by which the clocks of the hosts of one installation may differ; 0: files.DefaultSkew
	PublicURL string        // where clients reach the host; empty: where their request came to

	UploadTTL  time.Duration // of uploads that outlive a request; 0: files.DefaultUploadTTL
	SweepEvery time.Duration // 0: files.DefaultSweepEvery

	VectorsMemory int64 // bytes for the vectors that are searched; 0: the package's own default

	Cache Cache

	Policy         lifecycle.Policy // zero: the package's own default
	LifecycleEvery time.Duration    // between runs of the policy; 0: the package's own default

	Log      hclog.Logger
	Registry prometheus.Registerer
}

// Cache is how the cache is kept; see package cache.
type Cache struct {
	URL                  settings.Secret // of a Redis; empty: in the process
	OrgBytes, TotalBytes int64
}

// Service is the storage service.
type Service struct {
	Ledger    *ledger.Ledger
	Keys      *seal.Keys // nil: the host does not encrypt
	Files     *files.Service
	Vectors   *vectors.Vectors
	Cache     *cache.Cache
	Models    *models.Models
	Lifecycle *lifecycle.Lifecycle

	objects objects.Backend
	closers []func() error // the last one first
}

// errNotEncrypted: the operator leaves encryption at rest to a backend that does not do it.
var errNotEncrypted = errors.New("RIVERGATE_STORAGE_ENCRYPTION is backend, and the storage plugin does not encrypt at rest: configure its own encryption, or let the host do it")

// New opens all parts. Close it after the server has stopped taking requests. After an error nothing is open, but for a database that
// was given.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.DB == nil || o.Objects == nil || o.Log == nil || o.Registry == nil {
		return nil, errors.New("storage: database, objects, log and registry are needed")
	}
	s := &Service{objects: o.Objects}
	if err := s.open(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if o.OwnsDB {
		s.closers = slices.Insert(s.closers, 0, o.DB.Close)
	}
	return s, nil
}

func (s *Service) open(ctx context.Context, o Options) (err error) {
	if o.Encrypted {
		can, err := o.Objects.Abilities(ctx)
		if err != nil {
			return err
		}
		if !can.Encrypts {
			return errNotEncrypted
		}
	}
	alone := o.DB.Dialect() == database.SQLite // the file is in the data folder, which one host locks
	books := ledger.Options{DefaultLimit: o.Quota, Log: o.Log.Named("ledger"), Registry: o.Registry}
	if alone {
		books.Host = "host"
	}
	s.Ledger, err = ledger.Open(ctx, o.DB, books)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.Ledger.Close)
	if o.Master != nil {
		if s.Keys, err = seal.Open(ctx, o.DB, o.Master, seal.Options{Alone: alone, Dir: o.MasterDir, Log: o.Log.Named("seal")}); err != nil {
			return err
		}
		s.closers = append(s.closers, s.Keys.Close)
	}
	key, err := signingKey(ctx, o.DB)
	if err != nil {
		return err
	}
	s.Files, err = files.New(ctx, files.Options{
		Ledger: s.Ledger, Objects: o.Objects, DB: o.DB, Keys: s.Keys, Bucket: o.Bucket, MaxFile: o.MaxFile, Rules: &o.Rules,
		SigningKey: key, Skew: o.Skew, PublicURL: o.PublicURL, UploadTTL: o.UploadTTL, SweepEvery: o.SweepEvery,
		Log: o.Log.Named("files"), Registry: o.Registry,
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.Files.Close)
	s.Vectors, err = vectors.Open(ctx, o.DB, vectors.Options{Memory: o.VectorsMemory, Log: o.Log.Named("vectors")})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { s.Vectors.Close(); return nil })
	s.Cache, err = cache.Open(ctx, cache.Options{
		URL: o.Cache.URL, OrgBytes: o.Cache.OrgBytes, TotalBytes: o.Cache.TotalBytes, Log: o.Log.Named("cache"), Registry: o.Registry,
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.Cache.Close)
	s.Models, err = models.Open(ctx, o.DB, artifacts{s.Files}, models.Options{Log: o.Log.Named("models")})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.Models.Close)
	s.Lifecycle, err = lifecycle.Open(ctx, lifecycle.Options{
		DB: o.DB, Ledger: s.Ledger, Objects: o.Objects, Files: s.Files, Policy: o.Policy, Every: o.LifecycleEvery,
		Log: o.Log.Named("lifecycle"), Registry: o.Registry,
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.Lifecycle.Close)
	return nil
}

// Routes declares everything that the service answers.
func (s *Service) Routes() []api.Route {
	return slices.Concat(s.Keys.Routes(), s.Files.Routes(), s.Vectors.Routes(), s.Cache.Routes(), s.Lifecycle.Routes(), s.Models.Routes(), s.Ledger.Routes(s.objects))
}

// declared are the routes of a service whose backend can do everything; their handlers are not to be called.
func declared() []api.Route {
	return slices.Concat(new(seal.Keys).Routes(), files.Declared(), new(vectors.Vectors).Routes(), new(cache.Cache).Routes(), new(lifecycle.Lifecycle).Routes(), new(models.Models).Routes(), new(ledger.Ledger).Routes(nil))
}

// Close ends what the parts do on their own.
func (s *Service) Close() error {
	var err error
	for _, closer := range slices.Backward(s.closers) {
		err = errors.Join(err, closer())
	}
	s.closers = nil
	return err
}
