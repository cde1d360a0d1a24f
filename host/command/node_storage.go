package command

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage"
	"github.com/rivergate/rivergate/services/storage/inspect"
	"github.com/rivergate/rivergate/services/storage/lifecycle"
	"github.com/rivergate/rivergate/services/storage/seal"
)

// openTime bounds one attempt to open the storage.
const openTime = time.Minute

// openStorage opens the storage service's parts: the database, the backend, and what keeps to them.
func (n *node) openStorage(ctx context.Context, registry prometheus.Registerer) (_ *storage.Service, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	db, own := n.db, false
	if n.cfg.DatabaseURL != "" {
		if db, err = database.OpenURL(ctx, n.cfg.DatabaseURL.Reveal()); err != nil {
			return nil, err
		}
		own = true
	}
	o := storage.Options{
		DB: db, OwnsDB: own, Quota: int64(n.cfg.StorageQuota), MaxFile: int64(n.cfg.StorageMaxFile), Bucket: n.cfg.StorageBucket,
		PublicURL: n.cfg.PublicURL, Encrypted: n.cfg.StorageSeal == "backend", VectorsMemory: int64(n.cfg.VectorsMemory),
		Cache:  storage.Cache{URL: n.cfg.Cache, OrgBytes: int64(n.cfg.CacheOrg), TotalBytes: int64(n.cfg.CacheBytes)},
		Policy: lifecycle.Policy{WarmAfterDays: n.cfg.WarmAfterDays, ColdAfterDays: n.cfg.ColdAfterDays}, LifecycleEvery: n.cfg.LifecycleEvery,
		Rules: inspect.Rules{Reject: n.cfg.StorageTypes == "reject", Blocked: n.cfg.StorageBlocked},
		Log:   n.log.Named("storage"), Registry: registry,
	}
	if n.cfg.StorageSeal == "host" {
		o.Master = masters(n.cfg)
		if !givenMaster(n.cfg) {
			o.MasterDir = n.cfg.DataDir
		}
	}
	if o.Objects, err = n.plugins.Storage(ctx, n.cfg.Backend.Name); err == nil {
		var service *storage.Service
		if service, err = storage.New(ctx, o); err == nil {
			return service, nil
		}
	}
	if own {
		err = errors.Join(err, db.Close())
	}
	return nil, err
}

// givenMaster tells whether the host was given a master key, or has one of its own.
func givenMaster(cfg *config.Config) bool { return cfg.MasterKey != "" || cfg.MasterKeyFile != "" }

// masters is where the master key comes from.
func masters(cfg *config.Config) seal.Source {
	if !givenMaster(cfg) {
		return seal.Development(cfg.DataDir)
	}
	return func() ([]seal.Master, error) {
		var keys []seal.Master
		if cfg.MasterKeyFile != "" {
			m, err := seal.ReadMaster(cfg.MasterKeyFile)
			if err != nil {
				return nil, err
			}
			keys = append(keys, m)
		}
		for _, key := range []settings.Secret{cfg.MasterKey, cfg.MasterKeyBefore} {
			if key == "" {
				continue
			}
			m, err := seal.ParseMaster(key.Reveal())
			if err != nil {
				return nil, err
			}
			keys = append(keys, m)
		}
		return keys, nil
	}
}
