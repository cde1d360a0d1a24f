package models

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// store is the SQL of this package.
type store struct{ db *database.DB }

const (
	statusUploading = "uploading"
	statusReady     = "ready"
)

// model is a row of models_models.
type model struct {
	id, name                   string
	versions, newest, promoted int64
	promotedAt, updated        time.Time
	created                    time.Time
}

// version is a row of models_versions.
type version struct {
	org                                 uint64
	model                               string
	number                              int64
	status                              string
	promote                             bool
	objectName, uri, fileName, sha256   string
	size                                int64
	format, algorithm, framework        string
	hyperparameters, metrics, signature string
	trainingJob, trainingData           string
	trainingSeconds                     float64
	tags                                string
	user                                uint64
	created                             time.Time

	name        string // of a new model; else what the client thinks that it is
	contentType string
	promoted    bool // it was when it was made ready
}

// promotion is a row of models_promotions.
type promotion struct {
	number, previous int64
	user             uint64
	at               time.Time
}

func (s *store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return s.db.Migrate(ctx, "models", files)
}

// allocate gives the next version number of a model, for ever. errNoModel.
func (s *store) allocate(ctx context.Context, org uint64, id string) (number int64, err error) {
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		err := tx.QueryRowContext(ctx, "UPDATE models_models SET allocated = allocated + 1 WHERE org = ? AND id = ? AND versions > 0 RETURNING allocated",
			int64(org), id).Scan(&number)
		if errors.Is(err, sql.ErrNoRows) {
			return errNoModel
		}
		return err
	})
	return number, err
}

// begin writes a version down that is not ready, and with fresh its model. errOtherName, errNoModel.
func (s *store) begin(ctx context.Context, v version, fresh bool) error {
	return s.db.Write(ctx, func(tx *database.Tx) error {
		if fresh {
			if _, err := tx.ExecContext(ctx, "INSERT INTO models_models (org, id, name, folded, allocated, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?)",
				int64(v.org), v.model, v.name, strings.ToLower(v.name), v.number, v.created.UnixMicro(), v.created.UnixMicro()); err != nil {
				return err
			}
		} else {
			var name string
			err := tx.QueryRowContext(ctx, "SELECT name FROM models_models WHERE org = ? AND id = ?", int64(v.org), v.model).Scan(&name)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				return errNoModel
			case err != nil:
				return err
			case name != v.name:
				return errOtherName
			}
		}
		promote := 0
		if v.promote {
			promote = 1
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO models_versions (org, model, number, status, promote, object_name, artifact_uri, file_name, sha256, size,
			format, algorithm, framework, hyperparameters, metrics, signature, training_job, training_data, training_seconds, tags, usr, created)
			VALUES (?, ?, ?, ?, ?, ?, '', ?, '', 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			int64(v.org), v.model, v.number, v.status, promote, v.objectName, v.fileName, v.format, v.algorithm, v.framework,
			v.hyperparameters, v.metrics, v.signature, v.trainingJob, v.trainingData, v.trainingSeconds, v.tags, int64(v.user), v.created.UnixMicro())
		return err
	})
}

// finish makes a version ready. When another process has done it already, it only tells.
func (s *store) finish(ctx context.Context, v version, now time.Time) (version, error) {
	err := s.db.Write(ctx, func(tx *database.Tx) error {
		// The model's row first: what changes a model stands in line.
		var versions, newest, promoted int64
		err := tx.QueryRowContext(ctx, "UPDATE models_models SET updated = updated WHERE org = ? AND id = ? RETURNING versions, newest, promoted",
			int64(v.org), v.model).Scan(&versions, &newest, &promoted)
		if errors.Is(err, sql.ErrNoRows) {
			return errNoModel
		}
		if err != nil {
			return err
		}
		n, err := affected(tx.ExecContext(ctx, `UPDATE models_versions SET status = ?, artifact_uri = ?, sha256 = ?, size = ?
			WHERE org = ? AND model = ? AND number = ? AND status = ?`,
			statusReady, v.uri, v.sha256, v.size, int64(v.org), v.model, v.number, statusUploading))
		if err != nil {
			return err
		}
		if n == 0 {
			v.promoted = promoted == v.number
			return nil
		}
		if _, err := tx.ExecContext(ctx, "UPDATE models_models SET versions = ?, newest = ?, updated = ? WHERE org = ? AND id = ?",
			versions+1, max(newest, v.number), now.UnixMicro(), int64(v.org), v.model); err != nil {
			return err
		}
		if v.promoted = v.promote; v.promote {
			return s.setPromoted(ctx, tx, v.org, v.model, promotion{v.number, promoted, v.user, now})
		}
		return nil
	})
	return v, err
}

