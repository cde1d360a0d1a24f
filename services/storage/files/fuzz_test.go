package files

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
)

// Names of internal files are keys in the org's folders for what is not a user's.
func FuzzObjectNames(f *testing.F) {
	f.Add("organizations/7/files/3/a", "x")
	f.Add("organizations/7/internal/temp/../../../8/x", "../y")
	f.Fuzz(func(t *testing.T, name, given string) {
		if object, err := internalName(7, purposeTemp, given, name, time.Now()); err == nil && checkFileName("file", name) == nil {
			require.NoError(t, protocol.CheckKey(object))
			require.True(t, strings.HasPrefix(path.Clean(object), "organizations/7/"))
			require.False(t, strings.HasPrefix(object, "organizations/7/files/"))
		}
	})
}

var longNumber = regexp.MustCompile(`[1-9][0-9]{18}`)

// Ranges are those of net/http's own server, where that serves one.
func FuzzRanges(f *testing.F) {
	for _, header := range []string{"bytes=0-0", "bytes=-1", "bytes=5-", "bytes=9-2", "bytes=10-", "bytes=-0", "bytes=0-,1-", "x", "bytes=99999999999999999999-", "bytes= 1-2 ", "bytes=-9999999999999999999", "bytes=0-9999999999999999999"} {
		f.Add(header, uint16(10))
	}
	f.Fuzz(func(t *testing.T, header string, size uint16) {
		part, partial, satisfiable := rangeOf(header, int64(size))
		if partial && satisfiable {
			require.Positive(t, part.length)
			require.GreaterOrEqual(t, part.from, int64(0))
			require.LessOrEqual(t, part.from+part.length, int64(size))
		}
		if !partial {
			require.Equal(t, span{0, int64(size)}, part)
			require.True(t, satisfiable)
		}
		if size == 0 || strings.ContainsAny(header, ", \t+\r\n\x00") || strings.ContainsFunc(header, func(r rune) bool { return r > '~' }) || !strings.HasPrefix(header, "bytes=") {
			return // it is lenient with other things
		}
		if strings.Trim(strings.TrimPrefix(header, "bytes=-"), "0") == "" {
			return // the last 0 bytes: RFC 9110 calls that unsatisfiable, net/http sends them
		}
		if longNumber.MatchString(header) {
			return // RFC 9110, 14.1.1: numbers of any length are to be expected; net/http refuses what is no int64
		}
		answer := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.Header.Set("Range", header)
		http.ServeContent(answer, request, "", time.Time{}, bytes.NewReader(make([]byte, size)))
		if answer.Code == http.StatusPartialContent {
			require.True(t, partial && satisfiable, header)
			require.Equal(t, answer.Header().Get("Content-Range"), contentRange(part, int64(size)), header)
		}
		if partial && satisfiable {
			require.Equal(t, http.StatusPartialContent, answer.Code, header)
		}
	})
}

// A URL allows what it was signed for; no other bytes allow anything.
func FuzzSignedURLs(f *testing.F) {
	now := time.UnixMilli(1_764_343_200_000)
	s := &Signing{Key: bytes.Repeat([]byte{1}, 32), Now: func() time.Time { return now }}
	good := s.Sign(Signed{Method: "GET", Org: 7, Object: "organizations/7/files/3/a b", Expires: now.Add(time.Minute), Size: -1})
	f.Add("PUT", good, "é/%2F ?&=#", "text/plain; charset=utf-8", int64(5), uint16(3))
	f.Add("GET", good[:len(good)-1], "a", "", int64(-1), uint16(0))
	f.Add("GET", strings.ToUpper(good), "a", "x", int64(0), uint16(200))
	f.Fuzz(func(t *testing.T, method, uri, object, contentType string, size int64, at uint16) {
		if method != "GET" {
			method = "PUT"
		} else {
			size = -1
		}
		if uri != good {
			_, err := s.Check("GET", uri)
			require.ErrorIs(t, err, errSignature)
		}
		want := Signed{
			Method: method, Org: 7, User: 3, Object: object, Expires: now.Add(time.Second), ContentType: contentType, Size: max(-1, size), FileName: object, Category: "general",
		}
		signed := s.Sign(want)
		got, err := s.Check(method, signed)
		require.NoError(t, err)
		require.True(t, want.Expires.Equal(got.Expires))
		got.Expires = want.Expires
		require.Equal(t, want, got)
		if method == "GET" {
			_, err = s.Check("HEAD", signed)
			require.NoError(t, err)
		}
		_, err = s.Check("DELETE", signed)
		require.ErrorIs(t, err, errSignature)
		changed := []byte(signed)
		changed[int(at)%len(changed)] ^= byte(1 + at>>8)
		if string(changed) != signed {
			_, err = s.Check(method, string(changed))
			require.ErrorIs(t, err, errSignature)
		}
		late := &Signing{Key: s.Key, Skew: time.Second, Now: func() time.Time { return now.Add(2*time.Second + time.Millisecond) }}
		_, err = late.Check(method, signed)
		require.ErrorIs(t, err, errExpired)
	})
}

