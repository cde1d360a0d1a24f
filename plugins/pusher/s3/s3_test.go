package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestEveryRowIsOneLineOfAnObjectInItsPartition(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"path": "lab/org={org}/{date}/{hour}/{uuid}/{instance}"})
	frame := plugintest.Indexed(plugintest.FrameAt(900, "../a\"\n1", `{"b": 1.50,"a":1e400,"b":"\u0041 <é>"}`, "{\n \"k\": \"x y\",\r\n\t\"n\": [1, 2]\n}"), 3, protocol.NoIndex)
	frame.OrgID = 42
	require.Empty(t, h.Deliver(frame, plugintest.FrameAt(7, "b", `{}`)))
	s.emptied()
	keys := s.keys()
	require.Len(t, keys, 2)
	id, err := os.ReadFile(filepath.Join(s.dir, plugintest.Instance, "id"))
	require.NoError(t, err)
	require.Equal(t, "lab/org=1/2026-01-02/03/b/test/"+strings.TrimSpace(string(id))+"-0000000000000007-0000000000000007.jsonl", keys[0])
	require.Equal(t, "lab/org=42/2026-01-02/03/%2E.%2Fa%22%0A1/test/"+strings.TrimSpace(string(id))+"-0000000000000900-0000000000000901.jsonl", keys[1])
	require.Equal(t, `{"position":900,"org_id":42,"uuid":"../a\"\n1","index":3,"received_at":"2026-01-02T03:04:05.678Z","data":{"b": 1.50,"a":1e400,"b":"\u0041 <é>"}}
{"position":901,"org_id":42,"uuid":"../a\"\n1","index":null,"received_at":"2026-01-02T03:04:05.678Z","data":{"k":"x y","n":[1,2]}}
`, string(s.read(keys[1])))
	info, err := s.StatObject(t.Context(), s.bucket, keys[1], minio.StatObjectOptions{})
	require.NoError(t, err)
	require.Equal(t, "application/x-ndjson", info.ContentType)
	require.Equal(t, "2", info.UserMetadata["Rivergate-Rows"])
}

func TestWithoutAnEnvelopeALineIsTheClientsOwnBytes(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"envelope": false})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{"b": 1.50,"a":1e400}`, `{}`)))
	s.emptied()
	require.Equal(t, []string{`{"b": 1.50,"a":1e400}`, `{}`}, lines(t, s.read(s.keys()[0])))
}

func TestCompressedObjectsHoldTheSameLines(t *testing.T) {
	for compression, ending := range map[string]string{"gzip": ".jsonl.gz", "zstd": ".jsonl.zst"} {
		s := newStore(t)
		h := s.start(map[string]any{"compression": compression})
		require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`)))
		s.emptied()
		require.True(t, strings.HasSuffix(s.keys()[0], ending), s.keys())
		s.requireOnce(1, 2)
	}
}

func TestARowThatComesAgainIsInOneObject(t *testing.T) {
	s := newStore(t)
	h := s.start(nil)
	first, second := plugintest.FrameAt(100, "a", `{}`, `{}`), plugintest.FrameAt(50, "b", `{}`)
	require.Empty(t, h.Deliver(first))
	require.Empty(t, h.Deliver(second), "a lower position is a row of its own")
	plugintest.RequireAll(t, h.Deliver(first, second), 3, sdk.Duplicate, "duplicate")
	s.emptied()
	plugintest.RequireAll(t, h.Deliver(first), 2, sdk.Duplicate, "duplicate")
	h.Drain()
	h = s.start(nil)
	plugintest.RequireAll(t, h.Deliver(second, first), 3, sdk.Duplicate, "duplicate")
	outcomes := h.Deliver(plugintest.FrameAt(99, "a", `{}`, `{}`, `{}`, `{}`))
	plugintest.RequireAll(t, outcomes, 2, sdk.Duplicate, "duplicate")
	require.Equal(t, []int{1, 2}, []int{outcomes[0].Row, outcomes[1].Row})
	s.emptied()
	require.Equal(t, map[uint64]int{50: 1, 99: 1, 100: 1, 101: 1, 102: 1}, s.counts())
}