func (s *store) setPromoted(ctx context.Context, tx *database.Tx, org uint64, id string, p promotion) error {
	if _, err := tx.ExecContext(ctx, "UPDATE models_models SET promoted = ?, promoted_at = ?, updated = ? WHERE org = ? AND id = ?",
		p.number, p.at.UnixMicro(), p.at.UnixMicro(), int64(org), id); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO models_promotions (org, model, number, previous, usr, at) VALUES (?, ?, ?, ?, ?, ?)",
		int64(org), id, p.number, p.previous, int64(p.user), p.at.UnixMicro())
	return err
}

// promote makes a version the promoted one; with expected, only in place of that one (0: none). errNoModel, errNoVersion, errOtherFirst.
func (s *store) promote(ctx context.Context, org uint64, id string, p promotion, expected *int64) (previous int64, err error) {
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		err := tx.QueryRowContext(ctx, "UPDATE models_models SET updated = updated WHERE org = ? AND id = ? AND versions > 0 RETURNING promoted",
			int64(org), id).Scan(&previous)
		if errors.Is(err, sql.ErrNoRows) {
			return errNoModel
		}
		if err != nil {
			return err
		}
		var status string
		err = tx.QueryRowContext(ctx, "SELECT status FROM models_versions WHERE org = ? AND model = ? AND number = ?", int64(org), id, p.number).Scan(&status)
		switch {
		case errors.Is(err, sql.ErrNoRows), err == nil && status != statusReady:
			return errNoVersion
		case err != nil:
			return err
		case expected != nil && *expected != previous:
			return errOtherFirst
		case previous == p.number:
			return nil // it is already
		}
		p.previous = previous
		return s.setPromoted(ctx, tx, org, id, p)
	})
	return previous, err
}

// forget removes a version that never became ready, and a model that has none.
func (s *store) forget(ctx context.Context, v version) error {
	return s.db.Write(ctx, func(tx *database.Tx) error {
		n, err := affected(tx.ExecContext(ctx, "DELETE FROM models_versions WHERE org = ? AND model = ? AND number = ? AND status = ?",
			int64(v.org), v.model, v.number, statusUploading))
		if err != nil || n == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM models_models WHERE org = ? AND id = ? AND versions = 0", int64(v.org), v.model)
		return err
	})
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

const modelColumns = "id, name, versions, newest, promoted, promoted_at, updated, created"

func scanModel(scan func(...any) error) (m model, err error) {
	var promotedAt, updated, created int64
	err = scan(&m.id, &m.name, &m.versions, &m.newest, &m.promoted, &promotedAt, &updated, &created)
	m.promotedAt, m.updated, m.created = micros(promotedAt), micros(updated), micros(created)
	return m, err
}

func micros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// filter of list; empty: all.
type filter struct{ search, algorithm, status string }

var likeWords = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// list returns a page of an org's models and how many there are in all.
func (s *store) list(ctx context.Context, org uint64, f filter, page api.Page, order string) (list []model, total int64, err error) {
	where, args := "org = ? AND versions > 0", []any{int64(org)}
	if f.search != "" {
		where += ` AND folded LIKE ? ESCAPE '\'`
		args = append(args, "%"+likeWords.Replace(strings.ToLower(f.search))+"%")
	}
	for column, value := range map[string]string{"algorithm": f.algorithm, "status": f.status} {
		if value != "" {
			where += " AND EXISTS (SELECT 1 FROM models_versions v WHERE v.org = models_models.org AND v.model = models_models.id AND v." + column + " = ?)"
			args = append(args, value)
		}
	}
	err = s.db.Snapshot(ctx, func(tx *database.Tx) error {
		list = nil
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM models_models WHERE "+where, args...).Scan(&total); err != nil {
			return err
		}
		return database.Each(ctx, tx, func(rows *sql.Rows) error {
			m, err := scanModel(rows.Scan)
			list = append(list, m)
			return err
		}, "SELECT "+modelColumns+" FROM models_models WHERE "+where+" ORDER BY "+order+" LIMIT ? OFFSET ?", append(args, page.Size, page.Offset())...)
	})
	return list, total, err
}

