package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage"
	"github.com/rivergate/rivergate/services/storage/seal"
)

// declareStorage makes the storage service; startStorage opens it.
func (n *node) declareStorage() {
	n.storage = storage.NewLate(n.openStorage, n.log.Named("storage"))
}

// masterKeyFile is where a development host keeps the master key that it made.
const masterKeyFile = "master.key"

// master gives the master key, and with it what signs URLs.
func (n *node) master() (seal.Source, error) {
	switch {
	case n.cfg.MasterKey != "":
		return func() ([]seal.Master, error) {
			m, err := seal.ParseMaster(n.cfg.MasterKey.Reveal())
			return []seal.Master{m}, err
		}, nil
	case n.cfg.MasterKeyFile != "":
		return seal.FromFiles(n.cfg.MasterKeyFile), nil
	default:
		path := filepath.Join(n.cfg.DataDir, masterKeyFile)
		if _, err := seal.DevelopmentMaster(path); err != nil {
			return nil, err
		}
		return seal.FromFiles(path), nil
	}
}
