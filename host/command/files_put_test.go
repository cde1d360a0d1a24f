package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// partsHost takes one upload in parts, after whatever a test puts in the way.
type partsHost struct {
	url        string
	mu         sync.Mutex
	partFaults []func(http.ResponseWriter) // of a part each, first come first served
	endFaults  []func(http.ResponseWriter) // of a complete each
	parts      map[string][]byte
	puts, ends int
	completed  []byte
}

const testPart = 5 << 20

func openParts(t *testing.T) *partsHost {
	t.Helper()
	h := &partsHost{parts: map[string][]byte{}}
	routes := http.NewServeMux()
	routes.HandleFunc("POST "+partsPath, func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Size int64 }
		_ = json.NewDecoder(r.Body).Decode(&asked)
		_, _ = fmt.Fprintf(w, `{"success":true,"data":{"upload_id":"u","part_size":%d,"parts_count":%d}}`, testPart, (asked.Size+testPart-1)/testPart)
	})
	routes.HandleFunc("GET "+partsPath+"/u", func(w http.ResponseWriter, _ *http.Request) {
		var received []string
		for number := range h.parts {
			received = append(received, fmt.Sprintf(`{"part_number":%s,"etag":"e%s"}`, number, number))
		}
		_, _ = fmt.Fprintf(w, `{"success":true,"data":{"upload_id":"u","part_size":%d,"parts_count":2,"received":[%s]}}`, testPart, strings.Join(received, ","))
	})
	routes.HandleFunc("GET "+partsPath+"/u/parts/{number}/presigned-url", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"success":true,"data":{"url":"%s/put/%s"}}`, h.url, r.PathValue("number"))
	})
	routes.HandleFunc("PUT /put/{number}", func(w http.ResponseWriter, r *http.Request) {
		h.puts++
		text, err := io.ReadAll(r.Body)
		if fails(&h.partFaults, w) || err != nil {
			return
		}
		h.parts[r.PathValue("number")] = text
		w.Header().Set("ETag", "e"+r.PathValue("number"))
	})
	routes.HandleFunc("POST "+partsPath+"/u/complete", func(w http.ResponseWriter, _ *http.Request) {
		h.ends++
		if fails(&h.endFaults, w) {
			return
		}
		h.completed = bytes.Join([][]byte{h.parts["1"], h.parts["2"]}, nil)
		_, _ = io.WriteString(w, `{"success":true,"data":{"id":"7"}}`)
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		routes.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// fails meets the request with the next fault, if there is one.
func fails(faults *[]func(http.ResponseWriter), w http.ResponseWriter) bool {
	if len(*faults) == 0 {
		return false
	}
	fault := (*faults)[0]
	*faults = (*faults)[1:]
	fault(w)
	return true
}

// largeFileOf makes a file that goes in two parts.
func largeFileOf(t *testing.T) (path string, content []byte) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // where the memo is kept
	path, content = filepath.Join(t.TempDir(), "plate.bin"), bytes.Repeat([]byte("0123456789abcdef"), (smallFile+16)/16)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path, content
}

func TestPartsAndTheirCompletionAreRepeatedWhileTheyFailInPassing(t *testing.T) {
	busy := answer(503, nil, `{"success":false,"error":{"code":"SERVICE_UNAVAILABLE","message":"The storage is away"}}`)
	h := openParts(t)
	h.partFaults = []func(http.ResponseWriter){hangUp, busy, answer(403, nil, "expired")}
	h.endFaults = []func(http.ResponseWriter){hangUp, busy, answer(502, nil, "<html>proxy</html>")}
	path, content := largeFileOf(t)
	r := rivergate(t, h.url, "", "files", "put", path)
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, content, h.completed)
	require.Equal(t, 2+3, h.puts)
	require.Equal(t, 1+3, h.ends)
	require.Len(t, r.waits, 6)
}

func TestAnUploadWhoseHostStaysAwayAtItsEndIsCompletedByTheSameCommand(t *testing.T) {
	h := openParts(t)
	for range tries {
		h.endFaults = append(h.endFaults, hangUp)
	}
	path, content := largeFileOf(t)
	r := rivergate(t, h.url, "", "files", "put", path)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "all parts are there")
	require.Contains(t, r.stderr, "The same command goes on from there")
	require.Nil(t, h.completed)
	sent := maps.Clone(h.parts)

	r = rivergate(t, h.url, "", "files", "put", path)
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stderr, "2 of 2 parts are there")
	require.Equal(t, content, h.completed)
	require.Equal(t, 2, h.puts, "no part is sent again")
	require.Equal(t, sent, h.parts)
}

func TestAnUploadThatIsRefusedAtItsEndIsNotRepeated(t *testing.T) {
	h := openParts(t)
	h.endFaults = []func(http.ResponseWriter){answer(403, nil, `{"success":false,"error":{"code":"QUOTA_EXCEEDED","message":"The org has no room for it"}}`)}
	path, _ := largeFileOf(t)
	r := rivergate(t, h.url, "", "files", "put", path)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "The org has no room for it")
	require.Equal(t, 1, h.ends)
	require.Empty(t, r.waits)
}
