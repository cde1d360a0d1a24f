// Package models is the registry of models: versions that never change once they are ready, under numbers that are never given
// twice, and which of them is promoted.
//
// A version is written down before its artifact becomes visible, and becomes ready after that. A host that dies in between leaves
// both or only the first: the registry finishes the one and forgets the other, see settle.
package models

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

// Artifacts keeps the files of versions. Errors are answers.
type Artifacts interface {
	// Form reads the form of a request up to its file. Discard it in any case.
	Form(c *fiber.Ctx) (Form, error)
	// Store stores the file of a form, and Copy that of another file, as a new one; late is called when all bytes and fields are there,
	// and nothing is stored unless it returns nil.
	Store(file ledger.File, form Form, late func() error) (ledger.File, error)
	Copy(from, to ledger.File, late func() error) (ledger.File, error)
	// Visible finds a file of the caller by object name or s3 URI.
	Visible(caller *api.Caller, uri string) (ledger.File, error)
	// Find finds any file of the org. ledger.ErrNotFound.
	Find(ctx context.Context, org uint64, objectName string) (ledger.File, error)
	// URL lets a client read the file for that long; the answer says how long it really is.
	URL(c *fiber.Ctx, file ledger.File, expiry time.Duration) (url string, effective time.Duration, err error)
	URI(file ledger.File) string
}

// Form is a form with one file.
type Form interface {
	Fields() map[string]string
	FileName() string
	ContentType() string
	// Digest is what the form was, given the hash of its file; Repeat reads the form and answers a request that was there before.
	Digest(sha256 string) [16]byte
	Repeat(c *fiber.Ctx, promise *api.Promise) error
	Discard()
}

// Options of Open.
type Options struct {
	SettleEvery time.Duration    // 0: ten minutes
	Now         func() time.Time // nil: time.Now
	Log         hclog.Logger     // nil: none
}

const (
	usualSettle = 10 * time.Minute
	abandoned   = 24 * time.Hour // an upload that is that old is none any more
)

// Models is the registry.
type Models struct {
	store     *store
	artifacts Artifacts
	now       func() time.Time
	log       hclog.Logger

	life context.Context // ends everything
	end  context.CancelFunc
	work sync.WaitGroup
}

// Open makes the tables. Close it after the server has stopped taking requests.
func Open(ctx context.Context, db *database.DB, artifacts Artifacts, o Options) (*Models, error) {
	m := &Models{store: &store{db}, artifacts: artifacts, now: o.Now, log: o.Log}
	if m.now == nil {
		m.now = time.Now
	}
	if m.log == nil {
		m.log = hclog.NewNullLogger()
	}
	if err := m.store.migrate(ctx); err != nil {
		return nil, err
	}
	if err := m.settle(ctx); err != nil {
		return nil, fmt.Errorf("finish the registrations of an earlier process: %w", err)
	}
	m.life, m.end = context.WithCancel(context.WithoutCancel(ctx))
	every := o.SettleEvery
	if every == 0 {
		every = usualSettle
	}
	m.work.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-m.life.Done():
				return
			case <-ticker.C:
			}
			if err := m.settle(m.life); err != nil && m.life.Err() == nil {
				m.log.Warn("registrations that were cut off are not finished yet", "error", err)
			}
		}
	})
	return m, nil
}

// Close ends what the registry does on its own.
func (m *Models) Close() error {
	m.end()
	m.work.Wait()
	return nil
}

// settle brings registrations to their end whose process died: the artifact is there, or it never came.
func (m *Models) settle(ctx context.Context) error {
	list, err := m.store.uploading(ctx)
	if err != nil {
		return err
	}
	for _, v := range list {
		file, err := m.artifacts.Find(ctx, v.org, v.objectName)
		switch {
		case err == nil:
			_, err = m.store.finish(ctx, m.ready(v, file), m.now())
		case errors.Is(err, ledger.ErrNotFound):
			err = nil
			if m.now().Sub(v.created) > abandoned {
				err = m.store.forget(ctx, v)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ready is a version with what is known once its artifact is stored.
func (m *Models) ready(v version, file ledger.File) version {
	v.status, v.uri, v.sha256, v.size = statusReady, m.artifacts.URI(file), file.SHA256, file.Size
	return v
}

// register stores the artifact with the given function and makes it a version. Errors are answers.
func (m *Models) register(v version, put func(file ledger.File, late func() error) (ledger.File, error), late func(v *version) error) (version, error) {
	fresh := v.model == ""
	if fresh {
		var random [4]byte
		rand.Read(random[:])
		v.model, v.number = "mdl-"+hex.EncodeToString(random[:]), 1
	} else {
		var err error
		if v.number, err = m.store.allocate(m.life, v.org, v.model); err != nil {
			return v, answerTo(err)
		}
	}
	v.status, v.created = statusUploading, m.now().UTC().Truncate(time.Microsecond)
	v.objectName = fmt.Sprintf("organizations/%d/models/%s/v%d/%s", v.org, v.model, v.number, artifactName(v.fileName, v.format))
	begun := false
	file, err := put(ledger.File{
		Org: v.org, User: v.user, Kind: ledger.KindModel, Category: "model", ObjectName: v.objectName, FileName: v.fileName, ContentType: v.contentType,
	}, func() error {
		if err := late(&v); err != nil {
			return err
		}
		if err := m.store.begin(m.life, v, fresh); err != nil {
			return answerTo(err)
		}
		begun = true
		return nil
	})
	if err != nil {
		if begun && !m.stored(v) { // with an answer that was lost, it may be there: then it is for settle
			if err := m.store.forget(m.life, v); err != nil {
				m.log.Warn("a registration that failed is forgotten later", "model", v.model, "version", v.number, "error", err)
			}
		}
		return v, err
	}
	done, err := m.store.finish(m.life, m.ready(v, file), m.now())
	return done, answerTo(err)
}

// stored tells whether the artifact is, or may be, visible.
func (m *Models) stored(v version) bool {
	_, err := m.artifacts.Find(m.life, v.org, v.objectName)
	return !errors.Is(err, ledger.ErrNotFound)
}

// artifactName is the last part of an object name: [A-Za-z0-9._-] alone.
func artifactName(fileName, format string) string {
	b := make([]byte, 0, len(fileName))
	for _, r := range fileName {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.' && len(b) > 0:
			b = append(b, byte(r))
		case len(b) > 0 && b[len(b)-1] != '_':
			b = append(b, '_')
		}
		if len(b) == 100 {
			break
		}
	}
	if len(b) == 0 {
		return "model." + format
	}
	return string(b)
}
