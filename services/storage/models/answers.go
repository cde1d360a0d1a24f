package models

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/rivergate/rivergate/services/storage/ledger"
)

type ledgerFile = ledger.File

// Registered is the answer to a registration.
type Registered struct {
	ModelID       string    `json:"model_id" required:"true"`
	VersionID     string    `json:"version_id" required:"true"`
	VersionNumber int64     `json:"version_number" required:"true"`
	Status        string    `json:"status" required:"true" enum:"ready"`
	IsPromoted    bool      `json:"is_promoted" required:"true"`
	ArtifactURI   string    `json:"artifact_uri" required:"true"`
	SHA256        string    `json:"sha256" required:"true"`
	FileSizeBytes int64     `json:"file_size_bytes" required:"true"`
	CreatedAt     time.Time `json:"created_at" required:"true"`
}

// Item is a model in a list.
type Item struct {
	ModelID         string    `json:"model_id" required:"true"`
	ModelName       string    `json:"model_name" required:"true"`
	LatestVersion   int64     `json:"latest_version" required:"true"`
	PromotedVersion *int64    `json:"promoted_version" required:"true" nullable:"true"`
	VersionsCount   int64     `json:"versions_count" required:"true"`
	UpdatedAt       time.Time `json:"updated_at" required:"true"`
}

// Shown is a model: in the standard form, or in that of MLflow.
type Shown struct{}

// JSONSchemaOneOf says so to the OpenAPI document.
func (Shown) JSONSchemaOneOf() []any { return []any{Model{}, MLflow{}} }

// Model is the standard form.
type Model struct {
	ModelID         string           `json:"model_id" required:"true"`
	ModelName       string           `json:"model_name" required:"true"`
	PromotedVersion *PromotedVersion `json:"promoted_version" required:"true" nullable:"true"`
	Signature       *Signature       `json:"signature" required:"true" nullable:"true" description:"Of the promoted version, else of the newest one."`
	Versions        []Version        `json:"versions,omitempty" description:"The newest first, with include_all_versions."`
	Promotions      []Promotion      `json:"promotions,omitempty" description:"The newest first, with include_all_versions."`
}

// PromotedVersion is the version in force.
type PromotedVersion struct {
	VersionID     string    `json:"version_id" required:"true"`
	VersionNumber int64     `json:"version_number" required:"true"`
	Algorithm     string    `json:"algorithm" required:"true"`
	ArtifactURI   string    `json:"artifact_uri" required:"true"`
	PromotedAt    time.Time `json:"promoted_at" required:"true"`
}

// Version is one version. It never changes, but for is_promoted.
type Version struct {
	VersionID               string             `json:"version_id" required:"true"`
	ModelID                 string             `json:"model_id" required:"true"`
	VersionNumber           int64              `json:"version_number" required:"true"`
	IsPromoted              bool               `json:"is_promoted" required:"true"`
	Status                  string             `json:"status" required:"true" enum:"ready"`
	Algorithm               string             `json:"algorithm" required:"true"`
	Framework               string             `json:"framework" required:"true"`
	Format                  string             `json:"format" required:"true"`
	Hyperparameters         map[string]any     `json:"hyperparameters" required:"true" nullable:"false"`
	Metrics                 map[string]float64 `json:"metrics" required:"true" nullable:"false"`
	Artifacts               Artifact           `json:"artifacts" required:"true"`
	Manifest                []ManifestFile     `json:"manifest" required:"true" nullable:"false" description:"All files of the version."`
	Signature               *Signature         `json:"signature,omitempty"`
	TrainingJobID           string             `json:"training_job_id,omitempty"`
	TrainingData            map[string]any     `json:"training_data,omitempty"`
	Tags                    map[string]string  `json:"tags,omitempty"`
	TrainedAt               time.Time          `json:"trained_at" required:"true"`
	TrainedBy               *uint64            `json:"trained_by" required:"true" nullable:"true" description:"The user who registered it."`
	TrainingDurationSeconds *float64           `json:"training_duration_seconds" required:"true" nullable:"true"`
	SHA256                  string             `json:"sha256" required:"true"`
}

// Artifact is where the files are.
type Artifact struct {
	ModelFile string  `json:"model_file" required:"true"`
	ONNXFile  *string `json:"onnx_file" required:"true" nullable:"true"`
}

// ManifestFile is a file of a version.
type ManifestFile struct {
	Name      string `json:"name" required:"true"`
	SizeBytes int64  `json:"size_bytes" required:"true"`
	SHA256    string `json:"sha256" required:"true"`
}

