package models

import (
	"encoding/json"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

const (
	prefix      = "/api/v1/storage/models"
	tagModels   = "Storage: models"
	maxBody     = 4 << 20
	maxText     = 255     // bytes of a name, an algorithm, …
	maxDocument = 1 << 20 // bytes of hyperparameters, metrics, …
	usualURL    = 3600
	longestURL  = 86400
	other       = "other"
)

var formats = []string{"pkl", "onnx", "joblib", other}

// Registration is the body of POST /api/v1/storage/models for an artifact that was uploaded before.
type Registration struct {
	ArtifactURI     string          `json:"artifact_uri" required:"true" minLength:"1" description:"Object name or s3 address of a file of yours. It is copied, so that the version stays as it is."`
	Name            string          `json:"name" required:"true" minLength:"1" maxLength:"255"`
	ModelID         string          `json:"model_id,omitempty" description:"The model that gets its next version; without it, a new model."`
	Algorithm       string          `json:"algorithm,omitempty" maxLength:"255"`
	Framework       string          `json:"framework,omitempty" maxLength:"255"`
	Format          string          `json:"format,omitempty" enum:"pkl,onnx,joblib,other" description:"By default that of the file's name."`
	Hyperparameters json.RawMessage `json:"hyperparameters,omitempty" description:"An object."`
	Metrics         json.RawMessage `json:"metrics,omitempty" description:"An object with numbers."`
	Signature       json.RawMessage `json:"signature,omitempty" description:"{inputs: [{name, type}], outputs: [{name, type}]}"`
	TrainingJobID   string          `json:"training_job_id,omitempty" maxLength:"255"`
	TrainingData    json.RawMessage `json:"training_data,omitempty" description:"An object: what it was trained with, the digest of its chunks among it."`
	TrainingSeconds *float64        `json:"training_duration_seconds,omitempty" minimum:"0"`
	Tags            json.RawMessage `json:"tags,omitempty" description:"An object with texts, or an array of texts."`
	Promote         bool            `json:"promote,omitempty" default:"false"`
}

// registrationForm is the same with the file; what is JSON there is JSON text here.
type registrationForm struct {
	File            multipart.File `formData:"file" required:"true"`
	Name            string         `formData:"name" required:"true" minLength:"1" maxLength:"255"`
	ModelID         string         `formData:"model_id" description:"Must stand before the file."`
	Algorithm       string         `formData:"algorithm" maxLength:"255"`
	Framework       string         `formData:"framework" maxLength:"255"`
	Format          string         `formData:"format" enum:"pkl,onnx,joblib,other"`
	Hyperparameters string         `formData:"hyperparameters" description:"JSON object."`
	Metrics         string         `formData:"metrics" description:"JSON object with numbers."`
	Signature       string         `formData:"signature" description:"JSON object with inputs and outputs."`
	TrainingJobID   string         `formData:"training_job_id" maxLength:"255"`
	TrainingData    string         `formData:"training_data" description:"JSON object."`
	TrainingSeconds float64        `formData:"training_duration_seconds" minimum:"0"`
	Tags            string         `formData:"tags" description:"JSON object with texts, or JSON array of texts."`
	Promote         bool           `formData:"promote" default:"false"`
}

type listParams struct {
	Search    string `query:"search" description:"In the name, whatever the case."`
	Algorithm string `query:"algorithm" description:"Of one of the versions."`
	Status    string `query:"status" enum:"ready,uploading" description:"Of one of the versions."`
	Page      int    `query:"page" minimum:"1" default:"1"`
	PageSize  int    `query:"page_size" minimum:"1" maximum:"100" default:"20"`
	SortBy    string `query:"sort_by" enum:"updated_at,created_at,model_name" default:"updated_at"`
	SortOrder string `query:"sort_order" enum:"asc,desc"`
}

type showParams struct {
	ModelID string `path:"model_id"`
	All     bool   `query:"include_all_versions" default:"false"`
	Format  string `query:"format" enum:"standard,mlflow" default:"standard"`
}

type downloadParams struct {
	ModelID   string `path:"model_id"`
	VersionID string `query:"version_id" description:"By default the promoted one."`
	Format    string `query:"format" enum:"pkl,onnx,joblib,other" description:"The one that is needed."`
	ExpiresIn int    `query:"expires_in" minimum:"1" maximum:"86400" default:"3600"`
}

type promoteParams struct {
	ModelID string `path:"model_id"`
}

// Promote is the body of POST /api/v1/storage/models/{model_id}/promote.
type Promote struct {
	VersionID string  `json:"version_id" required:"true"`
	Expected  *string `json:"expected_version_id,omitempty" description:"409 unless this one is promoted now; empty: unless none is. Without it, whichever is."`
}

// Routes declares everything that the registry answers.
func (m *Models) Routes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodPost, Path: prefix, ID: "registerModel", Tag: tagModels,
			Summary: "Register a model, or the next version of one",
			About: "With the file in a form, or as JSON with the artifact_uri of a file that was uploaded before. A version never changes, and its number never comes again: " +
				"one that fails may have used a number up.",
			Body: Registration{}, Form: registrationForm{}, Streams: true,
			Answers: []api.Answer{{Status: http.StatusCreated, Body: api.Envelope[Registered]{}}},
			Errors: []int{
				http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
				http.StatusUnprocessableEntity, http.StatusServiceUnavailable,
			},
			Handler: m.registerModel,
		},
		{
			Method: http.MethodGet, Path: prefix, ID: "listModels", Tag: tagModels, Summary: "The organisation's models", Params: listParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[api.Paged[Item]]{}}}, Errors: []int{http.StatusServiceUnavailable}, Handler: m.listModels,
		},
		{
			Method: http.MethodGet, Path: prefix + "/{model_id}", ID: "getModel", Tag: tagModels, Summary: "A model and its versions", Params: showParams{},
			About:   "404 when no version is promoted, unless all are asked for; then with the newest thousand of them, and of the promotions.",
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Shown]{}}}, Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable}, Handler: m.showModel,
		},
		{
			Method: http.MethodGet, Path: prefix + "/{model_id}/download", ID: "downloadModel", Tag: tagModels, Summary: "A URL of a version's artifact", Params: downloadParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Download]{}}},
			Errors:  []int{http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity, http.StatusServiceUnavailable}, Handler: m.downloadModel,
		},
		{
			Method: http.MethodPost, Path: prefix + "/{model_id}/promote", ID: "promoteModel", Tag: tagModels, Summary: "Promote a version", Params: promoteParams{},
			About: "In place of the one that is promoted now, or only of the one that is expected.", Body: Promote{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Promoted]{}}},
			Errors:  []int{http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable}, Handler: m.promoteModel,
		},
	}
}

