package files

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

func TestRangesAreExact(t *testing.T) {
	r := newRig(t, sqlite(t))
	content := string(noise(7, 200_000))
	up := r.upload("a.bin", content)
	path, etag := objectPath(up.FilePath), `"`+up.SHA256+`"`
	for header, want := range map[string][2]int{
		"bytes=0-0": {0, 1}, "bytes=0-": {0, 200_000}, "bytes=-1": {199_999, 200_000}, "bytes=65530-65545": {65530, 65546}, "Bytes = 5-9": {5, 10},
		"bytes=199999-": {199_999, 200_000}, "bytes=100-99999999999999999999": {100, 200_000}, "bytes=-999999999": {0, 200_000},
	} {
		a := r.get(path, "Range", header)
		require.Equal(t, 206, a.status, header)
		require.True(t, content[want[0]:want[1]] == string(a.body), header)
		require.Equal(t, fmt.Sprint(want[1]-want[0]), a.header.Get("Content-Length"))
		require.Equal(t, fmt.Sprintf("bytes %d-%d/200000", want[0], want[1]-1), a.header.Get("Content-Range"), header)
		require.Equal(t, etag, a.header.Get("ETag"))
	}
	for _, header := range []string{"bytes=200000-", "bytes=99999999999999999999-", "bytes=-0", "bytes=200000-200001"} {
		a := r.get(path, "Range", header)
		a.refused(416)
		require.Equal(t, "bytes */200000", a.header.Get("Content-Range"), header)
	}
	thousand := "bytes=" + strings.TrimSuffix(strings.Repeat("0-,", 1000), ",")
	for _, header := range []string{"bytes=5-4", "bytes=x-", "bytes=", "bytes=1", "lines=1-2", "bytes=0-1,5-6", thousand, "bytes=--1", "bytes=1-2-3"} {
		a := r.get(path, "Range", header)
		require.Equal(t, 200, a.status, header)
		require.True(t, content == string(a.body), header)
	}
	modified := r.get(path).header.Get("Last-Modified")
	for validator, status := range map[string]int{etag: 206, `"other"`: 200, "W/" + etag: 200, modified: 200, "Mon, 01 Jan 2001 00:00:00 GMT": 200, "nonsense": 200} {
		require.Equal(t, status, r.get(path, "Range", "bytes=0-9", "If-Range", validator).status, validator)
	}
	require.Equal(t, 200, r.do(http.MethodHead, path, nil, "Range", "bytes=0-9").status, "a range is of GET")
	empty := r.upload("empty", "")
	require.Equal(t, 200, r.get(objectPath(empty.FilePath), "Range", "bytes=-5").status)
	require.Equal(t, "bytes */0", r.get(objectPath(empty.FilePath), "Range", "bytes=0-").header.Get("Content-Range"))
}

func TestConditions(t *testing.T) {
	r := newRig(t, sqlite(t))
	up := r.upload("a.txt", "abc")
	path, etag := objectPath(up.FilePath), `"`+up.SHA256+`"`
	later, earlier := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), "Mon, 01 Jan 2001 00:00:00 GMT"
	for _, c := range []struct {
		header, value string
		status        int
	}{
		{"If-None-Match", etag, 304}, {"If-None-Match", "W/" + etag, 304}, {"If-None-Match", `"x", ` + etag, 304}, {"If-None-Match", "*", 304}, {"If-None-Match", `"x"`, 200},
		{"If-Match", etag, 200}, {"If-Match", `"x"`, 412}, {"If-Match", "W/" + etag, 412}, {"If-Match", "*", 200}, {"If-Match", `"x",` + etag, 200},
		{"If-Modified-Since", later, 304}, {"If-Modified-Since", earlier, 200}, {"If-Unmodified-Since", earlier, 412}, {"If-Unmodified-Since", later, 200},
		{"If-Modified-Since", "nonsense", 200},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := r.do(method, path, nil, c.header, c.value)
			require.Equal(t, c.status, a.status, "%s %s: %s", method, c.header, c.value)
			if c.status == 304 {
				require.Empty(t, a.body)
				require.Equal(t, etag, a.header.Get("ETag"))
			}
		}
	}
	require.Equal(t, 304, r.get(path, "If-None-Match", etag, "Range", "bytes=9-").status, "before the range")
	r.do(http.MethodDelete, path, nil, "If-Match", `"x"`).refused(412)
	data[Deleted](r.do(http.MethodDelete, path, nil, "If-Match", etag), 200)
}