// The feed tells exactly how large the file is, before its first byte, whatever stands before it.
func TestTheSizeOfAFileIsKnownFromTheForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := make([]part, rapid.IntRange(0, 4).Draw(t, "fields"))
		for i := range parts {
			parts[i] = part{name: "f" + strconv.Itoa(i), value: rapid.String().Draw(t, "value")}
		}
		content := rapid.StringN(-1, 100_000, 100_000).Draw(t, "content")
		body, contentType := formOf(append(parts, part{name: "file", fileName: "a", value: content})...)
		_, boundary, _ := strings.Cut(contentType, "boundary=")
		f := formFrom(bytes.NewReader(body), int64(len(body)), boundary)
		found, err := f.next()
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, int64(len(content)), f.most)
		got, err := io.ReadAll(f)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
	})
}

// Whatever comes instead of a form: an error that is an answer, or a file that ends.
func FuzzForms(f *testing.F) {
	body, _ := formOf(part{name: "a", value: "b"}, part{name: "file", fileName: "x", value: "content"}, part{name: "path", value: "p"})
	boundary := string(body[2:62])
	f.Add(body, boundary)
	f.Add(body[:len(body)-10], boundary)
	f.Add([]byte("--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc\r\n--x--"), "x")
	f.Add([]byte("--x\r\n\r\n\r\n--x\r\nfile"), "x")
	f.Add([]byte("--x\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\n\na\r\n--xb\n--x--"), "x")
	f.Add([]byte("--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n--x--"), "x")
	f.Fuzz(func(t *testing.T, body []byte, boundary string) {
		if boundary == "" || len(boundary) > 70 {
			return
		}
		form := formFrom(bytes.NewReader(body), int64(len(body)), boundary)
		found, err := form.next()
		if err == nil && found {
			var got []byte
			got, err = io.ReadAll(form)
			for _, buffer := range []int{16, len(boundary) + 5, 100} { // what lies across the ends of buffers, and the parser's own opinion
				for _, parse := range []bool{false, true} {
					other := formFrom(nil, int64(len(body)), boundary)
					other.feed.from = bufio.NewReaderSize(iotest.HalfReader(bytes.NewReader(body)), buffer)
					_, otherErr := other.next()
					require.NoError(t, otherErr)
					other.feed.parse = parse
					same, otherErr := io.ReadAll(other)
					require.Equal(t, err == nil, otherErr == nil, "%v, %v", err, otherErr)
					if err == nil {
						require.Equal(t, got, same)
					}
				}
			}
			if err == nil { // a form that breaks off may have more of its file than a whole one had room for
				require.LessOrEqual(t, int64(len(got)), form.most+3) // the last line break may be left out, and others be shorter
			}
		}
		if err != nil {
			require.Less(t, answerStatus(t, err), 500)
		}
	})
}

func answerStatus(t *testing.T, err error) int {
	t.Helper()
	require.Error(t, err)
	return api.AsError(answerTo(err)).Status
}