// model returns one that is visible. errNoModel.
func (s *store) model(ctx context.Context, org uint64, id string) (model, error) {
	row := s.db.Reader().QueryRowContext(ctx, "SELECT "+modelColumns+" FROM models_models WHERE org = ? AND id = ? AND versions > 0", int64(org), id)
	m, err := scanModel(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoModel
	}
	return m, err
}

const versionColumns = `org, model, number, status, promote, object_name, artifact_uri, file_name, sha256, size, format, algorithm, framework,
	hyperparameters, metrics, signature, training_job, training_data, training_seconds, tags, usr, created`

func scanVersion(scan func(...any) error) (v version, err error) {
	var org, user, created, promote int64
	err = scan(&org, &v.model, &v.number, &v.status, &promote, &v.objectName, &v.uri, &v.fileName, &v.sha256, &v.size, &v.format, &v.algorithm, &v.framework,
		&v.hyperparameters, &v.metrics, &v.signature, &v.trainingJob, &v.trainingData, &v.trainingSeconds, &v.tags, &user, &created)
	v.org, v.user, v.created, v.promote = uint64(org), uint64(user), micros(created), promote == 1
	return v, err
}

// version returns one that is ready. errNoVersion.
func (s *store) version(ctx context.Context, org uint64, id string, number int64) (version, error) {
	row := s.db.Reader().QueryRowContext(ctx, "SELECT "+versionColumns+" FROM models_versions WHERE org = ? AND model = ? AND number = ? AND status = ?",
		int64(org), id, number, statusReady)
	v, err := scanVersion(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoVersion
	}
	return v, err
}

// maxVersions is how many versions and promotions an answer lists, the newest.
const maxVersions = 1000

func (s *store) versions(ctx context.Context, org uint64, id string) (list []version, err error) {
	return s.read(ctx, "SELECT "+versionColumns+" FROM models_versions WHERE org = ? AND model = ? AND status = ? ORDER BY number DESC LIMIT ?",
		int64(org), id, statusReady, maxVersions)
}

// uploading returns versions that are not ready, of all orgs.
func (s *store) uploading(ctx context.Context) ([]version, error) {
	return s.read(ctx, "SELECT "+versionColumns+" FROM models_versions WHERE status = 'uploading' ORDER BY created LIMIT 1000")
}

func (s *store) read(ctx context.Context, query string, args ...any) (list []version, err error) {
	err = database.Each(ctx, s.db.Reader(), func(rows *sql.Rows) error {
		v, err := scanVersion(rows.Scan)
		list = append(list, v)
		return err
	}, query, args...)
	return list, err
}

// promotions returns what was promoted, the newest first.
func (s *store) promotions(ctx context.Context, org uint64, id string) (list []promotion, err error) {
	err = database.Each(ctx, s.db.Reader(), func(rows *sql.Rows) error {
		var p promotion
		var user, at int64
		err := rows.Scan(&p.number, &p.previous, &user, &at)
		p.user, p.at = uint64(user), micros(at)
		list = append(list, p)
		return err
	}, "SELECT number, previous, usr, at FROM models_promotions WHERE org = ? AND model = ? ORDER BY id DESC LIMIT ?", int64(org), id, maxVersions)
	return list, err
}