func TestObjectsAreTheirOwnersAlone(t *testing.T) {
	r := newRig(t, sqlite(t))
	up := r.upload("a.txt", "abc", part{name: "path", value: "metadata"})
	path := objectPath(up.FilePath)
	require.Equal(t, "abc", string(r.get(path).body), `a folder named "metadata"`)
	ask := func(status int, path string) {
		r.get(path).refused(status)
		r.do(http.MethodDelete, path, nil).refused(status)
		r.get(path + "/metadata").refused(status)
		r.get(path + "/presigned-url").refused(status)
	}
	r.user = "4"
	ask(403, path)
	ask(403, objectPath("organizations/7/files/4x/a"))
	ask(403, objectPath("organizations/7/internal/temp/a"))
	ask(403, objectPath("somewhere/else"))
	ask(404, objectPath("organizations/7/files/4/none"))
	ask(404, objectPath("organizations/8/files/4/a"))
	r.org = "8"
	ask(404, path)
	r.org, r.user = "7", ""
	ask(403, path)
	none := r.upload("b.txt", "b")
	require.Contains(t, none.FilePath, "organizations/7/files/0/")
	r.user = "3"
	for _, bad := range []string{"organizations/7/files/3/../3/x", "organizations/7/files/3//x", "%2e%2e/x", `organizations/7/files/3/a%5Cb`, "organizations/7/files/3/%00", "%2Fetc", strings.Repeat("x", 4000)} {
		ask(400, objectsPath+"/"+bad)
	}
	require.Len(t, r.dir.Keys(), 2)
}

// A URL that the backend answers is read where the host does not see it.
func TestASignedURLCountsAsARead(t *testing.T) {
	db := sqlite(t)
	var l *ledger.Ledger
	r := newRig(t, db, func(o *Options) {
		var err error
		l, err = ledger.Open(t.Context(), db, ledger.Options{DefaultLimit: quota, Registry: prometheus.NewRegistry()})
		require.NoError(t, err)
		o.Ledger = l
	})
	up := r.upload("a.txt", "abc")
	long := time.Now().Add(-48 * time.Hour)
	require.NoError(t, db.Write(t.Context(), func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), "UPDATE ledger_files SET accessed = ?", long.UnixMicro())
		return err
	}))
	r.get(objectPath(up.FilePath) + "/presigned-url")
	require.NoError(t, l.Close()) // writes what it has noted
	file, err := r.ledger.Find(t.Context(), 7, up.FilePath)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), file.Accessed, time.Minute)
}