func TestSegmentsRollBySizeByRowsAndByAge(t *testing.T) {
	for what, c := range map[string]struct {
		config  map[string]any
		objects int
	}{
		"size": {map[string]any{"roll_size": "1KiB", "spool_max": "1MiB", "roll_interval": "1h"}, 20},
		"rows": {map[string]any{"roll_rows": 2, "roll_interval": "1h"}, 10},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStore(t)
			h := s.start(c.config)
			for p := range uint64(20) {
				require.Empty(t, h.Deliver(plugintest.FrameAt(p+1, "a", `{"text":"`+strings.Repeat("x", 900)+`"}`)))
			}
			h.Drain() // what is not full yet goes now
			s.emptied()
			require.Len(t, s.keys(), c.objects)
			s.requireOnce(1, 20)
		})
	}
	t.Run("age", func(t *testing.T) {
		s := newStore(t)
		h := s.start(map[string]any{"roll_interval": "50ms"})
		for p := range uint64(3) {
			require.Empty(t, h.Deliver(plugintest.FrameAt(p+1, "a", `{}`)))
			s.emptied()
			require.Len(t, s.keys(), int(p+1))
		}
	})
}

func TestARowThatIsTooLargeIsRejectedAlone(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"max_row": "100"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{"text":"`+strings.Repeat("x", 100)+`"}`, `{}`))
	o := plugintest.RequireAll(t, outcomes, 1, sdk.Rejected, "too_large")
	require.Equal(t, 1, o.Row)
	require.Contains(t, o.Message, "MAX_ROW")
	s.emptied()
	require.Equal(t, map[uint64]int{1: 1, 3: 1}, s.counts())
}

func TestAKeyThatWouldBeTooLongIsTheRowsOwn(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"path": strings.Repeat("{uuid}/", 10) + "x"})
	outcomes := h.Deliver(plugintest.FrameAt(1, strings.Repeat("a", 100), `{}`), plugintest.FrameAt(2, "b", `{}`))
	o := plugintest.RequireAll(t, outcomes, 1, sdk.Rejected, "key_too_long")
	require.EqualValues(t, 1, o.Position)
	s.emptied()
	require.Equal(t, map[uint64]int{2: 1}, s.counts())
}

func TestAServerThatIsDownIsNoConfigurationProblemAndTheSpoolTakesRows(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"url": "http://127.0.0.1:1", "spool_max": "64KiB", "roll_size": "1KiB"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	require.ErrorContains(t, h.Health(), "127.0.0.1:1")
	var outcomes []protocol.Outcome
	last := uint64(1)
	for len(outcomes) == 0 {
		require.Less(t, last, uint64(200), "the spool takes more than SPOOL_MAX")
		last++
		outcomes = h.Deliver(plugintest.FrameAt(last, "a", `{"text":"`+strings.Repeat("x", 1000)+`"}`))
	}
	o := plugintest.RequireAll(t, outcomes, 1, sdk.Retry, "connection")
	require.Contains(t, o.Message, "SPOOL_MAX")
	require.Contains(t, o.Message, "127.0.0.1:1")
	h.Drain()
	require.NotEmpty(t, s.segments(), "what could not be put stays")

	h = s.start(nil)
	s.emptied()
	require.NoError(t, h.Health())
	s.requireOnce(1, last-1)
	require.Empty(t, h.Deliver(plugintest.FrameAt(last, "a", `{}`)))
}

func TestAServerThatIsKilledGetsEverythingWhenItIsBack(t *testing.T) {
	s := newStore(t)
	h := s.start(nil)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	s.emptied()
	trouble.Service(t, "kill", "s3")
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{}`, `{}`)), "the spool has them")
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	trouble.Service(t, "revive", "s3")
	s.emptied()
	require.Eventually(t, func() bool { return h.Health() == nil }, plugintest.Timeout, 5*time.Millisecond)
	s.requireOnce(1, 3)
}

