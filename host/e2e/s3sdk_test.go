package e2e

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"
)

// presigned sends the requests of an S3 SDK to a presigned URL: the SDK's method, headers and body, the URL's address.
type presigned struct{ to *url.URL }

func (p presigned) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL, r.Host = p.to, p.to.Host
	return http.DefaultTransport.RoundTrip(r)
}

// s3SDK is a client without credentials: the URL has them.
func s3SDK(t *testing.T, presignedURL string) *minio.Core {
	t.Helper()
	return s3SDKOf(t, presignedURL, credentials.NewStaticV4("", "", ""))
}

func s3SDKOf(t *testing.T, presignedURL string, caller *credentials.Credentials) *minio.Core {
	t.Helper()
	to, err := url.Parse(presignedURL)
	require.NoError(t, err)
	client, err := minio.NewCore("s3.invalid", &minio.Options{
		Creds: caller, Transport: presigned{to}, Region: "us-east-1", BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	})
	require.NoError(t, err)
	return client
}

const (
	sdkBucket = "bucket"
	sdkObject = "object.bin"
)

// An S3 SDK, unchanged, on presigned URLs: those that the host answers, and those of the backend's own where nothing is encrypted.
func TestAnS3SDKWorksOnPresignedURLs(t *testing.T) {
	storageSetups(t, func(t *testing.T, w *world) {
		for _, encryption := range []string{"host", "off"} {
			host := w.set("RIVERGATE_STORAGE_ENCRYPTION", encryption).start()
			c := newContract(t, "http://"+host.Addr)
			direct := encryption == "off" && w.opts.Env["RIVERGATE_STORAGE"] == "s3" // the URLs to read are the backend's own
			sdkPutsAndGets(t, c, "organizations/1/files/5/sdk/"+encryption+" ü.bin", direct)
			sdkPutsParts(t, c, direct)
			w.stop()
		}
	})
}

var sdkUser = map[string]string{"X-User-ID": "5"}

func signedFor(c *contract, object, method string) string {
	c.t.Helper()
	return c.ask(ask{
		method: "GET", route: storagePath + "/objects/{object_name}/presigned-url", path: map[string]string{"object_name": object},
		query: url.Values{"method": {method}}, header: sdkUser, want: 200,
	}).data["url"].(string)
}

// noise is the same for the same seed.
func noise(seed uint64, size int) []byte {
	content := make([]byte, size)
	from := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
	for i := range content {
		content[i] = byte(from.Uint32())
	}
	return content
}