// versionOf reads ver-NNN; a number without the prefix is none. Error: 404, since there is no version of such an id.
func versionOf(id string) (int64, error) {
	digits, ok := strings.CutPrefix(id, "ver-")
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 1 || versionID(n) != id {
		return 0, answerTo(errNoVersion)
	}
	return n, nil
}

// registerModel answers POST /api/v1/storage/models.
func (m *Models) registerModel(c *fiber.Ctx) error {
	caller := api.CallerOf(c)
	v := version{org: caller.OrgID, user: caller.UserID, trainingSeconds: -1}
	promise := api.PromiseOf(c)
	var err error
	var repeated bool
	if sent := string(c.Request().Header.ContentType()); strings.HasPrefix(strings.ToLower(sent), "multipart/") {
		v, repeated, err = m.registerForm(c, promise, v)
	} else {
		v, repeated, err = m.registerCopy(c, promise, caller, v)
	}
	if err != nil || repeated {
		return answerTo(err)
	}
	return api.Success(c, http.StatusCreated, Registered{
		ModelID: v.model, VersionID: versionID(v.number), VersionNumber: v.number, Status: v.status, IsPromoted: v.promoted,
		ArtifactURI: v.uri, SHA256: v.sha256, FileSizeBytes: v.size, CreatedAt: v.created,
	}, "Model version registered")
}

