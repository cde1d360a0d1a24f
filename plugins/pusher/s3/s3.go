package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/rivergate/rivergate/plugins/internal/durable"
	"github.com/rivergate/rivergate/plugins/internal/template"
	"github.com/rivergate/rivergate/plugins/internal/tlsfiles"
	"github.com/rivergate/rivergate/sdk"
)

// S3 writes rows to a spool on disk, which is when they are acknowledged, and from there into objects: each row into exactly one.
type S3 struct {
	URL             string        `config:"url" required:"true" format:"uri" pattern:"^https?://" doc:"Where the server is, without the bucket." example:"https://s3.eu-central-1.amazonaws.com"`
	Bucket          string        `config:"bucket" required:"true" doc:"Bucket that objects go to; it has to be there." example:"lab-rows"`
	Region          string        `config:"region" doc:"Region of the bucket; empty: the server is asked (s3:GetBucketLocation)."`
	AccessKey       string        `config:"access_key" doc:"Access key."`
	SecretKey       sdk.Secret    `config:"secret_key" doc:"Its secret."`
	SessionToken    sdk.Secret    `config:"session_token" doc:"Session token of temporary credentials."`
	CredentialsFile string        `config:"credentials_file" doc:"AWS credentials file to log in with, in place of ACCESS_KEY; read again when the server refuses them."`
	Profile         string        `config:"profile" default:"default" doc:"Section of CREDENTIALS_FILE."`
	Addressing      Addressing    `config:"addressing" default:"auto" enum:"auto,path,host" doc:"Where the bucket stands in a request: in the path, or in front of the host; auto: in front at the large providers, else in the path."`
	Path            string        `config:"path" default:"rivergate/org={org}/date={date}" doc:"What keys begin with; {org} {date} {hour} {uuid} {instance} stand for the row's own." example:"lab/{org}/{date}/{hour}"`
	Format          Format        `config:"format" default:"jsonl" enum:"jsonl,parquet" doc:"jsonl: one JSON object a line; parquet: columns."`
	Compression     Compression   `config:"compression" default:"auto" enum:"auto,none,gzip,zstd,snappy" doc:"auto: none for jsonl, snappy for parquet. snappy is for parquet alone."`
	Envelope        bool          `config:"envelope" default:"true" doc:"jsonl: position, org, uuid, index and time around each row; false: the client's own bytes alone."`
	Columns         string        `config:"columns" doc:"parquet: columns to fill from members of the row, as column=member:type, comma separated; types are text (when left out), json, bigint, double and boolean, the member * is the whole row. Empty: one column data." example:"time=timeElapsed:double,od=odMeasured:text"`
	EmptyAsNull     bool          `config:"empty_as_null" default:"false" doc:"parquet: an empty string becomes null in a mapped column that is not text."`
	RollSize        sdk.Bytes     `config:"roll_size" default:"64MiB" min:"1KiB" max:"1GiB" doc:"Size of a segment of the spool at which it is sealed and put."`
	RollRows        int64         `config:"roll_rows" default:"1000000" min:"1" doc:"The same in rows."`
	RollInterval    time.Duration `config:"roll_interval" default:"5m" min:"10ms" max:"24h" doc:"Age at which a segment is sealed and put, counted from its first row."`
	SpoolDir        string        `config:"spool_dir" default:"s3-spool" doc:"Folder in which {instance}/ keeps rows until the bucket has them; it has to outlive the process. A relative path starts in the folder in which the host was started."`
	SpoolMax        sdk.Bytes     `config:"spool_max" default:"1GiB" min:"1KiB" doc:"Size at which the spool takes no more rows: they wait in the host. UPLOADS objects are beside it while they are put."`
	MaxRow          sdk.Bytes     `config:"max_row" default:"8MiB" min:"1" max:"64MiB" doc:"A larger row is rejected."`
	Uploads         int           `config:"uploads" default:"4" min:"1" max:"64" doc:"Objects that are put at once."`
	UploadTimeout   time.Duration `config:"upload_timeout" default:"2m" min:"100ms" max:"1h" doc:"Longest time for one object; then it is put anew."`
	RequestTimeout  time.Duration `config:"request_timeout" default:"10s" min:"100ms" max:"10m" doc:"Longest wait for a connection, and for the answer whether the bucket can be written to."`
	StorageClass    string        `config:"storage_class" doc:"Storage class of objects; empty: the bucket's own." example:"STANDARD_IA"`
	Encryption      Encryption    `config:"encryption" default:"none" enum:"none,s3,kms" doc:"Have the server encrypt objects, with its own keys or with one of KMS. Nothing goes to a server that does not say that it does."`
	KMSKey          string        `config:"kms_key" doc:"Key for ENCRYPTION=kms; empty: the account's own."`
	tlsfiles.Files

	instance string
	folder   string // of the spool
	table    *table // columns of a Parquet object; nil: every row fits
	keeper   *keeper
}