// Promotion is an entry of the history.
type Promotion struct {
	VersionID         string    `json:"version_id" required:"true"`
	PreviousVersionID *string   `json:"previous_version_id" required:"true" nullable:"true"`
	PromotedAt        time.Time `json:"promoted_at" required:"true"`
	PromotedBy        *uint64   `json:"promoted_by" required:"true" nullable:"true"`
}

// Signature says what goes into a model and what comes out.
type Signature struct {
	Inputs  []Field `json:"inputs" nullable:"false"`
	Outputs []Field `json:"outputs" nullable:"false"`
}

// Field is one of those.
type Field struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Download is a URL of an artifact.
type Download struct {
	ModelID       string    `json:"model_id" required:"true"`
	VersionID     string    `json:"version_id" required:"true"`
	Format        string    `json:"format" required:"true"`
	DownloadURL   string    `json:"download_url" required:"true"`
	ExpiresAt     time.Time `json:"expires_at" required:"true"`
	FileSizeBytes int64     `json:"file_size_bytes" required:"true"`
	SHA256        string    `json:"sha256" required:"true"`
}

// Promoted is the answer to a promotion.
type Promoted struct {
	ModelID           string  `json:"model_id" required:"true"`
	VersionID         string  `json:"version_id" required:"true"`
	VersionNumber     int64   `json:"version_number" required:"true"`
	PreviousVersionID *string `json:"previous_version_id" required:"true" nullable:"true" description:"The same when it was promoted already."`
}

// MLflow is the form of MLflow's REST API: RegisteredModel with its ModelVersions.
type MLflow struct {
	RegisteredModel MLflowModel `json:"registered_model" required:"true"`
}

// MLflowModel is a RegisteredModel. Its name is the model's; the id is the tag rivergate.model_id.
type MLflowModel struct {
	Name                 string          `json:"name" required:"true"`
	CreationTimestamp    int64           `json:"creation_timestamp" required:"true" description:"Milliseconds."`
	LastUpdatedTimestamp int64           `json:"last_updated_timestamp" required:"true"`
	LatestVersions       []MLflowVersion `json:"latest_versions" required:"true" nullable:"false" description:"The promoted one, or all with include_all_versions."`
	Tags                 []MLflowTag     `json:"tags" required:"true" nullable:"false"`
	Aliases              []MLflowAlias   `json:"aliases" required:"true" nullable:"false"`
}

// MLflowVersion is a ModelVersion.
type MLflowVersion struct {
	Name                 string      `json:"name" required:"true"`
	Version              string      `json:"version" required:"true"`
	CreationTimestamp    int64       `json:"creation_timestamp" required:"true"`
	LastUpdatedTimestamp int64       `json:"last_updated_timestamp" required:"true"`
	UserID               string      `json:"user_id" required:"true"`
	CurrentStage         string      `json:"current_stage" required:"true" enum:"None,Production"`
	Source               string      `json:"source" required:"true"`
	RunID                string      `json:"run_id" required:"true"`
	Status               string      `json:"status" required:"true" enum:"READY"`
	Tags                 []MLflowTag `json:"tags" required:"true" nullable:"false"`
	Aliases              []string    `json:"aliases" required:"true" nullable:"false"`
}

// MLflowTag is a tag.
type MLflowTag struct {
	Key   string `json:"key" required:"true"`
	Value string `json:"value" required:"true"`
}

// MLflowAlias is a name for a version.
type MLflowAlias struct {
	Alias   string `json:"alias" required:"true"`
	Version string `json:"version" required:"true"`
}

// promotedAlias is what the promoted version is called in MLflow's terms.
const promotedAlias = "promoted"

func versionID(number int64) string { return fmt.Sprintf("ver-%03d", number) }

// orNull: 0 means none.
func orNull[T int64 | uint64](n T) *T {
	if n == 0 {
		return nil
	}
	return &n
}

// decoded is a stored document; it was checked when it came.
func decoded[T any](text string) (value T) {
	if text != "" {
		_ = json.Unmarshal([]byte(text), &value)
	}
	return value
}

func signatureOf(v *version) *Signature {
	if v == nil || v.signature == "" {
		return nil
	}
	s := decoded[Signature](v.signature)
	if s.Inputs == nil {
		s.Inputs = []Field{}
	}
	if s.Outputs == nil {
		s.Outputs = []Field{}
	}
	return &s
}