// The server has the object, and its answer does not come: the same object is put again.
func TestAnAnswerThatIsLostMakesNoSecondObject(t *testing.T) {
	s := newStore(t)
	proxy := trouble.NewProxy(t, s.address)
	h := s.start(map[string]any{"url": "http://" + proxy.Address, "upload_timeout": "300ms", "request_timeout": "300ms"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	s.emptied()
	proxy.Stall()
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{}`, `{}`)))
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	require.ErrorContains(t, h.Health(), "UPLOAD_TIMEOUT")
	require.Eventually(t, func() bool { return len(s.keys()) == 2 }, plugintest.Timeout, 5*time.Millisecond, "the server has it")
	require.NotEmpty(t, s.segments(), "nobody said so")
	proxy.Resume()
	proxy.Cut()
	s.emptied()
	require.Len(t, s.keys(), 2)
	s.requireOnce(1, 3)
}

func TestConnectionsThatAreCutAreMadeAnew(t *testing.T) {
	s := newStore(t)
	proxy := trouble.NewProxy(t, s.address)
	h := s.start(map[string]any{"url": "http://" + proxy.Address})
	for p := range uint64(10) {
		require.Empty(t, h.Deliver(plugintest.FrameAt(p+1, "a", `{}`)))
		proxy.Cut()
	}
	s.emptied()
	s.requireOnce(1, 10)
}

func TestWrongCredentialsAreSaidAtStartAndRowsWaitForRightOnes(t *testing.T) {
	s := newStore(t)
	for code, config := range map[string]map[string]any{
		"SignatureDoesNotMatch": {"secret_key": "wrong-hunter2"},
		"XAdminUserNotFound": { // VersityGW's word for InvalidAccessKeyId
			"access_key": "nobody", "secret_key": "wrong-hunter2"},
	} {
		config["spool_max"], config["roll_size"], config["spool_dir"] = "1KiB", "1KiB", t.TempDir()
		h := s.start(config)
		require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
		said := h.Health().Error()
		require.Contains(t, said, s.address)
		require.Contains(t, said, s.bucket)
		require.Contains(t, said, "SECRET_KEY")
		require.NotContains(t, said, "hunter2")
		require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{"text":"`+strings.Repeat("x", 900)+`"}`)))
		o := plugintest.RequireAll(t, h.Deliver(plugintest.FrameAt(2, "a", `{"text":"`+strings.Repeat("x", 900)+`"}`)), 1, sdk.Unauthenticated, code)
		require.NotContains(t, o.Message, "hunter2")
		h.Drain()
		delete(config, "secret_key")
		delete(config, "access_key")
		h = s.start(config)
		require.Eventually(t, func() bool { return h.Health() == nil && len(h.Deliver(plugintest.FrameAt(2, "a", `{}`))) == 0 }, plugintest.Timeout, 5*time.Millisecond)
		h.Drain()
	}
}

// What a real server says only in a state that a test cannot bring it into is said by a proxy in front of it, for puts alone.
func TestRowsWaitWhileTheServerRefusesObjectsAndAllArriveOnceAfterwards(t *testing.T) {
	for code, c := range map[string]struct {
		status int
		class  sdk.Class
		says   string
	}{
		"SlowDown":            {http.StatusServiceUnavailable, sdk.Throttled, "as the test wants it"},
		"QuotaExceeded":       {http.StatusForbidden, sdk.Throttled, "make room, or raise its quota"},
		"InsufficientStorage": {http.StatusInsufficientStorage, sdk.Throttled, "make room, or raise its quota"},
		"DiskFull":            {http.StatusInsufficientStorage, sdk.Throttled, "the server is full"},
		"AccessDenied":        {http.StatusForbidden, sdk.Unauthenticated, "s3:PutObject"},
		"InternalError":       {http.StatusInternalServerError, sdk.Retry, "as the test wants it"},
	} {
		t.Run(code, func(t *testing.T) {
			s := newStore(t)
			var refuses atomic.Bool
			url := s.refusing(&refuses, c.status, code)
			h := s.start(map[string]any{"url": url, "spool_max": "4KiB", "roll_size": "1KiB"})
			require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
			s.emptied()

			refuses.Store(true)
			row := `{"text":"` + strings.Repeat("x", 900) + `"}`
			last := uint64(1)
			var outcomes []protocol.Outcome
			for len(outcomes) == 0 {
				require.Less(t, last, uint64(20), "the spool takes more than SPOOL_MAX")
				last++
				outcomes = h.Deliver(plugintest.FrameAt(last, "a", row))
			}
			require.Eventually(t, func() bool {
				outcomes = h.Deliver(plugintest.FrameAt(last, "a", row))
				return len(outcomes) == 1 && outcomes[0].Code == code
			}, plugintest.Timeout, 20*time.Millisecond, "%v", outcomes)
			require.Equal(t, c.class, outcomes[0].Class)
			for _, said := range []string{c.says, s.bucket, "SPOOL_MAX", strings.TrimPrefix(url, "http://")} {
				require.Contains(t, outcomes[0].Message, said)
			}
			require.NotContains(t, outcomes[0].Message, s.secret)
			require.ErrorContains(t, h.Health(), c.says)

			refuses.Store(false)
			s.emptied()
			require.Eventually(t, func() bool { return h.Health() == nil }, plugintest.Timeout, 5*time.Millisecond)
			require.Empty(t, h.Deliver(plugintest.FrameAt(last, "a", row)))
			s.emptied()
			s.requireOnce(1, last)
		})
	}
}