// Open checks what can be checked without the server, and begins with what an earlier process left in the spool, once that is free.
func (s *S3) Open(_ context.Context, env sdk.Env) error {
	s.instance = env.Instance
	at, config, err := s.check()
	if err != nil {
		return err
	}
	s.folder = filepath.Join(s.SpoolDir, template.Name(s.instance))
	b, err := openBucket(s, at, config)
	if err != nil {
		return sdk.FieldError("url", err)
	}
	path, err := parsePath(s.Path)
	if err != nil {
		return sdk.FieldError("path", err)
	}
	b.probed = path.Prefix() + "rivergate-probe"
	s.keeper = newKeeper(s.folder, spoolOptions{
		instance: s.instance, pathText: s.Path, rollSize: int64(s.RollSize), rollRows: s.RollRows, rollInterval: s.RollInterval,
		layout: layout{Format: s.Format, Compression: s.Compression, Envelope: s.Envelope, Columns: s.Columns, EmptyAsNull: s.EmptyAsNull},
		now:    time.Now, create: durable.Create,
	}, b, s.Uploads, env.Log)
	s.keeper.start()
	return nil
}

// check finds every setting that is wrong.
func (s *S3) check() (at *url.URL, config *tls.Config, err error) {
	var problems []error
	problem := func(field, format string, args ...any) {
		problems = append(problems, sdk.FieldError(field, fmt.Errorf(format, args...)))
	}
	at, err = url.Parse(s.URL)
	switch {
	case err != nil:
		problem("url", "is not a URL") // the parser's text quotes it
	case at.Scheme != "http" && at.Scheme != "https", at.Host == "":
		problem("url", "must start with http:// or https:// and a host")
	case at.User != nil:
		problem("url", "holds a user; use ACCESS_KEY and SECRET_KEY, which is kept secret")
	case at.Path != "" && at.Path != "/", at.RawQuery != "", at.Fragment != "":
		problem("url", "must end with the host; the bucket goes into BUCKET, the rest into PATH")
	case at.Scheme == "http" && s.Files != (tlsfiles.Files{}):
		problem("url", "must begin with https:// beside CA_FILE, CERT_FILE, KEY_FILE and INSECURE")
	default:
		if config, err = s.TLS(); err != nil {
			problems = append(problems, err)
		}
	}
	if err := s3utils.CheckValidBucketName(s.Bucket); err != nil {
		problem("bucket", "is no bucket's name: %w", err)
	}
	if _, err := parsePath(s.Path); err != nil {
		problem("path", "%w", err)
	}
	problems = append(problems, s.checkLogin()...)
	problems = append(problems, s.checkLayout()...)
	if s.KMSKey != "" && s.Encryption != "kms" {
		problem("kms_key", "is for ENCRYPTION=kms")
	}
	if s.SpoolMax < s.RollSize {
		problem("spool_max", "must be at least ROLL_SIZE (%s)", s.RollSize)
	}
	if info, err := os.Stat(s.SpoolDir); s.SpoolDir == "" || err == nil && !info.IsDir() {
		problem("spool_dir", "must name a folder")
	}
	return at, config, errors.Join(problems...)
}

func (s *S3) checkLogin() (problems []error) {
	switch {
	case s.CredentialsFile != "":
		if s.AccessKey != "" || s.SecretKey != "" || s.SessionToken != "" {
			return []error{sdk.FieldError("credentials_file", errors.New("only one of ACCESS_KEY and CREDENTIALS_FILE can be set"))}
		}
		file := credentials.NewFileAWSCredentials(s.CredentialsFile, s.Profile)
		if _, err := file.GetWithContext(nil); err != nil {
			return []error{sdk.FieldError("credentials_file", fmt.Errorf("cannot be used with PROFILE=%s: %w", s.Profile, err))}
		}
	case s.AccessKey == "":
		problems = append(problems, sdk.FieldError("access_key", errors.New("must be set, with SECRET_KEY, or CREDENTIALS_FILE")))
	case s.SecretKey == "":
		problems = append(problems, sdk.FieldError("secret_key", errors.New("is needed beside ACCESS_KEY")))
	}
	return problems
}

func (s *S3) checkLayout() (problems []error) {
	if s.Format == jsonLines {
		switch {
		case s.Columns != "":
			problems = append(problems, sdk.FieldError("columns", errors.New("is for FORMAT=parquet")))
		case s.EmptyAsNull:
			problems = append(problems, sdk.FieldError("empty_as_null", errors.New("is for FORMAT=parquet")))
		}
		switch s.Compression {
		case snappyOnly:
			problems = append(problems, sdk.FieldError("compression", errors.New("is none, gzip or zstd for FORMAT=jsonl")))
		case byFormat:
			s.Compression = plain
		}
		return problems
	}
	if !s.Envelope {
		problems = append(problems, sdk.FieldError("envelope", errors.New("is for FORMAT=jsonl")))
	}
	if s.Compression == byFormat {
		s.Compression = snappyOnly
	}
	var err error
	if s.table, err = newTable(s.Columns, s.EmptyAsNull); err != nil {
		problems = append(problems, sdk.FieldError("columns", err))
	}
	return problems
}

// Health tells what keeps rows from the bucket at the moment. It asks nobody: each question to S3 has its price.
func (s *S3) Health(context.Context) error {
	if err := s.keeper.trouble.first(); err != nil {
		return err
	}
	select {
	case <-s.keeper.ready:
		return s.keeper.spool.damage()
	default:
		return nil // during an upgrade the older process has the spool
	}
}

// closeMargin is kept back of the time for Close, to stop what is on its way.
const closeMargin = 500 * time.Millisecond

// Close puts what is in the spool, as far as time allows; the rest stays there.
func (s *S3) Close(ctx context.Context) error {
	if s.keeper == nil {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-closeMargin))
		defer cancel()
	}
	err := s.keeper.close(ctx)
	s.keeper.bucket.close()
	return err
}
