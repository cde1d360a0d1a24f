package files

import (
	"bytes"
	"crypto/md5" //nolint:gosec // Content-MD5
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
)

func hexSum(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func TestAFileGoesInAndComesOutAgain(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		content := strings.Repeat("a,b\n1,2\n", 20_000)
		up := r.upload("My Süß report.v2.csv", content, part{name: "path", value: "in/2026"})
		require.Regexp(t, `^organizations/7/files/3/in/2026/My_S___report\.v2_\d{8}_\d{6}_[0-9a-f]{8}\.csv$`, up.FilePath)
		require.Equal(t, "My Süß report.v2.csv", up.FileName)
		require.Equal(t, up.FilePath[strings.LastIndex(up.FilePath, "/")+1:], up.UniqueFileName)
		require.Equal(t, int64(len(content)), up.Size)
		require.Equal(t, hexSum(content), up.SHA256)
		require.Equal(t, "s3://rivergen-storage/"+up.FilePath, up.S3URI)
		require.Positive(t, up.StorageFileID)
		require.Equal(t, []string{up.FilePath}, r.dir.Keys())

		got := r.get(objectPath(up.FilePath))
		require.Equal(t, http.StatusOK, got.status)
		require.Equal(t, content, string(got.body))
		require.Equal(t, `"`+up.SHA256+`"`, got.header.Get("ETag"))
		require.Equal(t, fmt.Sprint(len(content)), got.header.Get("Content-Length"))
		require.Equal(t, "bytes", got.header.Get("Accept-Ranges"))
		head := r.do(http.MethodHead, objectPath(up.FilePath), nil)
		require.Equal(t, http.StatusOK, head.status)
		require.Equal(t, fmt.Sprint(len(content)), head.header.Get("Content-Length"))
		require.Equal(t, got.header.Get("ETag"), head.header.Get("ETag"))

		meta := data[ObjectMetadata](r.get(objectPath(up.FilePath)+"/metadata"), http.StatusOK)
		require.Equal(t, ObjectMetadata{
			Name: up.FilePath, Size: up.Size, ContentType: up.ContentType, LastModified: meta.LastModified, ETag: `"` + up.SHA256 + `"`,
			SHA256: up.SHA256, Tier: "hot",
		}, meta)

		list := data[api.Paged[Item]](r.get(prefix+"/files"), http.StatusOK)
		require.Len(t, list.Items, 1)
		require.Equal(t, int64(1), *list.Pagination.TotalCount)
		require.Nil(t, list.Pagination.TotalItems)
		require.Equal(t, up.FilePath, list.Items[0].ObjectName)
		require.Equal(t, 0.15, list.Items[0].SizeMB)
		require.Nil(t, list.Items[0].DataSourceID)
		require.Equal(t, content, string(r.get(list.Items[0].PresignedURL).body))

		usage := r.usage()
		require.Equal(t, up.Size, usage.UsedBytes)
		require.Zero(t, usage.ReservedBytes)
		require.Equal(t, quota-up.Size, usage.AvailableBytes)
		require.Equal(t, int64(1), usage.FileCount)
		require.Equal(t, map[string]int64{"data_source": up.Size}, usage.ByCategory)
		require.Equal(t, Quota{quota, 1, 0}, data[Quota](r.get(prefix+"/quota"), http.StatusOK))
		r.reconciled()

		require.Equal(t, Deleted{up.FilePath}, data[Deleted](r.do(http.MethodDelete, objectPath(up.FilePath), nil), http.StatusOK))
		r.do(http.MethodDelete, objectPath(up.FilePath), nil).refused(404)
		r.get(objectPath(up.FilePath)).refused(404)
		r.get(objectPath(up.FilePath) + "/metadata").refused(404)
		r.clean()
	})
}