// registerForm registers the file of a form; repeated: the first answer to the request was given again.
func (m *Models) registerForm(c *fiber.Ctx, promise *api.Promise, v version) (_ version, repeated bool, err error) {
	form, err := m.artifacts.Form(c)
	if form != nil {
		defer form.Discard()
	}
	if err != nil {
		return v, false, err
	}
	if promise.Repeats() {
		return v, true, form.Repeat(c, promise)
	}
	v.fileName, v.contentType, v.model = form.FileName(), form.ContentType(), form.Fields()["model_id"]
	v.format = formatOf(v.fileName)
	v, err = m.register(v, storing(m.artifacts.Store, form), func(v *version) error {
		r, err := registrationOf(form.Fields())
		if err != nil {
			return err
		}
		if early := form.Fields()["model_id"]; early != "" && early != v.model {
			return api.BadRequest("model_id", "model_id must stand before the file")
		}
		return r.into(v)
	})
	if err == nil {
		promise.Is(form.Digest(v.sha256))
	}
	return v, false, err
}

type (
	late = func() error
	put  = func(ledgerFile, late) (ledgerFile, error)
)

func storing(store func(ledgerFile, Form, late) (ledgerFile, error), form Form) put {
	return func(file ledgerFile, late late) (ledgerFile, error) { return store(file, form, late) }
}

// registerCopy registers a file that was uploaded before; repeated as with registerForm.
func (m *Models) registerCopy(c *fiber.Ctx, promise *api.Promise, caller *api.Caller, v version) (_ version, repeated bool, err error) {
	body, err := api.ReadBody(c, maxBody)
	if err != nil {
		return v, false, err
	}
	digest := api.Digest(body)
	if promise.Repeats() {
		return v, true, promise.Repeat(c, digest)
	}
	var r Registration
	if err := api.ReadJSON(c, maxBody, &r); err != nil {
		return v, false, err
	}
	if r.ArtifactURI == "" {
		return v, false, api.BadRequest("artifact_uri", "artifact_uri is missing; or send the file in a form")
	}
	file, err := m.artifacts.Visible(caller, r.ArtifactURI)
	if err != nil {
		return v, false, err
	}
	v.fileName, v.model = file.FileName, r.ModelID
	v.format = formatOf(v.fileName)
	if err := r.into(&v); err != nil {
		return v, false, err
	}
	v, err = m.register(v, func(to ledgerFile, late late) (ledgerFile, error) { return m.artifacts.Copy(file, to, late) },
		func(*version) error { return nil })
	if err == nil {
		promise.Is(digest)
	}
	return v, false, err
}

// formatOf is the format that a file's name says.
func formatOf(fileName string) string {
	switch extension := strings.ToLower(fileName[strings.LastIndexByte(fileName, '.')+1:]); extension {
	case "onnx", "joblib", "pkl":
		return extension
	case "pickle":
		return "pkl"
	}
	return other
}

// registrationOf reads the fields of a form.
func registrationOf(fields map[string]string) (r Registration, err error) {
	r = Registration{
		Name: fields["name"], ModelID: fields["model_id"], Algorithm: fields["algorithm"], Framework: fields["framework"], Format: fields["format"],
		Hyperparameters: json.RawMessage(fields["hyperparameters"]), Metrics: json.RawMessage(fields["metrics"]),
		Signature: json.RawMessage(fields["signature"]), TrainingJobID: fields["training_job_id"],
		TrainingData: json.RawMessage(fields["training_data"]), Tags: json.RawMessage(fields["tags"]),
	}
	if text := fields["training_duration_seconds"]; text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return r, api.BadRequest("training_duration_seconds", "training_duration_seconds must be a number")
		}
		r.TrainingSeconds = &n
	}
	switch fields["promote"] {
	case "", "false", "0":
	case "true", "1":
		r.Promote = true
	default:
		return r, api.BadRequest("promote", "promote must be true or false")
	}
	return r, nil
}

