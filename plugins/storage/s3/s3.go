package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/rivergate/rivergate/plugins/internal/tlsfiles"
	"github.com/rivergate/rivergate/sdk"
)

// S3 keeps each object under its key in a bucket.
type S3 struct {
	URL             string        `config:"url" required:"true" format:"uri" pattern:"^https?://" doc:"Where the server is, without the bucket." example:"https://s3.eu-central-1.amazonaws.com"`
	Bucket          string        `config:"bucket" required:"true" doc:"Bucket of the objects." example:"lab-files"`
	CreateBucket    bool          `config:"create_bucket" default:"false" doc:"Make the bucket when it is not there (s3:CreateBucket)."`
	Region          string        `config:"region" doc:"Region of the bucket; empty: the server is asked (s3:GetBucketLocation)." example:"eu-central-1"`
	AccessKey       string        `config:"access_key" doc:"Access key. Without it and CREDENTIALS_FILE, the AWS chain is asked: AWS_… variables that PASS_ENV names, ~/.aws/credentials, the role of the machine."`
	SecretKey       sdk.Secret    `config:"secret_key" doc:"Its secret."`
	SessionToken    sdk.Secret    `config:"session_token" doc:"Session token of temporary credentials."`
	CredentialsFile string        `config:"credentials_file" doc:"AWS credentials file to log in with, in place of ACCESS_KEY."`
	Profile         string        `config:"profile" default:"default" doc:"Section of CREDENTIALS_FILE."`
	Addressing      Addressing    `config:"addressing" default:"auto" enum:"auto,path,host" doc:"Where the bucket stands in a request: in the path, or in front of the host; auto: in front at the large providers, else in the path."`
	Prefix          string        `config:"prefix" doc:"What all keys in the bucket begin with, so that it can be shared with others; it ends in a slash." example:"rivergate/"`
	HotClass        string        `config:"hot_class" doc:"Storage class of the tier hot; empty: the bucket's own."`
	WarmClass       string        `config:"warm_class" doc:"Storage class of the tier warm; empty: there is no such tier. A server without classes keeps the tier as a note." example:"STANDARD_IA"`
	ColdClass       string        `config:"cold_class" doc:"Storage class of the tier cold, of those that can be read at once; empty: there is no such tier." example:"GLACIER_IR"`
	Encryption      Encryption    `config:"encryption" default:"none" enum:"none,s3,kms" doc:"Have the server encrypt objects, with its own keys or with one of KMS. Nothing counts as stored by a server that does not say that it did."`
	KMSKey          string        `config:"kms_key" doc:"Key for ENCRYPTION=kms; empty: the account's own."`
	PartSize        sdk.Bytes     `config:"part_size" default:"8MiB" min:"5MiB" max:"64MiB" doc:"Larger objects are put in parts of this size, or of a larger one when they would be more than 10000."`
	Uploads         int           `config:"uploads" default:"3" min:"1" max:"64" doc:"Parts that are held in memory and put at once, of all objects together. What finds no place is passed through as it comes."`
	Checksums       bool          `config:"checksums" default:"true" doc:"Have the server check the CRC-32C of each part of an upload whose size nobody knows. One that refuses to begin such an upload is not asked again; false is for one that fails later."`
	RequestTimeout  time.Duration `config:"request_timeout" default:"30s" min:"100ms" max:"10m" doc:"Longest wait for a connection, and for the beginning of an answer."`
	tlsfiles.Files

	bucket *bucket
	tiers  []sdk.Tier
}

// Open checks what can be checked without the server, then that the bucket is there.
func (s *S3) Open(ctx context.Context, env sdk.Env) error {
	at, config, err := s.check()
	if err != nil {
		return err
	}
	if s.bucket, err = openBucket(s, at, config, env.Log); err != nil {
		return sdk.FieldError("url", err)
	}
	s.tiers = []sdk.Tier{sdk.TierHot}
	if s.WarmClass != "" {
		s.tiers = append(s.tiers, sdk.TierWarm)
	}
	if s.ColdClass != "" {
		s.tiers = append(s.tiers, sdk.TierCold)
	}
	if err := s.bucket.ready(ctx, s.CreateBucket); err != nil {
		if errors.Is(err, sdk.ErrUnavailable) {
			// A server that is away is no mistake: the host goes on trying calls, and Health says how it is.
			env.Log.Warn("the bucket cannot be reached", "error", err)
			return nil
		}
		s.bucket.close()
		return sdk.FieldError("bucket", err)
	}
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
		problem("url", "must end with the host; the bucket goes into BUCKET")
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
	switch {
	case s.CredentialsFile != "" && (s.AccessKey != "" || s.SecretKey != "" || s.SessionToken != ""):
		problem("credentials_file", "only one of ACCESS_KEY and CREDENTIALS_FILE can be set")
	case s.AccessKey != "" && s.SecretKey == "":
		problem("secret_key", "is needed beside ACCESS_KEY")
	case s.AccessKey == "" && (s.SecretKey != "" || s.SessionToken != ""):
		problem("access_key", "is needed beside SECRET_KEY")
	}
	if n := len(s.Prefix); n > 0 && (s.Prefix[n-1] != '/' || s.Prefix[0] == '/' || n > maxPrefix) {
		problem("prefix", "must end in a slash, begin with none, and have at most %d bytes", maxPrefix)
	}
	if s.KMSKey != "" && s.Encryption != "kms" {
		problem("kms_key", "is for ENCRYPTION=kms")
	}
	return at, config, errors.Join(problems...)
}

// maxPrefix leaves room in the 1024 bytes that S3 gives a key.
const maxPrefix = 256

// Health asks for the bucket.
func (s *S3) Health(ctx context.Context) error { return s.bucket.there(ctx) }

// Close lets the connections go.
func (s *S3) Close(context.Context) error {
	s.bucket.close()
	return nil
}

// The limits of S3.
const (
	minPart   = 5 << 20
	maxPart   = 5 << 30
	maxParts  = 10_000
	maxObject = 5 << 40
)

// Abilities of a bucket.
func (s *S3) Abilities() sdk.Abilities {
	return sdk.Abilities{
		MinPart: minPart, MaxPart: maxPart, MaxObject: maxObject, Tiers: s.tiers, Encrypts: s.bucket.options.ServerSideEncryption != nil,
		Bucket: s.Bucket,
	}
}
