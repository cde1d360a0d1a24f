package files

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // tus demands it
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
	"github.com/rivergate/rivergate/services/storage/inspect"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

func noise(seed uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

func roomy(o *Options) { o.MaxFile = 64 << 20 }

// tus begins an upload and returns where it goes.
func (r *rig) tus(size int, metadata string) string {
	r.t.Helper()
	a := r.do(http.MethodPost, tusPath, nil, headerTus, tusVersion, headerLength, fmt.Sprint(size), headerMetadata, metadata)
	require.Equal(r.t, 201, a.status, "%s", a.body)
	return strings.TrimPrefix(a.header.Get("Location"), r.url)
}

func (r *rig) patch(at string, offset int, body []byte, headers ...string) answer {
	r.t.Helper()
	return r.do(http.MethodPatch, at, bytes.NewReader(body), append([]string{headerTus, tusVersion, headerOffset, fmt.Sprint(offset), "Content-Type", tusBody}, headers...)...)
}

func (r *rig) offset(at string) (n int) {
	r.t.Helper()
	a := r.do(http.MethodHead, at, nil, headerTus, tusVersion)
	require.Equal(r.t, 200, a.status)
	_, err := fmt.Sscan(a.header.Get(headerOffset), &n)
	require.NoError(r.t, err)
	return n
}

const mebibyte = 1 << 20

// limit gives the org room for large files.
func (r *rig) limit(bytes int64) {
	r.t.Helper()
	require.NoError(r.t, r.ledger.SetLimit(r.t.Context(), 7, bytes))
}

func TestATusUploadInPiecesIsTheFile(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, roomy)
		r.limit(64 << 20)
		content := noise(1, 5*mebibyte+12345)
		name := base64.StdEncoding.EncodeToString([]byte("déjà vu.bin"))
		at := r.tus(len(content), "filename "+name+",path "+base64.StdEncoding.EncodeToString([]byte("a/b"))+",x")
		require.Equal(t, int64(len(content)), r.usage().ReservedBytes, "all of it is reserved at once")
		sent := 0
		for _, n := range []int{1, 70_000, 0, 1 << 20, 2<<20 + 17, 65536, 1} {
			a := r.patch(at, sent, content[sent:sent+n])
			require.Equal(t, 204, a.status, "%s", a.body)
			sent += n
			require.Equal(t, fmt.Sprint(sent), a.header.Get(headerOffset))
			require.Equal(t, sent, r.offset(at))
			r.reconciled()
		}
		r.get(at + "/file").refused(409)
		a := r.patch(at, sent, content[sent:])
		require.Equal(t, 204, a.status, "%s", a.body)
		up := data[Uploaded](r.get(at+"/file"), 200)
		require.Equal(t, "déjà vu.bin", up.FileName)
		require.Contains(t, up.FilePath, "/files/3/a/b/d_j__vu_")
		require.Equal(t, hexSum(string(content)), up.SHA256)
		require.Equal(t, fmt.Sprint(up.StorageFileID), a.header.Get(headerFileID))
		require.True(t, bytes.Equal(content, r.get(objectPath(up.FilePath)).body))
		require.Equal(t, []string{up.FilePath}, r.dir.Keys(), "no tail, no upload")
		require.Equal(t, int64(len(content)), r.usage().UsedBytes)
		require.Zero(t, r.usage().ReservedBytes)
		require.Equal(t, 204, r.patch(at, len(content), nil).status, "again")
		r.reconciled()
	})
}

