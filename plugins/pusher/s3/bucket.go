package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// bucket is where objects go.
type bucket struct {
	client      *minio.Core
	connections *http.Transport
	login       *credentials.Credentials
	address     string // scheme and host, for messages
	name        string
	probed      string // key of the probe
	options     minio.PutObjectOptions
	timeout     time.Duration // of one object
	answer      time.Duration // of a question without a body
	files       bool          // the credentials come from a file, and may have changed there
	hidden      []string      // what no message may hold
}

// Encryption is how the server is asked to encrypt objects.
type Encryption string

// Addressing is where the bucket's name stands in a request.
type Addressing string

func openBucket(s *S3, at *url.URL, config *tls.Config) (*bucket, error) {
	b := &bucket{address: at.Scheme + "://" + at.Host, name: s.Bucket, timeout: s.UploadTimeout, answer: s.RequestTimeout, files: s.CredentialsFile != "",
		hidden: []string{s.SecretKey.Reveal(), s.SessionToken.Reveal()}}
	b.login = credentials.NewStaticV4(s.AccessKey, s.SecretKey.Reveal(), s.SessionToken.Reveal())
	if b.files {
		b.login = credentials.NewFileAWSCredentials(s.CredentialsFile, s.Profile)
	}
	lookup := map[Addressing]minio.BucketLookupType{"auto": minio.BucketLookupAuto, "path": minio.BucketLookupPath, "host": minio.BucketLookupDNS}[s.Addressing]
	dial := min(s.RequestTimeout, 5*time.Second)
	b.connections = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dial, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dial,
		MaxIdleConnsPerHost:   s.Uploads,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       64 << 10,
		DisableCompression:    true,
	}
	var err error
	b.client, err = minio.NewCore(at.Host, &minio.Options{
		Creds: b.login, Secure: at.Scheme == "https", Region: s.Region, BucketLookup: lookup,
		MaxRetries: 1, // the keeper tries again, and says so
		Transport:  &encrypted{next: b.connections},
	})
	if err != nil {
		return nil, err
	}
	// One PUT makes an object at once or not at all. Parts would be left behind by a crash, and cost money until somebody finds them.
	// Content-MD5 is sent and signed, so the server compares the body with it: a SHA-256 beside it would tell nothing more.
	b.options = minio.PutObjectOptions{DisableMultipart: true, DisableContentSha256: true, StorageClass: s.StorageClass}
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

func (b *bucket) encrypts() bool { return b.options.ServerSideEncryption != nil }

func (b *bucket) close() { b.connections.CloseIdleConnections() }

// put is one object.
type put struct {
	key, contentType string
	text             *io.SectionReader
	size             int64
	md5              []byte
	onlyNew          bool // an object of that key stays as it is
	metadata         map[string]string
}

// put returns nil when the bucket has the object, whole. A second one of the same key replaces the first, by the same bytes.
func (b *bucket) put(ctx context.Context, p put) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	options := b.options
	options.ContentType, options.UserMetadata = p.contentType, p.metadata
	if p.onlyNew {
		options.SetMatchETagExcept("*")
	}
	info, err := b.client.PutObject(ctx, b.name, p.key, p.text, p.size, base64.StdEncoding.EncodeToString(p.md5), "", options)
	if p.onlyNew && minio.ToErrorResponse(err).Code == minio.PreconditionFailed {
		return nil
	}
	if err != nil {
		return b.failure(fmt.Errorf("put %s: %w", p.key, err))
	}
	if strings.EqualFold(info.ETag, hex.EncodeToString(p.md5)) {
		return nil
	}
	// With a key of KMS, and at some stores, the ETag is no MD5. The server compared Content-MD5; we look at the size.
	there, err := b.client.StatObject(ctx, b.name, p.key, minio.StatObjectOptions{})
	if err != nil {
		return b.failure(fmt.Errorf("the server's ETag is not the object's MD5, so its size is asked for (s3:GetObject); stat %s: %w", p.key, err))
	}
	if there.Size != p.size {
		return b.failure(fmt.Errorf("put %s: the server has %d bytes of %d", p.key, there.Size, p.size))
	}
	return nil
}

// probe begins an upload in parts and aborts it: that asks for all that a put needs, and leaves nothing.
func (b *bucket) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*b.answer)
	defer cancel()
	id, err := b.client.NewMultipartUpload(ctx, b.name, b.probed, b.options)
	if minio.ToErrorResponse(err).Code == minio.NotImplemented {
		return nil // the first object will tell
	}
	if err != nil {
		return b.failure(fmt.Errorf("ask whether objects can be put: %w", err))
	}
	if err := b.client.AbortMultipartUpload(ctx, b.name, b.probed, id); err != nil {
		return b.failure(fmt.Errorf("take the question back whether objects can be put (an upload of parts of %s): %w", b.probed, err))
	}
	return nil
}

// encrypted refuses answers of a server that was asked to encrypt and does not say that it did: some ignore the question.
type encrypted struct {
	next *http.Transport
}

const encryptionHeader = "X-Amz-Server-Side-Encryption"

var errNotEncrypted = errors.New("the server was asked to encrypt and does not say that it did; set ENCRYPTION=none if it need not")

func (e *encrypted) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := e.next.RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusOK || r.Header.Get(encryptionHeader) == "" {
		return answer, err
	}
	if answer.Header.Get(encryptionHeader) != r.Header.Get(encryptionHeader) {
		return nil, errors.Join(errNotEncrypted, answer.Body.Close())
	}
	return answer, nil
}