// into checks a registration and puts it into v. Errors: 400.
func (r *Registration) into(v *version) error {
	if r.Name == "" {
		return api.BadRequest("name", "name is missing")
	}
	for field, text := range map[string]string{"name": r.Name, "algorithm": r.Algorithm, "framework": r.Framework, "training_job_id": r.TrainingJobID} {
		if len(text) > maxText || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return api.BadRequest(field, "%s must be text of at most %d bytes, without control characters", field, maxText)
		}
	}
	if r.Format != "" && !slices.Contains(formats, r.Format) {
		return api.BadRequest("format", "format must be one of %s", strings.Join(formats, ", "))
	}
	if r.TrainingSeconds != nil {
		if !(*r.TrainingSeconds >= 0 && *r.TrainingSeconds <= 1e12) {
			return api.BadRequest("training_duration_seconds", "training_duration_seconds must be a number of 0 or more")
		}
		v.trainingSeconds = *r.TrainingSeconds
	}
	for _, d := range []struct {
		field string
		raw   json.RawMessage
		into  any
		want  string
		set   *string
	}{
		{"hyperparameters", r.Hyperparameters, new(map[string]any), "an object", &v.hyperparameters},
		{"metrics", r.Metrics, new(map[string]float64), "an object with numbers", &v.metrics},
		{"signature", r.Signature, new(Signature), "an object with inputs and outputs, arrays of {name, type}", &v.signature},
		{"training_data", r.TrainingData, new(map[string]any), "an object", &v.trainingData},
		{"tags", r.Tags, new(tags), "an object with texts, or an array of texts", &v.tags},
	} {
		if len(d.raw) == 0 || string(d.raw) == "null" {
			continue
		}
		if len(d.raw) > maxDocument {
			return api.BadRequest(d.field, "%s has more than %d bytes", d.field, maxDocument)
		}
		if err := json.Unmarshal(d.raw, d.into); err != nil || !utf8.Valid(d.raw) {
			return api.BadRequest(d.field, "%s must be %s", d.field, d.want)
		}
		*d.set = string(d.raw)
	}
	v.name, v.algorithm, v.framework, v.trainingJob, v.promote = r.Name, r.Algorithm, r.Framework, r.TrainingJobID, r.Promote
	if r.Format != "" {
		v.format = r.Format
	}
	return nil
}

var orders = map[string]string{"updated_at": "updated", "created_at": "created", "model_name": "folded"}

// listModels answers GET /api/v1/storage/models.
func (m *Models) listModels(c *fiber.Ctx) error {
	page, err := api.ReadPage(c)
	if err != nil {
		return err
	}
	sort, err := api.ReadSort(c, api.Sort{By: "updated_at", Descending: true}, "updated_at", "created_at", "model_name")
	if err != nil {
		return err
	}
	f := filter{search: api.TextQuery(c, "search"), algorithm: api.TextQuery(c, "algorithm"), status: api.TextQuery(c, "status")}
	if f.status != "" && f.status != statusReady && f.status != statusUploading {
		return api.BadRequest("status", "status must be ready or uploading")
	}
	for field, text := range map[string]string{"search": f.search, "algorithm": f.algorithm} {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return api.BadRequest(field, "%s must be UTF-8 without NUL", field)
		}
	}
	direction := " ASC"
	if sort.Descending {
		direction = " DESC"
	}
	list, total, err := m.store.list(m.life, api.CallerOf(c).OrgID, f, page, orders[sort.By]+direction+", id"+direction)
	if err != nil {
		return answerTo(err)
	}
	items := make([]Item, 0, len(list))
	for _, model := range list {
		items = append(items, Item{
			ModelID: model.id, ModelName: model.name, LatestVersion: model.newest, PromotedVersion: orNull(model.promoted),
			VersionsCount: model.versions, UpdatedAt: model.updated,
		})
	}
	return api.OK(c, api.Paged[Item]{Items: items, Pagination: page.OfCount(total)}, "Models listed")
}