func TestSignedURLs(t *testing.T) {
	r := newRig(t, sqlite(t))
	up := r.upload("ä \"b\".txt", "abc")
	get := data[PresignedURL](r.get(objectPath(up.FilePath)+"/presigned-url?expires_seconds=10"), 200)
	require.Equal(t, int64(10), get.ExpiresInSeconds)
	r.org, r.user = "99", "1" // who has it needs nothing else
	a := r.get(get.URL, "Range", "bytes=1-")
	require.Equal(t, 206, a.status)
	require.Equal(t, "bc", string(a.body))
	require.Contains(t, a.header.Get("Content-Disposition"), "attachment")
	require.Equal(t, 200, r.do(http.MethodHead, get.URL, nil).status)
	r.do(http.MethodPut, get.URL, strings.NewReader("x")).refused(403)
	at := strings.Index(get.URL, signedPath)
	for i := at + len(signedPath); i < len(get.URL); i++ {
		other := []byte(get.URL)
		other[i] ^= 1
		if strings.ContainsRune("/?#%&", rune(other[i])) || other[i] <= ' ' { // no character of a URL, or another request altogether
			continue
		}
		request, err := http.NewRequest(http.MethodGet, string(other), nil)
		if err != nil {
			continue
		}
		response, err := r.client.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, 403, response.StatusCode, "%s", other)
	}
	r.now = r.now.Add(10*time.Second + 2*time.Millisecond)
	require.Contains(t, r.get(get.URL).refused(403).Message, "expired")

	r.org, r.user = "7", "3"
	r.get(objectPath("organizations/7/files/3/none") + "/presigned-url").refused(404)
	for _, bad := range []string{"expires_seconds=0", "expires_seconds=604801", "method=POST", "method=PUT&size=-1", "method=PUT&file_category=x"} {
		r.get(objectPath(up.FilePath) + "/presigned-url?" + bad).refused(400)
	}
	name := "organizations/7/files/3/new/b.txt"
	put := data[PresignedURL](r.get(objectPath(name)+"/presigned-url?method=PUT&content_type=text/plain&size=3&file_category=general"), 200)
	r.org, r.user = "99", "1"
	r.get(put.URL).refused(403)
	r.do(http.MethodPut, put.URL, strings.NewReader("abc"), "Content-Type", "text/html").refused(403)
	r.do(http.MethodPut, put.URL, strings.NewReader("abcd"), "Content-Type", "text/plain").refused(403)
	r.do(http.MethodPut, put.URL, slow{bytes.NewReader([]byte("abc"))}, "Content-Type", "text/plain").refused(411)
	r.do(http.MethodPut, put.URL, strings.NewReader("abc"), "Content-Type", "text/plain", "Content-Encoding", "gzip, aws-chunked").refused(415)
	r.do(http.MethodPut, put.URL, strings.NewReader("abc"), "Content-Type", "text/plain", "X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER").refused(415)
	a = r.do(http.MethodPut, put.URL, strings.NewReader("abc"), "Content-Type", "text/plain")
	require.Equal(t, name, data[Uploaded](a, 200).FilePath)
	require.Equal(t, `"`+hexSum("abc")+`"`, a.header.Get("ETag"))
	data[Uploaded](r.do(http.MethodPut, put.URL, strings.NewReader("xyz"), "Content-Type", "text/plain"), 200)
	r.do(http.MethodPut, put.URL, strings.NewReader("no!"), "Content-Type", "text/plain", "If-None-Match", "*").refused(412)
	r.org, r.user = "7", "3"
	require.Equal(t, "xyz", string(r.get(objectPath(name)).body))
	require.Equal(t, int64(3), r.usage().ByCategory["general"])
	require.Len(t, r.dir.Keys(), 2, "the old version is gone")
}

const internal = internalPath

func TestInternalFiles(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		file := func(content string) part { return part{name: "file", fileName: "result.parquet", value: content} }
		put := func(content string, fields ...string) answer {
			var parts []part
			for i := 0; i < len(fields); i += 2 {
				parts = append(parts, part{name: fields[i], value: fields[i+1]})
			}
			return r.form(internal, nil, append(parts, file(content))...)
		}
		in := data[InternalFile](put("abc", "purpose", "query_result", "object_name", "a/Ä.parquet", "ttl_seconds", "60", "metadata", `{"x":1}`), 201)
		require.Equal(t, "organizations/7/internal/query_result/a/Ä.parquet", in.ObjectName)
		require.Equal(t, `"`+hexSum("abc")+`"`, in.ETag)
		require.WithinDuration(t, r.now.Add(time.Minute), *in.ExpiresAt, time.Second)
		path := internal + "/" + escapedName(in.ObjectName)
		require.Equal(t, "abc", string(r.get(path).body))
		require.Equal(t, "c", string(r.get(path, "Range", "bytes=2-").body))
		require.Equal(t, 304, r.get(path, "If-None-Match", in.ETag).status)
		require.Equal(t, "3", r.do(http.MethodHead, path, nil).header.Get("Content-Length"))
		put("xyz", "purpose", "query_result", "object_name", "a/Ä.parquet").refused(409)
		second := data[InternalFile](put("xyz", "purpose", "query_result", "object_name", in.ObjectName, "overwrite", "true"), 201)
		require.Equal(t, in.StorageFileID, second.StorageFileID)
		require.Nil(t, second.ExpiresAt)
		require.Equal(t, "xyz", string(r.get(path).body))
		twins := []string{"a/ä.parquet", "a/A\u0308.parquet", "a/Ä.PARQUET"}
		// Twins in case and in Unicode form are other objects.
		for _, twin := range twins {
			data[InternalFile](put(twin, "purpose", "query_result", "object_name", twin), 201)
			require.Equal(t, twin, string(r.get(internal+"/"+escapedName("organizations/7/internal/query_result/"+twin)).body))
		}
		require.Equal(t, "xyz", string(r.get(path).body))
		free := data[InternalFile](put("not counted", "count_quota", "false", "ttl_seconds", "5"), 201)
		require.NotContains(t, r.usage().ByCategory, "free")
		require.Equal(t, int64(3+len(strings.Join(twins, ""))), r.usage().UsedBytes)
		r.now = r.now.Add(6 * time.Second)
		r.get(internal + "/" + escapedName(free.ObjectName)).refused(404)
		for field, bad := range map[string]string{"purpose": "x", "ttl_seconds": "0", "count_quota": "maybe", "overwrite": "2", "metadata": "[1]", "object_name": "a/../b"} {
			require.Equal(t, field, put("x", field, bad).refused(400).Details.Field)
		}
		put("x", "object_name", "organizations/8/internal/temp/x").refused(403)
		put("x", "object_name", "organizations/7/files/3/x").refused(403)
		r.form(internal, nil, file("x"), part{name: "purpose", value: "temp"}).refused(400)
		r.org = "8"
		r.get(path).refused(404)
		r.org = "7"
		r.reconciled()
	})
}