func TestWhatTusAsksFor(t *testing.T) {
	r := newRig(t, sqlite(t))
	a := r.do(http.MethodOptions, tusPath, nil)
	require.Equal(t, 204, a.status)
	require.Equal(t, []string{tusVersion, tusExtensions, fmt.Sprint(4 << 20)}, []string{a.header.Get("Tus-Version"), a.header.Get("Tus-Extension"), a.header.Get("Tus-Max-Size")})
	r.do(http.MethodPost, tusPath, nil, headerLength, "3").refused(412)
	r.do(http.MethodPost, tusPath, nil, headerTus, tusVersion).refused(400)
	r.do(http.MethodPost, tusPath, nil, headerTus, tusVersion, headerLength, "-1").refused(400)
	r.do(http.MethodPost, tusPath, nil, headerTus, tusVersion, headerLength, fmt.Sprint(4<<20+1)).refused(413)
	require.NotNil(t, r.do(http.MethodPost, tusPath, nil, headerTus, tusVersion, headerLength, fmt.Sprint(quota+1)).refused(413).Details.Quota)
	r.do(http.MethodPost, tusPath, nil, headerTus, tusVersion, headerLength, "3", headerMetadata, "filename ***").refused(400)
	r.do(http.MethodPost, tusPath, nil, headerTus, tusVersion, headerLength, "3", headerMetadata, "filename "+base64.StdEncoding.EncodeToString([]byte("../x"))).refused(400)
	r.clean()

	at := r.tus(6, "")
	r.patch(at, 1, []byte("x")).refused(409)
	r.patch(at, 0, []byte("1234567")).refused(413)
	r.do(http.MethodPatch, at, strings.NewReader("x"), headerTus, tusVersion, headerOffset, "0").refused(415)
	r.patch(at+"0", 0, []byte("x")).refused(404)
	r.patch(at, 0, []byte("abc"), headerChecksum, "crc32 AAAA").refused(400)
	require.Equal(t, statusChecksumMismatch, r.patch(at, 0, []byte("abc"), headerChecksum, "sha1 "+base64.StdEncoding.EncodeToString(make([]byte, 20))).status)
	require.Zero(t, r.offset(at))
	sum := sha1.Sum([]byte("abc")) //nolint:gosec // tus
	require.Equal(t, 204, r.patch(at, 0, []byte("abc"), headerChecksum, "sha1 "+base64.StdEncoding.EncodeToString(sum[:])).status)
	r.org = "8"
	r.patch(at, 3, []byte("def")).refused(404)
	r.org, r.user = "7", "4"
	r.patch(at, 3, []byte("def")).refused(404)
	r.user = "3"
	require.Equal(t, 204, r.do(http.MethodPost, at, strings.NewReader("d"), headerTus, tusVersion, headerOffset, "3", "Content-Type", tusBody, headerOverride, "PATCH").status)
	require.Equal(t, 4, r.offset(at))
	require.Equal(t, 204, r.do(http.MethodDelete, at, nil, headerTus, tusVersion).status)
	r.patch(at, 4, []byte("ef")).refused(404)
	r.clean()

	at = r.tus(0, "")
	require.Equal(t, hexSum(""), data[Uploaded](r.get(at+"/file"), 200).SHA256)
}

func TestAnUploadThatNobodyGoesOnWithIsCleared(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, roomy)
		r.limit(64 << 20)
		at := r.tus(4*mebibyte, "")
		r.patch(at, 0, noise(2, 3*mebibyte+5))
		parts := data[PartsBegun](r.do(http.MethodPost, partsPath, strings.NewReader(`{"file_name":"a","size":5}`), "Content-Type", "application/json"), 201)
		r.now = r.now.Add(DefaultUploadTTL + time.Second)
		r.patch(at, 3*mebibyte+5, []byte("x")).refused(410)
		r.get(partsPath + "/" + parts.UploadID).refused(410)
		require.NoError(t, r.service.Sweep(t.Context()))
		r.patch(at, 3*mebibyte+5, []byte("x")).refused(404)
		r.clean()
	})
}