// tags are an object with texts; of an array, its texts are the names.
type tags map[string]string

func (t *tags) UnmarshalJSON(raw []byte) error {
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		*t = tags{}
		for _, name := range list {
			(*t)[name] = ""
		}
		return nil
	}
	var object map[string]string
	err := json.Unmarshal(raw, &object)
	*t = object
	return err
}

func shown(m model, promoted *version, versions []version, promotions []promotion, all bool) Model {
	answer := Model{ModelID: m.id, ModelName: m.name, Signature: signatureOf(promoted)}
	if promoted != nil {
		answer.PromotedVersion = &PromotedVersion{
			VersionID: versionID(promoted.number), VersionNumber: promoted.number, Algorithm: promoted.algorithm, ArtifactURI: promoted.uri, PromotedAt: m.promotedAt,
		}
	} else if len(versions) > 0 {
		answer.Signature = signatureOf(&versions[0])
	}
	if !all {
		return answer
	}
	answer.Versions, answer.Promotions = []Version{}, []Promotion{}
	for _, v := range versions {
		answer.Versions = append(answer.Versions, versionAnswer(m, v))
	}
	for _, p := range promotions {
		entry := Promotion{VersionID: versionID(p.number), PromotedAt: p.at, PromotedBy: orNull(p.user)}
		if p.previous != 0 {
			text := versionID(p.previous)
			entry.PreviousVersionID = &text
		}
		answer.Promotions = append(answer.Promotions, entry)
	}
	return answer
}

func versionAnswer(m model, v version) Version {
	answer := Version{
		VersionID: versionID(v.number), ModelID: m.id, VersionNumber: v.number, IsPromoted: v.number == m.promoted, Status: v.status,
		Algorithm: v.algorithm, Framework: v.framework, Format: v.format,
		Hyperparameters: decoded[map[string]any](v.hyperparameters), Metrics: decoded[map[string]float64](v.metrics),
		Artifacts: Artifact{ModelFile: v.uri}, Manifest: []ManifestFile{{v.fileName, v.size, v.sha256}},
		Signature: signatureOf(&v), TrainingJobID: v.trainingJob, TrainingData: decoded[map[string]any](v.trainingData), Tags: decoded[tags](v.tags),
		TrainedAt: v.created, TrainedBy: orNull(v.user), SHA256: v.sha256,
	}
	if answer.Hyperparameters == nil {
		answer.Hyperparameters = map[string]any{}
	}
	if answer.Metrics == nil {
		answer.Metrics = map[string]float64{}
	}
	if v.format == "onnx" {
		answer.Artifacts.ONNXFile = &v.uri
	}
	if v.trainingSeconds >= 0 {
		answer.TrainingDurationSeconds = &v.trainingSeconds
	}
	return answer
}

func mlflow(m model, promoted *version, versions []version) MLflow {
	answer := MLflowModel{
		Name: m.name, CreationTimestamp: m.created.UnixMilli(), LastUpdatedTimestamp: m.updated.UnixMilli(),
		LatestVersions: []MLflowVersion{}, Tags: []MLflowTag{{"rivergate.model_id", m.id}}, Aliases: []MLflowAlias{},
	}
	if promoted != nil {
		answer.Aliases = append(answer.Aliases, MLflowAlias{promotedAlias, strconv.FormatInt(promoted.number, 10)})
		if versions == nil {
			versions = []version{*promoted}
		}
	}
	for _, v := range versions {
		entry := MLflowVersion{
			Name: m.name, Version: strconv.FormatInt(v.number, 10), CreationTimestamp: v.created.UnixMilli(), LastUpdatedTimestamp: v.created.UnixMilli(),
			CurrentStage: "None", Source: v.uri, RunID: v.trainingJob, Status: "READY", Aliases: []string{},
			Tags: []MLflowTag{
				{"rivergate.algorithm", v.algorithm}, {"rivergate.format", v.format}, {"rivergate.framework", v.framework}, {"rivergate.sha256", v.sha256},
			},
		}
		if v.user != 0 {
			entry.UserID = strconv.FormatUint(v.user, 10)
		}
		if v.number == m.promoted {
			entry.CurrentStage, entry.Aliases = "Production", []string{promotedAlias}
		}
		named := decoded[tags](v.tags)
		names := make([]string, 0, len(named))
		for name := range named {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			entry.Tags = append(entry.Tags, MLflowTag{name, named[name]})
		}
		answer.LatestVersions = append(answer.LatestVersions, entry)
	}
	return MLflow{answer}
}
