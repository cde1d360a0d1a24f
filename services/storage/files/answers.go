package files

import (
	"math"
	"time"
)

// The answers, as the contract names them.

// Uploaded is the answer to an upload.
type Uploaded struct {
	FilePath       string `json:"file_path" required:"true" description:"The object name."`
	FileName       string `json:"file_name" required:"true" description:"As the client called it."`
	UniqueFileName string `json:"unique_file_name" required:"true"`
	Size           int64  `json:"size" required:"true"`
	ContentType    string `json:"content_type" required:"true"`
	S3URI          string `json:"s3_uri" required:"true"`
	StorageFileID  int64  `json:"storage_file_id" required:"true"`
	SHA256         string `json:"sha256" required:"true"`
}

// Item is one file of a list.
type Item struct {
	StorageFileID int64     `json:"storage_file_id" required:"true"`
	FileName      string    `json:"file_name" required:"true"`
	ObjectName    string    `json:"object_name" required:"true"`
	SizeBytes     int64     `json:"size_bytes" required:"true"`
	SizeMB        float64   `json:"size_mb" required:"true"`
	ContentType   string    `json:"content_type" required:"true"`
	FileCategory  string    `json:"file_category" required:"true" enum:"data_source,profile_image,general"`
	UploadedAt    time.Time `json:"uploaded_at" required:"true"`
	PresignedURL  string    `json:"presigned_url" required:"true" description:"Good for an hour."`
	DataSourceID  *int64    `json:"data_source_id" required:"true"`
	WorkspaceID   *uint64   `json:"workspace_id" required:"true"`
}

// ObjectMetadata describes one object.
type ObjectMetadata struct {
	Name         string    `json:"name" required:"true"`
	Size         int64     `json:"size" required:"true"`
	ContentType  string    `json:"content_type" required:"true"`
	LastModified time.Time `json:"last_modified" required:"true"`
	ETag         string    `json:"etag" required:"true" description:"With its quotes, as in the header."`
	SHA256       string    `json:"sha256" required:"true"`
	Tier         string    `json:"tier" required:"true" enum:"hot,warm,cold"`
}

// PresignedURL is a URL that needs no other credential.
type PresignedURL struct {
	URL              string `json:"url" required:"true"`
	ExpiresInSeconds int64  `json:"expires_in_seconds" required:"true" description:"When it really ends, which may be earlier than was asked for."`
}

// Deleted names what was deleted.
type Deleted struct {
	ObjectName string `json:"object_name" required:"true"`
}

// Quota is what an organisation may keep.
type Quota struct {
	LimitBytes int64   `json:"limit_bytes" required:"true"`
	LimitMB    float64 `json:"limit_mb" required:"true"`
	LimitGB    float64 `json:"limit_gb" required:"true"`
}

// Usage is what an organisation keeps.
type Usage struct {
	UsedBytes       int64            `json:"used_bytes" required:"true"`
	UsedMB          float64          `json:"used_mb" required:"true"`
	UsedGB          float64          `json:"used_gb" required:"true"`
	ReservedBytes   int64            `json:"reserved_bytes" required:"true" description:"Of uploads that are going on."`
	LimitBytes      int64            `json:"limit_bytes" required:"true"`
	LimitMB         float64          `json:"limit_mb" required:"true"`
	LimitGB         float64          `json:"limit_gb" required:"true"`
	AvailableBytes  int64            `json:"available_bytes" required:"true"`
	UsagePercentage float64          `json:"usage_percentage" required:"true"`
	FileCount       int64            `json:"file_count" required:"true"`
	ByCategory      map[string]int64 `json:"by_category" required:"true" nullable:"false" description:"Bytes."`
}

// InternalFile is the answer to an upload of another service.
type InternalFile struct {
	ObjectName    string     `json:"object_name" required:"true"`
	Size          int64      `json:"size" required:"true"`
	ContentType   string     `json:"content_type" required:"true"`
	ETag          string     `json:"etag" required:"true"`
	SHA256        string     `json:"sha256" required:"true"`
	S3URI         string     `json:"s3_uri" required:"true"`
	ExpiresAt     *time.Time `json:"expires_at" required:"true" description:"null: it stays until it is deleted."`
	StorageFileID int64      `json:"storage_file_id" required:"true"`
}

const (
	mebi = 1 << 20
	gibi = 1 << 30
)

// in gives bytes in a binary unit with two decimals.
func in(bytes int64, unit float64) float64 { return math.Round(float64(bytes)/unit*100) / 100 }

// orNull: ids that are not set are null in an answer.
func orNull[T comparable](id T) *T {
	var none T
	if id == none {
		return nil
	}
	return &id
}