func TestFilesPastTheirTimeAreCleared(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		data[InternalFile](r.form(internal, nil, part{name: "ttl_seconds", value: "1"}, part{name: "file", fileName: "a", value: "abc"}), 201)
		require.Eventually(t, func() bool { // the ledger's clock is the machine's
			require.NoError(t, r.service.Sweep(t.Context()))
			return len(r.dir.Keys()) == 0
		}, 30*time.Second, 50*time.Millisecond)
		r.clean()
	})
}

func TestOfManyWritersWithAConditionOneWins(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		round := 0
		race := func(headers []string, fields ...part) (statuses []int) {
			round++ // an ETag is of the content: what a round writes is not what the one before wrote
			var wait sync.WaitGroup
			got := make([]int, 8)
			for i := range got {
				wait.Go(func() {
					got[i] = r.form(internal, headers, append(fields, part{name: "file", fileName: "a", value: fmt.Sprint(round, i)})...).status
				})
			}
			wait.Wait()
			slices.Sort(got)
			return got
		}
		name := part{name: "object_name", value: "x"}
		require.Equal(t, []int{201, 412, 412, 412, 412, 412, 412, 412}, race([]string{"If-None-Match", "*"}, name))
		etag := r.get(internal + "/organizations/7/internal/temp/x").header.Get("ETag")
		require.Equal(t, []int{201, 412, 412, 412, 412, 412, 412, 412}, race([]string{"If-Match", etag}, name, part{name: "overwrite", value: "true"}))
		require.Equal(t, []int{201, 409, 409, 409, 409, 409, 409, 409}, race(nil, part{name: "object_name", value: "y"}))
		require.Equal(t, []int{201, 201, 201, 201, 201, 201, 201, 201}, race(nil, name, part{name: "overwrite", value: "true"}))
		require.Equal(t, int64(2*len("1 1")), r.usage().UsedBytes)
		require.NoError(t, r.service.Sweep(t.Context()))
		require.Len(t, r.dir.Keys(), 2)
		r.reconciled()
	})
}

