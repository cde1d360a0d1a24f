package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/rivergate/rivergate/sdk"
)

// bucket is where objects are.
type bucket struct {
	client      *minio.Core
	connections *http.Transport
	login       *credentials.Credentials
	address     string // scheme and host, for messages
	name        string
	region      string
	prefix      string
	options     minio.PutObjectOptions
	classes     map[sdk.Tier]string
	parts       *parts
	secure      bool        // the channel is encrypted: the body of a request is not signed
	checksums   atomic.Bool // the server takes them, as far as is known
	encrypts    atomic.Bool // the server said of a part that it does, though not when the upload was begun
	answer      time.Duration
	loginBy     string   // the settings of the credentials, for messages
	hidden      []string // what no message may hold
	log         sdk.Logger
}

// Encryption is how the server is asked to encrypt objects.
type Encryption string

// Addressing is where the bucket's name stands in a request.
type Addressing string

func openBucket(s *S3, at *url.URL, config *tls.Config, log sdk.Logger) (*bucket, error) {
	b := &bucket{
		address: at.Scheme + "://" + at.Host, name: s.Bucket, region: s.Region, prefix: s.Prefix, answer: s.RequestTimeout,
		classes: map[sdk.Tier]string{sdk.TierHot: s.HotClass, sdk.TierWarm: s.WarmClass, sdk.TierCold: s.ColdClass},
		hidden:  []string{s.SecretKey.Reveal(), s.SessionToken.Reveal()},
		parts:   newParts(s.Uploads, int64(s.PartSize)),
		log:     log,
	}
	b.secure = at.Scheme == "https"
	b.checksums.Store(s.Checksums)
	switch {
	case s.CredentialsFile != "":
		b.login, b.loginBy = credentials.NewFileAWSCredentials(s.CredentialsFile, s.Profile), "the profile PROFILE of CREDENTIALS_FILE"
	case s.AccessKey != "":
		b.login, b.loginBy = credentials.NewStaticV4(s.AccessKey, s.SecretKey.Reveal(), s.SessionToken.Reveal()), "ACCESS_KEY, SECRET_KEY and SESSION_TOKEN"
	default:
		b.login = credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}})
		b.loginBy = "ACCESS_KEY, or the AWS chain: AWS_ACCESS_KEY_ID in PASS_ENV, ~/.aws/credentials, the role of the machine"
	}
	dial := min(s.RequestTimeout, 5*time.Second)
	b.connections = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialing(&net.Dialer{Timeout: dial, KeepAlive: 15 * time.Second}),
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dial,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		ResponseHeaderTimeout: s.RequestTimeout,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
		DisableCompression:    true,
	}
	var err error
	b.client, err = minio.NewCore(at.Host, &minio.Options{
		Creds: b.login, Secure: b.secure, Region: s.Region,
		BucketLookup: map[Addressing]minio.BucketLookupType{"auto": minio.BucketLookupAuto, "path": minio.BucketLookupPath, "host": minio.BucketLookupDNS}[s.Addressing],
		MaxRetries:   4, // of what can be sent again; a busy server gets a second or two
		Transport:    &encrypted{next: b.connections},
	})
	if err != nil {
		return nil, err
	}
	switch s.Encryption {
	case "s3":
		b.options.ServerSideEncryption = encrypt.NewSSE()
	case "kms":
		if b.options.ServerSideEncryption, err = encrypt.NewSSEKMS(s.KMSKey, nil); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// there asks for the bucket.
func (b *bucket) there(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.answer)
	defer cancel()
	found, err := b.client.BucketExists(ctx, b.name)
	if err != nil {
		return b.failure("ask for the bucket", err)
	}
	if !found {
		return b.failure("ask for the bucket", minio.ErrorResponse{Code: minio.NoSuchBucket, Message: "there is no such bucket"})
	}
	return nil
}

// ready makes sure that the bucket is there.
func (b *bucket) ready(ctx context.Context, create bool) error {
	err := b.there(ctx)
	var answer minio.ErrorResponse
	if err == nil || !create || !errors.As(err, &answer) || answer.Code != minio.NoSuchBucket {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.answer)
	defer cancel()
	err = b.client.MakeBucket(ctx, b.name, minio.MakeBucketOptions{Region: b.region})
	if code := minio.ToErrorResponse(err).Code; code == "BucketAlreadyOwnedByYou" {
		return nil // another host was faster
	}
	if err != nil {
		return b.failure("make the bucket", err)
	}
	return nil
}

func (b *bucket) close() { b.connections.CloseIdleConnections() }

// optionsFor are those of a new object.
func (b *bucket) optionsFor(put sdk.Put) (minio.PutObjectOptions, error) {
	o := b.options
	tier := put.Tier
	if tier == "" {
		tier = sdk.TierHot
	}
	if tier != sdk.TierHot && b.classes[tier] == "" {
		return o, fmt.Errorf("%w: there is no tier %s: set %s_CLASS", sdk.ErrUnsupported, tier, strings.ToUpper(string(tier)))
	}
	o.StorageClass, o.ContentType = b.classes[tier], put.ContentType
	o.UserMetadata = map[string]string{}
	if tier != sdk.TierHot {
		o.UserMetadata[tierNote] = string(tier)
	}
	if o.ContentType == "" {
		o.ContentType = "application/octet-stream"
	}
	if put.OnlyNew {
		o.SetMatchETagExcept("*")
		o.UserMetadata[putNote] = rand.Text()
	}
	return o, nil
}

// Metadata of an object. tierNote keeps the tier: some servers take any storage class and forget it. putNote tells which Put made it.
const (
	tierNote = "Rivergate-Tier"
	putNote  = "Rivergate-Put"
)

// tierOf is the tier of an object, by its note or, in a list, its storage class.
func (b *bucket) tierOf(note, class string) sdk.Tier {
	for _, tier := range []sdk.Tier{sdk.TierWarm, sdk.TierCold} {
		if note == string(tier) || note == "" && class != "" && strings.EqualFold(b.classes[tier], class) {
			return tier
		}
	}
	return sdk.TierHot
}
