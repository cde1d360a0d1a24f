package storage

import (
	"net/http"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
	"github.com/rivergate/rivergate/services/storage/seal"
)

const internal = "/internal/"

func TestTheMasterKeyIsRotatedWhileFilesAreRead(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		status, file := r.upload("/api/v1/storage/upload", "file_category", "general", "file", "a.txt\nsecret words")
		require.Equal(t, 201, status, file)
		path := "/api/v1/storage/objects/" + file["file_path"].(string)
		status, failure := r.post(internal+"storage/rotate-key", "")
		require.Equal(t, 409, status, failure)
		require.Contains(t, failure["message"], "RIVERGATE_MASTER_KEY_PREVIOUS")

		before, err := r.master()
		require.NoError(t, err)
		after, err := seal.NewMaster()
		require.NoError(t, err)
		r.rotated = append([]seal.Master{after}, before...)
		status, done := r.post(internal+"storage/rotate-key", "")
		require.Equal(t, 200, status, done)
		require.Equal(t, map[string]any{"former": before[0].Fingerprint(), "master": after.Fingerprint(), "rewrapped": 1.0}, done)
		_, got := r.get(path)
		require.Equal(t, "secret words", got["bytes"])
		require.NoError(t, r.open().Close())
		r.rotated = before
		_, err = New(t.Context(), Options{DB: db, Objects: r.dir, Master: r.master, Log: hclog.NewNullLogger(), Registry: prometheus.NewRegistry()})
		require.ErrorIs(t, err, seal.ErrMaster)
	})
}

func TestAnOrgWhoseKeyIsDeletedReads410(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		put := func() string {
			status, file := r.upload("/api/v1/storage/upload", "file_category", "general", "file", "a.txt\nsecret words")
			require.Equal(t, 201, status, file)
			return "/api/v1/storage/objects/" + file["file_path"].(string)
		}
		old := put()
		status, made := r.post(internal+"orgs/7/key", "")
		require.Equal(t, 201, status, made)
		status, got := r.get(old)
		require.Equal(t, 200, status)
		require.Equal(t, "secret words", got["bytes"])
		newer := put()
		status, done := r.ask(http.MethodDelete, internal+"orgs/7/key", nil, "")
		require.Equal(t, 200, status)
		require.Equal(t, map[string]any{"organization_id": 7.0, "keys_deleted": 2.0}, done)
		for _, path := range []string{old, newer} {
			status, _ = r.get(path)
			require.Equal(t, 410, status)
			status, _ = r.ask(http.MethodDelete, path, nil, "")
			require.Equal(t, 200, status, "its bytes can be given back")
		}
		status, got = r.get(put())
		require.Equal(t, 200, status, "what is stored from now on")
		require.Equal(t, "secret words", got["bytes"])
		for _, org := range []string{"0", "x", "-1"} {
			status, _ = r.ask(http.MethodDelete, internal+"orgs/"+org+"/key", nil, "")
			require.Equal(t, 400, status)
		}
		r.reconciled()
	})
}

func TestAHostThatDoesNotEncryptSaysThatThereAreNoKeys(t *testing.T) {
	r := newRig(t, openSQLite(t))
	for _, route := range new(seal.Keys).Routes() {
		require.Contains(t, route.Errors, http.StatusConflict)
	}
	plain, err := New(t.Context(), Options{DB: r.db, Objects: r.dir, Log: hclog.NewNullLogger(), Registry: prometheus.NewRegistry()})
	require.NoError(t, err)
	require.NoError(t, r.service.Close())
	r.service = plain
	r.serve()
	for _, ask := range [][2]string{{http.MethodPost, "storage/rotate-key"}, {http.MethodPost, "orgs/7/key"}, {http.MethodDelete, "orgs/7/key"}} {
		status, failure := r.ask(ask[0], internal+ask[1], nil, "")
		require.Equal(t, 409, status, ask)
		require.Contains(t, failure["message"], "RIVERGATE_STORAGE_ENCRYPTION")
	}
}