// cut sends the head of a request and part of its body, and hangs up.
func (r *rig) cut(head string, length int, body []byte) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	require.NoError(r.t, err)
	_, err = fmt.Fprintf(conn, "%s\r\nHost: x\r\nX-Org-ID: %s\r\nX-User-ID: %s\r\nContent-Length: %d\r\n\r\n%s", head, r.org, r.user, length, body)
	require.NoError(r.t, err)
	require.NoError(r.t, conn.(*net.TCPConn).CloseWrite())
	_, err = io.Copy(io.Discard, conn) // until the host has seen it
	require.NoError(r.t, err)
	require.NoError(r.t, conn.Close())
}

// However requests are cut, whatever the sizes of pieces and whichever fail: the file is the file, and what was promised stays.
func TestATusUploadSurvivesAnyCuts(t *testing.T) {
	r := newRig(t, sqlite(t), roomy)
	r.limit(1 << 30)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 3*mebibyte), rapid.SampledFrom([]int{1, 65535, 65536, 65537, mebibyte, mebibyte + 1, 2 * mebibyte})).Draw(rt, "size")
		content := noise(rapid.Uint64().Draw(rt, "seed"), size)
		at := r.tus(size, "")
		safe := r.offset(at)
		for step := 0; safe < size; step++ {
			n := min(rapid.OneOf(rapid.IntRange(0, 2*mebibyte), rapid.IntRange(0, 1000), rapid.Just(65536)).Draw(rt, "n"), size-safe)
			if step > 8 {
				n = size - safe
			}
			piece := content[safe : safe+n]
			switch how := rapid.IntRange(0, 4).Draw(rt, "how"); {
			case how == 0 && n > 0 && step <= 8:
				r.cut(fmt.Sprintf("PATCH %s HTTP/1.1\r\n%s: %s\r\n%s: %d\r\nContent-Type: %s", at, headerTus, tusVersion, headerOffset, safe, tusBody), n+1, piece)
			case how == 1 && step <= 8:
				r.dir.Fail(failOnce(rapid.SampledFrom([]string{"putpart", "put", "put.read", "put.end", "put.done", "completeupload", "beginupload"}).Draw(rt, "fault")))
				a := r.patch(at, safe, piece)
				require.Contains(rt, []int{204, 503}, a.status, "%s", a.body)
				r.dir.Fail(nil)
			default:
				require.Equal(rt, 204, r.patch(at, safe, piece).status)
			}
			now := r.offset(at)
			require.GreaterOrEqual(rt, now, safe, "what is safe stays safe")
			require.LessOrEqual(rt, now, safe+n)
			safe = now
		}
		up := data[Uploaded](r.get(at+"/file"), 200)
		require.Equal(rt, hexSum(string(content)), up.SHA256)
		require.True(rt, bytes.Equal(content, r.get(objectPath(up.FilePath)).body))
		data[Deleted](r.do(http.MethodDelete, objectPath(up.FilePath), nil), 200)
		require.NoError(rt, r.service.Sweep(t.Context()))
		require.Empty(rt, r.dir.Keys())
		require.Zero(rt, r.usage().ReservedBytes)
	})
	r.clean()
}

// failOnce makes the first such step fail.
func failOnce(name string) func(storagetest.Op) error {
	left := make(chan struct{}, 1)
	left <- struct{}{}
	return func(op storagetest.Op) error {
		if op.Name == name {
			select {
			case <-left:
				return errSick
			default:
			}
		}
		return nil
	}
}

var errSick = fmt.Errorf("the disk is sick")

func TestALaterRequestSendsAnEarlierOneAway(t *testing.T) {
	r := newRig(t, sqlite(t))
	content := noise(5, 50_000)
	at := r.tus(len(content), "")
	conn, err := net.Dial("tcp", r.addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nX-Org-ID: 7\r\nX-User-ID: 3\r\n%s: %s\r\n%s: 0\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		at, headerTus, tusVersion, headerOffset, tusBody, len(content), content[:20_000])
	require.NoError(t, err)
	require.Eventually(t, func() bool { // it works on the upload
		r.service.locks.mu.Lock()
		defer r.service.locks.mu.Unlock()
		return len(r.service.locks.held) > 0
	}, 30*time.Second, time.Millisecond)
	a := r.patch(at, 0, content)
	if a.status == 409 { // what the first had sent was safe already
		safe := r.offset(at)
		require.Positive(t, safe)
		a = r.patch(at, safe, content[safe:])
	}
	require.Equal(t, 204, a.status, "%s", a.body)
	require.Equal(t, hexSum(string(content)), data[Uploaded](r.get(at+"/file"), 200).SHA256)
}

