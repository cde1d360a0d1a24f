package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

const (
	listingOrg, listingUser = 1, 7
	// listingAsked is how often one round asks each route, in turn with the others.
	listingAsked = 300
)

// listing measures the routes that move no bytes, through HTTP, one request at a time, in an org with a million files on SQLite.
func (b *bench) listing(ctx context.Context) (err error) {
	o, err := b.options(storageEnv)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Dir(o.DataDir))) }()
	if err := million(ctx, o.DataDir); err != nil {
		return fmt.Errorf("make a million files: %w", err)
	}
	h, err := b.Start(ctx, o)
	if err != nil {
		return err
	}
	defer end(h)

	object := "objects/" + storagetest.MillionName(listingOrg, listingUser, 500_000)
	routes := []struct {
		name, path string
		far        bool // farther than the promise goes
	}{
		{name: "list, page 1", path: "files?page=1&limit=20"},
		{name: "list, page 1000", path: "files?page=1000&limit=20"},
		{name: "list, page 50000", path: "files?page=50000&limit=20", far: true},
		{name: "list of a category, page 1000", path: "files?file_category=general&page=1000&limit=20"},
		{name: "metadata", path: object + "/metadata"},
		{name: "presigned URL", path: object + "/presigned-url"},
		{name: "quota", path: "quota"},
		{name: "usage", path: "usage"},
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	ask := func(path string) (time.Duration, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Addr+"/api/v1/storage/"+path, nil)
		if err != nil {
			return 0, err
		}
		request.Header.Set("X-Org-ID", fmt.Sprint(listingOrg))
		request.Header.Set("X-User-ID", fmt.Sprint(listingUser))
		return timedRequest(client, request, http.StatusOK, nil)
	}
	medians := make([]series, len(routes))
	for range b.rounds {
		took := make([][]time.Duration, len(routes))
		for range listingAsked {
			for i, route := range routes {
				d, err := ask(route.path)
				if err != nil {
					return err
				}
				took[i] = append(took[i], d)
			}
		}
		var said []string
		for i, route := range routes {
			medians[i] = append(medians[i], middle(took[i]))
			said = append(said, fmt.Sprintf("%s %.2f", route.name, middle(took[i])))
		}
		b.say("a million files, p50 in ms: %s", strings.Join(said, "; "))
	}
	for i, route := range routes {
		f := figure{Name: "a million files: " + route.name + ", p50", Unit: "ms", Runs: medians[i]}
		if !route.far {
			f.Target, f.Met = "≤ 1.0", met(medians[i].median() <= 1)
		}
		b.report.add(f)
	}
	return nil
}

// million makes the database of a host before its first start.
func million(ctx context.Context, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	db, err := database.Open(ctx, filepath.Join(dir, "rivergate.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	l, err := ledger.Open(ctx, db, ledger.Options{DefaultLimit: ledger.Unlimited})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := l.SetLimit(ctx, listingOrg, ledger.Unlimited); err != nil {
		return err
	}
	return storagetest.Million(ctx, db, listingOrg, listingUser)
}