func TestFieldsMayStandBehindTheFile(t *testing.T) {
	r := newRig(t, sqlite(t))
	up := data[Uploaded](r.form(uploadPath, nil, part{name: "file", fileName: "a.txt", value: "x"}, part{name: "path", value: "late"},
		part{name: "file_category", value: "general"}), 201)
	require.Contains(t, up.FilePath, "/files/3/late/a_")
	require.Equal(t, "x", string(r.get(objectPath(up.FilePath)).body))
	require.Equal(t, map[string]int64{"general": 1}, r.usage().ByCategory)
	data[Deleted](r.do(http.MethodDelete, objectPath(up.FilePath), nil), 200)
	r.form(uploadPath, nil, part{name: "file", fileName: "a.txt", value: "x"}, part{name: "file_category", value: "cats"}).refused(400)
	r.form(uploadPath, nil, part{name: "file", fileName: "a.txt", value: "x"}, part{name: "path", value: "../up"}).refused(400)
	r.clean()
}

func TestWhatIsNoUploadLeavesNothing(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		file := part{name: "file", fileName: "a.csv", value: "a,b\n"}
		named := func(name string) part { return part{name: "file", fileName: name, value: "x"} }
		wrong := base64.StdEncoding.EncodeToString(make([]byte, 32))
		for name, c := range map[string]struct {
			status  int
			field   string
			headers []string
			parts   []part
		}{
			"no file":              {400, "file", nil, []part{{name: "path", value: "x"}}},
			"nothing":              {400, "file", nil, nil},
			"two files":            {400, "file", nil, []part{file, file}},
			"a file without name":  {400, "file", nil, []part{{name: "file", value: "x"}}},
			"a file of other name": {400, "file", nil, []part{{name: "data", fileName: "a", value: "x"}}},
			"another file behind":  {400, "file", nil, []part{file, {name: "data", fileName: "a", value: "x"}}},
			"bad category":         {400, "file_category", nil, []part{{name: "file_category", value: "cats"}, file}},
			"traversal":            {400, "path", nil, []part{{name: "path", value: "a/../../b"}, file}},
			"absolute":             {400, "path", nil, []part{{name: "path", value: "/etc"}, file}},
			"backslash":            {400, "path", nil, []part{{name: "path", value: `a\b`}, file}},
			"NUL":                  {400, "path", nil, []part{{name: "path", value: "a\x00b"}, file}},
			"not UTF-8":            {400, "path", nil, []part{{name: "path", value: "a\xffb"}, file}},
			"4000 bytes of path":   {400, "path", nil, []part{{name: "path", value: strings.Repeat("x", 4000)}, file}},
			"name with folders":    {400, "file", nil, []part{named("../a.csv")}},
			"name is ..":           {400, "file", nil, []part{named("..")}},
			"absolute name":        {400, "file", nil, []part{named("/etc/passwd")}},
			"name with backslash":  {400, "file", nil, []part{named(`C:\a.csv`)}},
			"4000 bytes of name":   {400, "file", nil, []part{named(strings.Repeat("x", 4000))}},
			"other MD5":            {400, "Content-MD5", []string{"Content-MD5", base64.StdEncoding.EncodeToString(make([]byte, 16))}, []part{file}},
			"MD5 that is none":     {400, "Content-MD5", []string{"Content-MD5", "nonsense"}, []part{file}},
			"other Digest":         {400, "Digest", []string{"Digest", "SHA-256=" + wrong}, []part{file}},
			"other Repr-Digest":    {400, "Repr-Digest", []string{"Repr-Digest", "sha-256=:" + wrong + ":"}, []part{file}},
			"other S3 checksum":    {400, "x-amz-checksum-sha256", []string{"x-amz-checksum-sha256", wrong}, []part{file}},
			"other sum in part":    {400, "x-amz-checksum-sha256", nil, []part{{"file", "a.csv", "a,b\n", []string{"x-amz-checksum-sha256", wrong}}}},
			"over the quota":       {413, "", nil, []part{{name: "file", fileName: "a", value: strings.Repeat("x", quota+1)}}},
			"over the limit":       {413, "", nil, []part{{name: "file", fileName: "a", value: strings.Repeat("x", 4<<20+1)}}},
			"too many fields":      {400, "", nil, []part{{name: "f", value: strings.Repeat("x", maxFields+1)}, file}},
		} {
			t.Run(name, func(t *testing.T) {
				r.t = t
				e := r.form(uploadPath, c.headers, c.parts...).refused(c.status)
				require.True(t, strings.EqualFold(c.field, e.Details.Field) || c.field == "", e.Details.Field)
				r.clean()
			})
		}
		r.t = t
		r.do(http.MethodPost, uploadPath, strings.NewReader("x"), "Content-Type", "text/plain").refused(415)
		r.do(http.MethodPost, uploadPath, strings.NewReader("x"), "Content-Type", "multipart/form-data").refused(400)
		r.do(http.MethodPost, uploadPath, strings.NewReader("no form"), "Content-Type", "multipart/form-data; boundary=x").refused(400)
		body, contentType := formOf(file)
		for _, missing := range []int{3, 4, 20, 70} { // a length that fits, no end
			r.do(http.MethodPost, uploadPath, bytes.NewReader(body[:len(body)-missing]), "Content-Type", contentType).refused(400)
		}
		r.clean()
	})
}