func TestAFileInPartsInAnyOrder(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, roomy)
		r.limit(64 << 20)
		content := noise(4, 2*usualPart+777)
		begun := data[PartsBegun](r.do(http.MethodPost, partsPath, strings.NewReader(fmt.Sprintf(
			`{"file_name":"big.bin","size":%d,"path":"p","file_category":"general","sha256":"%s"}`, len(content), hexSum(string(content)))),
			"Content-Type", "application/json"), 201)
		require.Equal(t, 3, begun.PartsCount)
		one := partsPath + "/" + begun.UploadID
		put := func(number int, body []byte) answer {
			u := data[PartURL](r.get(fmt.Sprintf("%s/parts/%d/presigned-url", one, number)), 200)
			return r.do(http.MethodPut, u.URL, bytes.NewReader(body))
		}
		part := func(number int) []byte {
			return content[(number-1)*int(begun.PartSize) : min(number*int(begun.PartSize), len(content))]
		}
		r.do(http.MethodPost, one+"/complete", nil).refused(422)
		var done []string
		for _, number := range []int{3, 1, 2, 1} {
			a := put(number, part(number))
			stored := data[PartStored](a, 200)
			require.Equal(t, number, stored.PartNumber)
			require.Equal(t, `"`+stored.ETag+`"`, a.header.Get("ETag"))
			done = append(done, fmt.Sprintf(`{"part_number":%d,"etag":%q}`, number, stored.ETag))
		}
		put(2, part(2)[1:]).refused(403)
		r.get(one + "/parts/4/presigned-url").refused(400)
		require.Len(t, data[PartsState](r.get(one), 200).Received, 3)
		r.reconciled()
		r.do(http.MethodPost, one+"/complete", strings.NewReader(`{"parts":[{"part_number":1,"etag":"other"}]}`), "Content-Type", "application/json").refused(422)
		up := data[Uploaded](r.do(http.MethodPost, one+"/complete", strings.NewReader(`{"parts":[`+done[3]+`]}`), "Content-Type", "application/json"), 201)
		require.Equal(t, begun.ObjectName, up.FilePath)
		require.Equal(t, hexSum(string(content)), up.SHA256)
		require.True(t, bytes.Equal(content, r.get(objectPath(up.FilePath)).body))
		require.Equal(t, up, data[Uploaded](r.do(http.MethodPost, one+"/complete", nil), 201), "again")
		require.Equal(t, &up, data[PartsState](r.get(one), 200).File)
		require.Equal(t, []string{up.FilePath}, r.dir.Keys())
		data[Deleted](r.do(http.MethodDelete, objectPath(up.FilePath), nil), 200)
		r.clean()
	})
}

