package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

const (
	stormClients = 200
	stormRounds  = 10
	stormQuota   = 8 << 20
	stormLargest = 32 << 10 // bytes of a file
	stormKept    = 50       // files that nobody deletes
)

// TestTheQuotaIsExactAfterStormsAndKills: 200 clients upload and delete at the edge of the quota, the storage plugin and the host are
// killed in the middle, and after the restart the books are exact; ten times in a row.
func TestTheQuotaIsExactAfterStormsAndKills(t *testing.T) {
	storageSetups(t, func(t *testing.T, w *world) {
		w.set("RIVERGATE_STORAGE_QUOTA", fmt.Sprint(stormQuota))
		s := &quotaStorm{t: t, base: "http://" + w.opts.Addr, there: map[string]string{}, gone: map[string]bool{}}
		w.start()
		for round := range stormRounds {
			s.blow(w, round)
			w.start()
			s.exact(fmt.Sprintf("after round %d", round+1))
		}
		s.settle()
	})
}

// quotaStorm is what its clients were told.
type quotaStorm struct {
	t    *testing.T
	base string
	http http.Client

	mu    sync.Mutex
	there map[string]string // object name to SHA-256 of files that were acknowledged, and not deleted
	gone  map[string]bool   // files whose deletion was acknowledged

	uploaded, refused, failed, deleted atomic.Int64
}

// blow lets the clients go, and kills in the middle.
func (s *quotaStorm) blow(w *world, round int) {
	s.t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: stormClients}
	defer transport.CloseIdleConnections()
	s.http = http.Client{Transport: transport, Timeout: time.Minute}
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	before := s.uploaded.Load() + s.refused.Load()
	var clients sync.WaitGroup
	for client := range stormClients {
		clients.Go(func() { s.client(ctx, rand.New(rand.NewPCG(uint64(round), uint64(client)))) }) //nolint:gosec // a test
	}
	answered := func(n int64) {
		eventually(s.t, 2*time.Minute, "answers to uploads", func(context.Context) bool { return s.uploaded.Load()+s.refused.Load() >= before+n })
		moment(s.t)
	}
	answered(200)
	if round%2 == 0 { // the plugin first, and uploads go on with the next one
		children, err := rig.Descendants(w.host.PID)
		require.NoError(s.t, err)
		require.NotEmpty(s.t, children)
		for _, child := range children {
			_ = syscall.Kill(child.PID, syscall.SIGKILL) // may be gone by itself
		}
		answered(300)
	}
	w.host.KillGroup()
	cancel()
	clients.Wait()
}

// client uploads one file after the other until the host is gone; where there is no room, it deletes one.
func (s *quotaStorm) client(ctx context.Context, dice *rand.Rand) {
	for ctx.Err() == nil {
		content := make([]byte, dice.IntN(stormLargest))
		for i := range content {
			content[i] = byte(dice.Uint32())
		}
		status, name := s.upload(ctx, content)
		switch status {
		case http.StatusCreated:
			s.uploaded.Add(1)
			s.mu.Lock()
			s.there[name] = sum(content)
			s.mu.Unlock()
		case http.StatusRequestEntityTooLarge:
			s.refused.Add(1)
			s.deleteOne(ctx)
		default: // the plugin or the host is gone
			s.failed.Add(1)
			_ = rig.Pause(ctx, 20*time.Millisecond)
		}
	}
}

func (s *quotaStorm) upload(ctx context.Context, content []byte) (status int, object string) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "storm.bin")
	if err == nil {
		_, err = part.Write(content)
	}
	if err != nil || form.Close() != nil {
		panic("a buffer refuses bytes")
	}
	var answer struct {
		Data struct {
			Path string `json:"file_path"`
		} `json:"data"`
	}
	status = s.call(ctx, http.MethodPost, storagePath+"/upload", form.FormDataContentType(), &body, &answer)
	return status, answer.Data.Path
}