func TestWhateverTheBackendDoesNothingIsLeftBehind(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		file := part{name: "file", fileName: "a.csv", value: strings.Repeat("a,b\n", 50_000)}
		for _, step := range []string{"put", "put.read", "put.end", "put.done"} {
			r.dir.Fail(failOnce(step))
			a := r.form(uploadPath, nil, file)
			a.refused(503)
			require.NotEmpty(t, a.header.Get("Retry-After"))
			require.NotContains(t, string(a.body), "sick")
			r.dir.Fail(nil)
			r.clean()
		}
		// The object cannot be deleted now: it is as soon as it can.
		r.dir.Fail(func(op storagetest.Op) error {
			if op.Name == "delete" || op.Name == "put.done" {
				return errSick
			}
			return nil
		})
		r.form(uploadPath, nil, file).refused(503)
		require.Len(t, r.dir.Keys(), 1)
		require.Zero(t, r.usage().ReservedBytes)
		r.dir.Fail(nil)
		require.NoError(t, r.service.Sweep(t.Context()))
		r.clean()

		r.dir.Fail(func(op storagetest.Op) error {
			if op.Name == "put.read" {
				return protocol.ErrFull
			}
			return nil
		})
		r.form(uploadPath, nil, file).refused(503)
		r.dir.Fail(nil)
		r.clean()

		up := r.upload("b", "abc")
		r.dir.Fail(failOnce("get"))
		r.get(objectPath(up.FilePath)).refused(503)
		r.dir.Fail(nil)
		big := r.upload("c", strings.Repeat("x", 500_000))
		r.dir.Fail(func(op storagetest.Op) error {
			if op.Name == "get.read" && op.At > 200_000 {
				return errSick
			}
			return nil
		})
		_, err := r.send(http.MethodGet, objectPath(big.FilePath), nil)
		require.Error(t, err, "a body that is not all is cut, not ended")
		r.dir.Fail(nil)
		require.Equal(t, 200, r.get(objectPath(big.FilePath)).status)
	})
}

func TestAConnectionThatIsCutLeavesNothing(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		body, contentType := formOf(part{name: "file", fileName: "a", value: strings.Repeat("x", 100_000)})
		for _, at := range []int{1, 60, 150, 9000, 50_000, len(body) - 1} {
			r.cut("POST "+uploadPath+" HTTP/1.1\r\nContent-Type: "+contentType, len(body), body[:at])
			r.clean()
		}
	})
}

func TestAnObjectThatMovesWhileItIsReadIsRead(t *testing.T) {
	r := newRig(t, sqlite(t))
	name := data[InternalFile](r.form(internal, nil, part{name: "object_name", value: "x"}, part{name: "file", fileName: "a", value: "abc"}), 201).ObjectName
	moved := false
	r.dir.Fail(func(op storagetest.Op) error {
		if op.Name == "get" && !moved {
			moved = true
			a := r.form(internal, nil, part{name: "object_name", value: "x"}, part{name: "overwrite", value: "true"}, part{name: "file", fileName: "a", value: "newer"})
			require.Equal(t, 201, a.status)
		}
		return nil
	})
	a := r.get(internal + "/" + name)
	require.Equal(t, "newer", string(a.body))
	require.Equal(t, `"`+hexSum("newer")+`"`, a.header.Get("ETag"))
}

func TestAnUploadWithAKeyIsTakenOnce(t *testing.T) {
	r := newRig(t, sqlite(t))
	file := part{name: "file", fileName: "a.txt", value: "abc"}
	key := []string{api.HeaderIdempotencyKey, "k"}
	first := r.form(uploadPath, key, part{name: "path", value: "x"}, file)
	require.Equal(t, 201, first.status)
	again := r.form(uploadPath, key, part{name: "path", value: "x"}, file)
	require.Equal(t, 201, again.status)
	require.Equal(t, string(first.body), string(again.body))
	r.form(uploadPath, key, part{name: "path", value: "y"}, file).refused(422)
	r.form(uploadPath, key, part{name: "path", value: "x"}, part{name: "file", fileName: "a.txt", value: "abd"}).refused(422)
	r.form(uploadPath, []string{api.HeaderIdempotencyKey, "l"}, part{name: "path", value: ".."}, file).refused(400)
	data[Uploaded](r.form(uploadPath, []string{api.HeaderIdempotencyKey, "l"}, file), 201) // what was refused did nothing
	in := r.form(internalPath, key, part{name: "object_name", value: "x"}, file)
	require.Equal(t, string(in.body), string(r.form(internalPath, key, part{name: "object_name", value: "x"}, file).body), "no 409")
	require.Len(t, r.dir.Keys(), 3)
	require.Equal(t, int64(9), r.usage().UsedBytes)
}
