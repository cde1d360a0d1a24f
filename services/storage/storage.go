// Package storage keeps files: it ties together the ledger (which files there are, what each org may use and uses), the seal (encryption at
// rest), the files themselves, and what stands beside them.
//
// Each part is a package of its own with its routes; parts import ledger and seal, never each other. What one needs of another it
// declares as a small interface, and this package passes it on.
package storage

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/files"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/objects"
	"github.com/rivergate/rivergate/services/storage/seal"
)

// Options makes a Service. DB, Objects, SigningKey, Log and Registry are needed.
type Options struct {
	DB      *database.DB
	Objects objects.Backend
	Master  seal.Source // nil: the host does not encrypt; the backend does, or nobody

	Quota   int64  // bytes of an org without a limit of its own; ledger.Unlimited
	MaxFile int64  // bytes of one upload; 0: files.DefaultMaxFile
	Bucket  string // for s3:// addresses, where the backend has none; empty: files.DefaultBucket

	SigningKey []byte        // at least 32 bytes; all hosts of one installation share it
	Skew       time.Duration // by which their clocks may differ; 0: files.DefaultSkew
	PublicURL  string        // where clients reach the host; empty: where their request came to

	UploadTTL  time.Duration // of uploads that outlive a request; 0: files.DefaultUploadTTL
	SweepEvery time.Duration // 0: files.DefaultSweepEvery

	Log      hclog.Logger
	Registry prometheus.Registerer
}

// Service is the storage service.
type Service struct {
	Ledger *ledger.Ledger
	Keys   *seal.Keys // nil: the host does not encrypt
	Files  *files.Service

	routes  []api.Route
	closers []func() error // the last one first
}

// New opens all parts. Close it after the server has stopped taking requests.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.DB == nil || o.Objects == nil || o.Log == nil || o.Registry == nil {
		return nil, errors.New("storage: database, objects, log and registry are needed")
	}
	s := &Service{}
	if err := s.open(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Service) open(ctx context.Context, o Options) (err error) {
	s.Ledger, err = ledger.Open(ctx, o.DB, ledger.Options{DefaultLimit: o.Quota, Log: o.Log.Named("ledger"), Registry: o.Registry})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.Ledger.Close)
	if o.Master != nil {
		if s.Keys, err = seal.Open(ctx, o.DB, o.Master, seal.Options{Log: o.Log.Named("seal")}); err != nil {
			return err
		}
	}
	s.Files, err = files.New(ctx, files.Options{
		Ledger: s.Ledger, Objects: o.Objects, DB: o.DB, Keys: s.Keys, Bucket: o.Bucket, MaxFile: o.MaxFile,
		SigningKey: o.SigningKey, Skew: o.Skew, PublicURL: o.PublicURL, UploadTTL: o.UploadTTL, SweepEvery: o.SweepEvery,
		Log: o.Log.Named("files"), Registry: o.Registry,
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.Files.Close)
	s.routes = slices.Concat(s.Files.Routes(), s.Ledger.Routes(o.Objects))
	return nil
}

// Routes declares everything that the service answers.
func (s *Service) Routes() []api.Route { return s.routes }

// Close ends what the parts do on their own.
func (s *Service) Close() error {
	var err error
	for _, closer := range slices.Backward(s.closers) {
		err = errors.Join(err, closer())
	}
	s.closers = nil
	return err
}