// call returns the status, 0 when there is no whole answer.
func (s *quotaStorm) call(ctx context.Context, method, path, contentType string, body io.Reader, answer any) int {
	status, raw := s.do(ctx, method, path, contentType, body)
	if answer != nil && status >= 200 && status < 300 {
		if err := json.Unmarshal(raw, answer); err != nil {
			return 0
		}
	}
	return status
}

func (s *quotaStorm) do(ctx context.Context, method, path, contentType string, body io.Reader) (status int, raw []byte) {
	request, err := http.NewRequestWithContext(ctx, method, s.base+path, body)
	if err != nil {
		panic(err)
	}
	request.Header.Set("X-User-ID", "7")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := s.http.Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	if raw, err = io.ReadAll(response.Body); err != nil {
		return 0, nil
	}
	return response.StatusCode, raw
}

func (s *quotaStorm) deleteOne(ctx context.Context) {
	s.mu.Lock()
	var name string
	if len(s.there) > stormKept {
		for name = range s.there { // any
			break
		}
		delete(s.there, name) // from here on nobody knows, until it is acknowledged
	}
	s.mu.Unlock()
	if name == "" {
		return
	}
	if s.call(ctx, http.MethodDelete, storagePath+"/objects/"+name, "", nil, nil) == http.StatusOK {
		s.deleted.Add(1)
		s.mu.Lock()
		s.gone[name] = true
		s.mu.Unlock()
	}
}

// exact asserts an empty report, and that no more is used than allowed.
func (s *quotaStorm) exact(when string) (used, reserved int64) {
	s.t.Helper()
	var report struct {
		Data map[string]any `json:"data"`
	}
	status := s.call(s.t.Context(), http.MethodPost, "/internal/storage/reconcile", "application/json", bytes.NewReader([]byte("{}")), &report)
	require.Equal(s.t, http.StatusOK, status, when)
	require.Equal(s.t, true, report.Data["exact"], "%s: %v", when, report.Data)
	var usage struct {
		Data struct {
			Used     int64 `json:"used_bytes"`
			Reserved int64 `json:"reserved_bytes"`
			Files    int64 `json:"file_count"`
		} `json:"data"`
	}
	require.Equal(s.t, http.StatusOK, s.call(s.t.Context(), http.MethodGet, storagePath+"/usage", "", nil, &usage))
	require.LessOrEqual(s.t, usage.Data.Used+usage.Data.Reserved, int64(stormQuota), when)
	s.t.Logf("%s: %d files of %d bytes, %d reserved; uploads: %d done, %d refused, %d failed; %d deleted", when, usage.Data.Files, usage.Data.Used, usage.Data.Reserved,
		s.uploaded.Load(), s.refused.Load(), s.failed.Load(), s.deleted.Load())
	return usage.Data.Used, usage.Data.Reserved
}

// settle waits until nothing is reserved any more, and looks at each file.
func (s *quotaStorm) settle() {
	s.t.Helper()
	eventually(s.t, 5*time.Minute, "the end of all reservations", func(ctx context.Context) bool {
		var usage struct {
			Data struct {
				Reserved int64 `json:"reserved_bytes"`
			} `json:"data"`
		}
		return s.call(ctx, http.MethodGet, storagePath+"/usage", "", nil, &usage) == http.StatusOK && usage.Data.Reserved == 0
	})
	s.exact("at the end")
	require.NotEmpty(s.t, s.there)
	for _, name := range slices.Sorted(maps.Keys(s.there)) {
		status, content := s.do(s.t.Context(), http.MethodGet, storagePath+"/objects/"+name, "", nil)
		require.Equal(s.t, http.StatusOK, status, "%s was acknowledged", name)
		require.Equal(s.t, s.there[name], sum(content), name)
	}
	for _, name := range slices.Sorted(maps.Keys(s.gone)) {
		status, _ := s.do(s.t.Context(), http.MethodGet, storagePath+"/objects/"+name, "", nil)
		require.Equal(s.t, http.StatusNotFound, status, "%s was deleted", name)
	}
}