func sdkPutsAndGets(t *testing.T, c *contract, object string, direct bool) {
	ctx := t.Context()
	content := noise(1, 1<<20+17)
	put, err := s3SDK(t, signedFor(c, object, "PUT")).Client.PutObject(ctx, sdkBucket, sdkObject, bytes.NewReader(content), int64(len(content)),
		minio.PutObjectOptions{ContentType: "application/x-plate", SendContentMd5: true})
	require.NoError(t, err)
	require.Equal(t, sum(content), put.ETag)
	// With credentials it signs chunk by chunk, which must not end up in the file.
	_, err = s3SDKOf(t, signedFor(c, object, "PUT"), credentials.NewStaticV4("key", "secret", "")).Client.PutObject(ctx, sdkBucket, sdkObject,
		bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
	require.Equal(t, http.StatusUnsupportedMediaType, minio.ToErrorResponse(err).StatusCode, "%v", err)
	meta := c.ask(ask{method: "GET", route: storagePath + "/objects/{object_name}/metadata", path: map[string]string{"object_name": object}, header: sdkUser, want: 200}).data
	require.EqualValues(t, len(content), meta["size"])
	require.Equal(t, sum(content), meta["sha256"])
	require.Equal(t, "application/x-plate", meta["content_type"])

	address := signedFor(c, object, "GET")
	require.Equal(t, direct, !strings.HasPrefix(address, c.base))
	sdkReads(ctx, t, address, content, "application/x-plate", !direct)
	if !direct {
		_, err = s3SDK(t, tampered(address)).StatObject(ctx, sdkBucket, sdkObject, minio.StatObjectOptions{})
		require.Equal(t, "AccessDenied", minio.ToErrorResponse(err).Code)
		c.ask(ask{method: "DELETE", route: storagePath + "/objects/{object_name}", path: map[string]string{"object_name": object}, header: sdkUser, want: 200})
		_, err = s3SDK(t, address).StatObject(ctx, sdkBucket, sdkObject, minio.StatObjectOptions{})
		require.Equal(t, "NoSuchKey", minio.ToErrorResponse(err).Code)
	}
}

// sdkReads compares what the SDK finds at the URL. The URLs of the host answer HEAD as well.
func sdkReads(ctx context.Context, t *testing.T, address string, content []byte, contentType string, ours bool) {
	client := s3SDK(t, address)
	got, err := client.Client.GetObject(ctx, sdkBucket, sdkObject, minio.GetObjectOptions{})
	require.NoError(t, err)
	defer got.Close()
	whole, err := io.ReadAll(got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, whole))
	_, err = got.Seek(-5, io.SeekEnd)
	require.NoError(t, err)
	last, err := io.ReadAll(got)
	require.NoError(t, err)
	require.Equal(t, content[len(content)-5:], last)
	_, err = got.Seek(0, io.SeekStart) // the SDK tells the size from here on
	require.NoError(t, err)
	info, err := got.Stat()
	require.NoError(t, err)
	infos := []minio.ObjectInfo{info}
	part := make([]byte, 1000)
	n, err := got.ReadAt(part, 4321)
	require.NoError(t, err)
	require.Equal(t, len(part), n)
	require.True(t, bytes.Equal(content[4321:5321], part))
	n, err = got.ReadAt(part, int64(len(content)-10))
	require.ErrorIs(t, err, io.EOF)
	require.True(t, bytes.Equal(content[len(content)-10:], part[:n]))
	if ours {
		info, err = client.StatObject(ctx, sdkBucket, sdkObject, minio.StatObjectOptions{})
		require.NoError(t, err)
		infos = append(infos, info)
	}
	for _, info := range infos {
		require.Equal(t, int64(len(content)), info.Size)
		require.Equal(t, contentType, info.ContentType)
		require.WithinDuration(t, time.Now(), info.LastModified, time.Minute)
		require.NotEmpty(t, info.ETag)
		if ours {
			require.Equal(t, sum(content), info.ETag)
		}
	}
	// What has not changed is not sent again.
	changed := minio.GetObjectOptions{}
	require.NoError(t, changed.SetMatchETagExcept(infos[0].ETag))
	_, _, _, err = client.GetObject(ctx, sdkBucket, sdkObject, changed)
	require.Equal(t, http.StatusNotModified, minio.ToErrorResponse(err).StatusCode)
}

func sdkPutsParts(t *testing.T, c *contract, direct bool) {
	ctx := t.Context()
	content := noise(2, 20<<20+5)
	begun := c.ask(ask{
		method: "POST", route: storagePath + "/multipart", header: sdkUser, want: 201,
		json: map[string]any{"file_name": "parts.bin", "size": len(content), "content_type": "application/x-plate", "sha256": sum(content)},
	}).data
	upload := map[string]string{"upload_id": begun["upload_id"].(string)}
	size, count := int(begun["part_size"].(float64)), int(begun["parts_count"].(float64))
	require.Greater(t, count, 1)
	parts := make([]map[string]any, count)
	for i := range count {
		at := map[string]string{"upload_id": upload["upload_id"], "part_number": strconv.Itoa(i + 1)}
		signed := c.ask(ask{method: "GET", route: storagePath + "/multipart/{upload_id}/parts/{part_number}/presigned-url", path: at, header: sdkUser, want: 200}).data
		part := content[i*size : min(len(content), (i+1)*size)]
		require.EqualValues(t, len(part), signed["size"])
		require.Equal(t, direct, !strings.HasPrefix(signed["url"].(string), c.base))
		stored, err := s3SDK(t, signed["url"].(string)).PutObjectPart(ctx, sdkBucket, sdkObject, upload["upload_id"], i+1, bytes.NewReader(part), int64(len(part)),
			minio.PutObjectPartOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, stored.ETag)
		parts[i] = map[string]any{"part_number": i + 1, "etag": stored.ETag}
	}
	made := c.ask(ask{
		method: "POST", route: storagePath + "/multipart/{upload_id}/complete", path: upload, header: sdkUser, want: 201, json: map[string]any{"parts": parts},
	}).data
	require.Equal(t, sum(content), made["sha256"])
	address := signedFor(c, made["file_path"].(string), "GET")
	sdkReads(ctx, t, address, content, "application/x-plate", !direct)
}