// showModel answers GET /api/v1/storage/models/{model_id}.
func (m *Models) showModel(c *fiber.Ctx) error {
	org := api.CallerOf(c).OrgID
	all := false
	switch c.Query("include_all_versions") {
	case "", "false", "0":
	case "true", "1":
		all = true
	default:
		return api.BadRequest("include_all_versions", "include_all_versions must be true or false")
	}
	format := c.Query("format", "standard")
	if format != "standard" && format != "mlflow" {
		return api.BadRequest("format", "format must be standard or mlflow")
	}
	model, err := m.store.model(m.life, org, strings.Clone(c.Params("model_id")))
	if err != nil {
		return answerTo(err)
	}
	if model.promoted == 0 && !all {
		return api.NotFound("No version of the model is promoted; include_all_versions=true shows those that there are")
	}
	var versions []version
	var promotions []promotion
	if all {
		if versions, err = m.store.versions(m.life, org, model.id); err != nil {
			return answerTo(err)
		}
		if promotions, err = m.store.promotions(m.life, org, model.id); err != nil {
			return answerTo(err)
		}
	}
	var promoted *version
	if model.promoted != 0 {
		v, err := m.store.version(m.life, org, model.id, model.promoted)
		if err != nil {
			return answerTo(err)
		}
		promoted = &v
	}
	if format == "mlflow" {
		return api.OK(c, mlflow(model, promoted, versions), "Model found")
	}
	return api.OK(c, shown(model, promoted, versions, promotions, all), "Model found")
}

// downloadModel answers GET /api/v1/storage/models/{model_id}/download.
func (m *Models) downloadModel(c *fiber.Ctx) error {
	org := api.CallerOf(c).OrgID
	seconds, err := api.IntQuery(c, "expires_in", usualURL, 1, longestURL)
	if err != nil {
		return err
	}
	format := c.Query("format")
	if format != "" && !slices.Contains(formats, format) {
		return api.BadRequest("format", "format must be one of %s", strings.Join(formats, ", "))
	}
	model, err := m.store.model(m.life, org, strings.Clone(c.Params("model_id")))
	if err != nil {
		return answerTo(err)
	}
	number := model.promoted
	if id := c.Query("version_id"); id != "" {
		if number, err = versionOf(id); err != nil {
			return err
		}
	} else if number == 0 {
		return api.NotFound("No version of the model is promoted; name one with version_id")
	}
	v, err := m.store.version(m.life, org, model.id, number)
	if err != nil {
		return answerTo(err)
	}
	if format != "" && format != v.format {
		return api.Unprocessable("format", "the version is not there as %s, only as %s", format, v.format)
	}
	file, err := m.artifacts.Find(m.life, org, v.objectName)
	if err != nil || file.SHA256 != v.sha256 {
		gone := api.Gone("The artifact of this version is not there any more")
		gone.Cause = err
		return gone
	}
	url, effective, err := m.artifacts.URL(c, file, time.Duration(seconds)*time.Second)
	if err != nil {
		return answerTo(err)
	}
	return api.OK(c, Download{
		ModelID: model.id, VersionID: versionID(number), Format: v.format, DownloadURL: url,
		ExpiresAt: m.now().Add(effective).UTC().Truncate(time.Second), FileSizeBytes: v.size, SHA256: v.sha256,
	}, "URL signed")
}

// promoteModel answers POST /api/v1/storage/models/{model_id}/promote.
func (m *Models) promoteModel(c *fiber.Ctx) error {
	caller := api.CallerOf(c)
	var body Promote
	if err := api.ReadJSON(c, maxBody, &body); err != nil {
		return err
	}
	if body.VersionID == "" {
		return api.BadRequest("version_id", "version_id is missing")
	}
	number, err := versionOf(body.VersionID)
	if err != nil {
		return err
	}
	var expected *int64
	if body.Expected != nil {
		expected = new(int64)
		if *body.Expected != "" {
			if *expected, err = versionOf(*body.Expected); err != nil {
				return api.BadRequest("expected_version_id", "expected_version_id must be the id of a version, or empty")
			}
		}
	}
	id, at := strings.Clone(c.Params("model_id")), m.now().UTC().Truncate(time.Microsecond)
	previous, err := m.store.promote(m.life, caller.OrgID, id, promotion{number: number, user: caller.UserID, at: at}, expected)
	if err != nil {
		return answerTo(err)
	}
	answer := Promoted{ModelID: id, VersionID: versionID(number), VersionNumber: number}
	if previous != 0 {
		text := versionID(previous)
		answer.PreviousVersionID = &text
	}
	return api.OK(c, answer, "Version promoted")
}