func TestPartsThatAreNotTheFileLeaveNothing(t *testing.T) {
	r := newRig(t, sqlite(t))
	begin := func(size int, sum string) PartsBegun {
		return data[PartsBegun](r.do(http.MethodPost, partsPath, strings.NewReader(fmt.Sprintf(`{"file_name":"a","size":%d,"sha256":"%s"}`, size, sum)),
			"Content-Type", "application/json"), 201)
	}
	begun := begin(3, hexSum("other"))
	u := data[PartURL](r.get(partsPath+"/"+begun.UploadID+"/parts/1/presigned-url?expires_seconds=60"), 200)
	require.Equal(t, int64(60), u.ExpiresInSeconds)
	r.do(http.MethodPut, u.URL, strings.NewReader("abc"), "Content-MD5", base64.StdEncoding.EncodeToString(make([]byte, 16))).refused(400)
	data[PartStored](r.do(http.MethodPut, u.URL, strings.NewReader("abc")), 200)
	require.Equal(t, "sha256", r.do(http.MethodPost, partsPath+"/"+begun.UploadID+"/complete", nil).refused(400).Details.Field)
	r.clean()
	begun = begin(3, "")
	u = data[PartURL](r.get(partsPath+"/"+begun.UploadID+"/parts/1/presigned-url"), 200)
	data[PartStored](r.do(http.MethodPut, u.URL, strings.NewReader("abc")), 200)
	data[UploadID](r.do(http.MethodDelete, partsPath+"/"+begun.UploadID, nil), 200)
	r.do(http.MethodPut, u.URL, strings.NewReader("abc")).refused(404)
	r.clean()
	for _, bad := range []string{`{"file_name":"a"}`, `{"file_name":"../a","size":1}`, `{"size":1}`, `{"file_name":"a","size":-1}`, `{"file_name":"a","size":1,"sha256":"x"}`} {
		r.do(http.MethodPost, partsPath, strings.NewReader(bad), "Content-Type", "application/json").refused(400)
	}
	r.do(http.MethodPost, partsPath, strings.NewReader(fmt.Sprintf(`{"file_name":"a","size":%d}`, quota+1)), "Content-Type", "application/json").refused(413)
	r.clean()
}

func TestUploadsOfTheBackendThatAreNobodysAreAborted(t *testing.T) {
	r := newRig(t, sqlite(t))
	_, err := r.dir.BeginUpload(t.Context(), protocol.Put{Key: "organizations/7/files/3/lost", Size: -1})
	require.NoError(t, err)
	require.NoError(t, r.service.Sweep(t.Context()))
	require.NotEmpty(t, r.dir.Keys(), "it may be one that is about to be noted")
	r.now = r.now.Add(3 * DefaultUploadTTL)
	require.NoError(t, r.service.Sweep(t.Context()))
	r.clean()
}

// Content that is refused when the last byte has come: nothing stays, and the client hears why.
func TestRefusedContentLeavesNothing(t *testing.T) {
	r := newRig(t, sqlite(t), func(o *Options) { o.Rules = &inspect.Rules{Reject: true} })
	type64 := func(name, contentType string) string {
		return "filename " + base64.StdEncoding.EncodeToString([]byte(name)) + ",filetype " + base64.StdEncoding.EncodeToString([]byte(contentType))
	}
	at := r.tus(8, type64("a.png", "image/png"))
	r.patch(at, 0, []byte("%PDF-1.7")).refused(415)
	r.patch(at, 8, nil).refused(404)
	r.clean()
	begun := data[PartsBegun](r.do(http.MethodPost, partsPath, strings.NewReader(`{"file_name":"a.png","size":8,"content_type":"image/png"}`), "Content-Type", "application/json"), 201)
	u := data[PartURL](r.get(partsPath+"/"+begun.UploadID+"/parts/1/presigned-url"), 200)
	data[PartStored](r.do(http.MethodPut, u.URL, strings.NewReader("%PDF-1.7")), 200)
	r.do(http.MethodPost, partsPath+"/"+begun.UploadID+"/complete", nil).refused(415)
	r.clean()
	r.form(uploadPath, nil, part{"file", "a.png", "%PDF-1.7", []string{"Content-Type", "image/png"}}).refused(415)
	r.clean()
	csv := "a,b\n" + strings.Repeat("1,2\n", 200_000)
	at = r.tus(len(csv), type64("a.csv", "text/csv"))
	require.Equal(t, 204, r.patch(at, 0, []byte(csv)).status)
	up := data[Uploaded](r.get(at+"/file"), 200)
	require.Equal(t, hexSum(csv), up.SHA256)
	file, err := r.ledger.Find(t.Context(), 7, up.FilePath)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, file.Columns)
}