func TestCredentialsOfAFileAreReadAgainWhenTheyAreRefused(t *testing.T) {
	s := newStore(t)
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(secret string) {
		text := fmt.Sprintf("[lab]\naws_access_key_id = %s\naws_secret_access_key = %s\n", s.key, secret)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	write("former-hunter2")
	h := s.start(map[string]any{"access_key": "", "secret_key": "", "credentials_file": file, "profile": "lab"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	require.ErrorContains(t, h.Health(), "CREDENTIALS_FILE")
	require.NotContains(t, h.Health().Error(), "hunter2")
	write(s.secret)
	s.emptied()
	s.requireOnce(1, 1)
}

func TestABucketThatIsNotThereIsSaidBeforeRowsCome(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"bucket": s.bucket + "-other"})
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	said := h.Health().Error()
	for _, part := range []string{s.address, s.bucket + "-other", "create the bucket, or mend BUCKET"} {
		require.Contains(t, said, part)
	}
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.NoError(t, s.MakeBucket(t.Context(), s.bucket+"-other", minio.MakeBucketOptions{}))
	s.emptied()
	require.Eventually(t, func() bool { return h.Health() == nil }, plugintest.Timeout, 5*time.Millisecond)
}

func TestTheProbeLeavesNothing(t *testing.T) {
	s := newStore(t)
	h := s.start(nil)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	s.emptied()
	h.Drain()
	for u := range s.ListIncompleteUploads(t.Context(), s.bucket, "", true) {
		require.NoError(t, u.Err)
		t.Errorf("an upload of parts is left: %s", u.Key)
	}
	require.Len(t, s.keys(), 1)
}

// VersityGW takes the order to encrypt and stores in clear.
func TestNothingGoesToAServerThatDoesNotSayThatItEncrypts(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"encryption": "s3"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	require.ErrorContains(t, h.Health(), "ENCRYPTION")
	require.Empty(t, s.keys())
	h.Drain()
	s.start(map[string]any{"encryption": "none"})
	s.emptied()
	s.requireOnce(1, 1)
}

func TestTLSWithTheAuthoritysFile(t *testing.T) {
	s := newStore(t)
	proxy, ca := trouble.NewTLSProxy(t, s.address)
	h := s.start(map[string]any{"url": "https://" + proxy.Address})
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	require.ErrorContains(t, h.Health(), "CA_FILE")
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	h.Drain()
	s.start(map[string]any{"url": "https://" + proxy.Address, "ca_file": ca})
	s.emptied()
	s.requireOnce(1, 1)
}

// What was sealed under one configuration goes to the same key under the next; what was not, as the next one says.
func TestANewConfigurationDoesNotChangeWhatIsSealed(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"url": "http://127.0.0.1:1", "path": "old/{org}", "compression": "gzip"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	h.Drain()
	h = s.start(map[string]any{"path": "new/{org}"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{}`)))
	s.emptied()
	keys := strings.Join(s.keys(), "\n")
	require.Regexp(t, regexp.MustCompile(`^new/1/\S*\.jsonl\nold/1/\S*\.jsonl\.gz$`), keys)
	s.requireOnce(1, 2)
}

func TestASecondProcessWaitsForTheFirst(t *testing.T) {
	s := newStore(t)
	first := s.start(nil)
	require.Empty(t, first.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	second := plugintest.Connect(t, plugin)
	require.Empty(t, second.Configure(s.config(nil)))
	require.NoError(t, second.Health(), "an upgrade is not ill")
	first.Drain()
	second.Reopen()
	require.Eventually(t, func() bool { return len(second.Deliver(plugintest.FrameAt(2, "a", `{}`))) == 0 }, plugintest.Timeout, 5*time.Millisecond)
	s.emptied()
	s.requireOnce(1, 2)
}

func TestManyPartitionsOfOneSegment(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"path": "{uuid}"})
	var frames []protocol.Frame
	for p := range uint64(100) {
		frames = append(frames, plugintest.FrameAt(2*p+1, fmt.Sprintf("u%d", p%50), `{}`, `{}`))
	}
	require.Empty(t, h.Deliver(frames...))
	s.emptied()
	require.Len(t, s.keys(), 50)
	s.requireOnce(1, 200)
}

func TestAnObjectThatIsTooLargeForMemoryGoesByAFileThatIsRemoved(t *testing.T) {
	s := newStore(t)
	h := s.start(map[string]any{"roll_interval": "1h"})
	row := `{"text":"` + strings.Repeat("x", 2<<20) + `"}`
	for p := range uint64(20) {
		require.Empty(t, h.Deliver(plugintest.FrameAt(p+1, "a", row)))
	}
	h.Drain()
	require.Len(t, s.keys(), 1)
	s.requireOnce(1, 20)
	require.Greater(t, len(s.read(s.keys()[0])), heldBody)
	left, err := filepath.Glob(filepath.Join(s.dir, "*", "*"+objectSuffix))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestRowsAreThereOnceAfterManyKillNines(t *testing.T) {
	s := newStore(t)
	config := s.config(map[string]any{"path": "{uuid}", "roll_size": "4KiB", "spool_max": "1GiB", "roll_interval": "30ms"})
	last := trouble.KnownOnce(t, config)
	h := plugintest.Start(t, plugin, config)
	s.emptied()
	require.NoError(t, h.Health())
	s.requireOnce(1, last)
	t.Logf("%d rows in %d objects: each once", last, len(s.keys()))
}

func TestBadSettingsAreNamed(t *testing.T) {
	good := func(more map[string]any) map[string]any {
		config := map[string]any{"url": "http://127.0.0.1:1", "bucket": "rows", "access_key": "k", "secret_key": "hunter2", "spool_dir": t.TempDir()}
		for name, value := range more {
			config[name] = value
		}
		return config
	}
	for _, c := range []struct {
		field string
		with  map[string]any
	}{
		{"url", map[string]any{"url": "http://k:hunter2@127.0.0.1:1"}},
		{"url", map[string]any{"url": "http://127.0.0.1:1/rows"}},
		{"url", map[string]any{"ca_file": "/nowhere"}},
		{"ca_file", map[string]any{"url": "https://127.0.0.1:1", "ca_file": "/nowhere"}},
		{"bucket", map[string]any{"bucket": "No Bucket"}},
		{"path", map[string]any{"path": "/rows"}},
		{"path", map[string]any{"path": "rows/{day}"}},
		{"path", map[string]any{"path": "rows/../x"}},
		{"access_key", map[string]any{"access_key": ""}},
		{"secret_key", map[string]any{"secret_key": ""}},
		{"credentials_file", map[string]any{"credentials_file": "/nowhere"}},
		{"columns", map[string]any{"columns": "a=b"}},
		{"columns", map[string]any{"format": "parquet", "columns": "a=b:uuid"}},
		{"columns", map[string]any{"format": "parquet", "columns": "request_id=b"}},
		{"compression", map[string]any{"compression": "snappy"}},
		{"empty_as_null", map[string]any{"empty_as_null": true}},
		{"envelope", map[string]any{"format": "parquet", "envelope": false}},
		{"kms_key", map[string]any{"kms_key": "k"}},
		{"spool_max", map[string]any{"spool_max": "1MiB"}},
		{"spool_dir", map[string]any{"spool_dir": "s3.go"}},
	} {
		problems := plugintest.Connect(t, plugin).Configure(good(c.with))
		require.Len(t, problems, 1, "%v", c.with)
		require.Equal(t, c.field, problems[0].Field, "%v", c.with)
		require.NotContains(t, problems[0].Reason, "hunter2")
	}
}

func TestCloseGivesUpInTimeAndKeepsTheRows(t *testing.T) {
	s := newStore(t)
	proxy := trouble.NewProxy(t, s.address)
	p := s.instance(map[string]any{"url": "http://" + proxy.Address, "roll_interval": "1h"})
	require.Empty(t, p.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Eventually(t, func() bool { return p.Health() == nil }, plugintest.Timeout, 5*time.Millisecond)
	proxy.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), closeMargin+100*time.Millisecond)
	defer cancel()
	require.NoError(t, p.plugin.Close(ctx))
	require.Len(t, s.segments(), 1)
	p.plugin.keeper = nil // closed
	proxy.Resume()
	s.start(nil)
	s.emptied()
	s.requireOnce(1, 1)
}