func TestChecksumsThatFitAreTaken(t *testing.T) {
	r := newRig(t, sqlite(t))
	content := "a,b\n"
	sum, old := sha256.Sum256([]byte(content)), md5.Sum([]byte(content)) //nolint:gosec // Content-MD5
	b64 := base64.StdEncoding.EncodeToString
	for _, headers := range [][]string{
		{"Content-MD5", b64(old[:])}, {"Digest", "md5=" + b64(old[:]) + ", sha-256=" + b64(sum[:]) + ", adler32=1"},
		{"Content-Digest", "sha-256=:" + b64(sum[:]) + ":"}, {"x-amz-checksum-sha256", b64(sum[:])},
	} {
		data[Uploaded](r.form(uploadPath, headers, part{name: "file", fileName: "a.csv", value: content}), 201)
	}
}

func TestTheQuotaIsExactToTheByte(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		whole := part{name: "file", fileName: "a", value: strings.Repeat("x", quota)}
		// The file alone, and with fields behind it, which must not count; then in chunks, of unknown length.
		for _, behind := range [][]part{nil, {{name: "path", value: strings.Repeat("y", 500)}}} {
			up := data[Uploaded](r.form(uploadPath, nil, append([]part{whole}, behind...)...), 201)
			require.Zero(t, r.usage().AvailableBytes)
			e := r.form(uploadPath, nil, part{name: "file", fileName: "b", value: "1"}).refused(413)
			require.Equal(t, &api.Quota{Limit: quota, Used: quota, Requested: e.Details.Quota.Requested}, e.Details.Quota)
			data[Deleted](r.do(http.MethodDelete, objectPath(up.FilePath), nil), 200)
		}
		body, contentType := formOf(whole)
		up := data[Uploaded](r.do(http.MethodPost, uploadPath, slow{bytes.NewReader(body)}, "Content-Type", contentType), 201)
		require.Zero(t, r.usage().AvailableBytes)
		data[Deleted](r.do(http.MethodDelete, objectPath(up.FilePath), nil), 200)
		body, contentType = formOf(part{name: "file", fileName: "a", value: strings.Repeat("x", quota+1)})
		r.do(http.MethodPost, uploadPath, slow{bytes.NewReader(body)}, "Content-Type", contentType).refused(413)
		r.clean()
	})
}

// slow is a body whose length nobody knows.
type slow struct{ *bytes.Reader }

func (s slow) Read(p []byte) (int, error) { return s.Reader.Read(p[:min(len(p), 32<<10)]) }

// Len hides that of bytes.Reader.
func (slow) Len(int) {}
