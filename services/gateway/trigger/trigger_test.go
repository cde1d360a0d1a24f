package trigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/services/gateway/trigger/controltower"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a client of a tower that runs; change alters its options.
func open(t *testing.T, address string, change ...func(*Options)) *Tower {
	t.Helper()
	o := Options{URL: address, Timeout: 10 * time.Second, MissingFor: time.Minute, CacheBytes: 1 << 20, Software: "rivergate/test", Registry: prometheus.NewRegistry()}
	for _, c := range change {
		c(&o)
	}
	tower, err := New(o)
	require.NoError(t, err)
	t.Cleanup(tower.Close)
	return tower
}

func TestATriggerIsAskedForOnce(t *testing.T) {
	server := controltower.Start(t)
	server.PutDocument("u", []byte(`{"uuid": "u", "apiVersion":"v1", "spec": [null, {"a": 1.50}]}`))
	tower := open(t, server.URL())
	_, ok := tower.Cached("u")
	require.False(t, ok)
	for range 3 {
		found, err := tower.Look(t.Context(), "u")
		require.NoError(t, err)
		require.Equal(t, `{"uuid": "u", "apiVersion":"v1", "spec": [null, {"a": 1.50}]}`, string(found), "byte for byte")
	}
	_, ok = tower.Cached("u")
	require.True(t, ok)
	require.Equal(t, 1, server.Requests("u"))
	require.Equal(t, []float64{1, 1}, []float64{testutil.ToFloat64(tower.metrics.hits), testutil.ToFloat64(tower.metrics.misses)})
	require.InDelta(t, 1, testutil.ToFloat64(tower.metrics.lookups.WithLabelValues(resultFound)), 0)
	require.Positive(t, testutil.ToFloat64(tower.metrics.cacheBytes))
}

func TestOneRequestForAUUIDIsUnderWayAtATime(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	server := controltower.New()
	require.NoError(t, server.Put(controltower.Plain("u")))
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		<-release
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(gate.Close)
	tower := open(t, gate.URL)
	impatient, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := tower.Look(impatient, "u"); left <- err }()
	<-asked
	cancel()
	require.ErrorIs(t, <-left, context.Canceled, "who goes does not wait for the answer")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := tower.Look(t.Context(), "u")
			require.NoError(t, err)
		})
	}
	close(release)
	all.Wait()
	require.Equal(t, 1, server.Requests("u"))
}

func TestAnyTextIsAUUID(t *testing.T) {
	server := controltower.Start(t)
	tower := open(t, server.URL()+"/")
	for _, uuid := range []string{"9f86d081884c7d65", "a b", "a/b", "../secret", "?x=1", "#", "100%", "é\n", `"`, "...", strings.Repeat("😀", 128)} {
		require.NoError(t, server.Put(controltower.Plain(uuid)))
		_, err := tower.Look(t.Context(), uuid)
		require.NoError(t, err, "%q", uuid)
		require.Equal(t, 1, server.Requests(uuid))
	}
	for _, uuid := range []string{".", ".."} {
		_, err := tower.Look(t.Context(), uuid)
		var missing *NotFound
		require.ErrorAs(t, err, &missing)
		require.Contains(t, missing.Reason, "cannot be asked for")
	}
}

func TestThePathOfTheAddressIsKept(t *testing.T) {
	server := controltower.New()
	require.NoError(t, server.Put(controltower.Plain("a/b")))
	under := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/tower%2Fone/triggers/a%2Fb", r.URL.EscapedPath())
		r.URL.Path, r.URL.RawPath = "/triggers/a/b", ""
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(under.Close)
	tower := open(t, under.URL+"/tower%2Fone")
	_, err := tower.Look(t.Context(), "a/b")
	require.NoError(t, err)
}

func TestATriggerThatIsMissingIsLookedForAWhile(t *testing.T) {
	m := missing{patience: time.Minute}
	start := time.Unix(1_000_000, 0)
	gone := &unfitError{resultMissing, "HTTP 404: Trigger not found"}
	at := func(after time.Duration) *NotFound { return m.note("u", gone, start.Add(after)) }
	first := at(0)
	require.Equal(t, NotFound{Code: CodeMissing, Until: start.Add(time.Minute),
		Reason: "the control tower has no trigger for this uuid: HTTP 404: Trigger not found, for 0s"}, *first)
	require.False(t, at(59*time.Second).Final)
	require.True(t, at(time.Minute).Final)
	require.True(t, at(2*time.Minute).Final, "each further row costs a request, and no patience")
	require.False(t, m.note("v", gone, start.Add(2*time.Minute)).Final, "of another uuid nothing is known")
	require.False(t, at(5*time.Minute).Final, "after a pause it is looked for anew")
	m.forget("u")
	require.False(t, at(6*time.Minute).Final, "it was there meanwhile")
}

func TestWhatIsRememberedOfMissingTriggersIsBounded(t *testing.T) {
	m := missing{patience: time.Minute}
	for i := range maxMissing + 10 {
		_ = m.note(fmt.Sprint(i), &unfitError{resultMissing, "HTTP 404"}, time.Unix(1_000_000, 0))
	}
	require.LessOrEqual(t, len(m.since), maxMissing/2+10)
}

func TestWhatTheTowerAnswersDecidesAboutTheRows(t *testing.T) {
	type want struct {
		missing string // code; empty: trouble
		says    string
		after   time.Duration
	}
	other := controltower.Start(t)
	for name, c := range map[string]struct {
		fault controltower.Fault
		want
	}{
		"unknown uuid":                  {controltower.Fault{}, want{missing: CodeMissing, says: "HTTP 404: Trigger not found"}},
		"its own failure":               {controltower.Fault{OwnFailure: true}, want{missing: CodeMissing, says: "HTTP 404: the database of the control tower cannot be reached"}},
		"422":                           {controltower.Fault{Status: 422, Body: `{"detail":[{"loc":["path","uuid"],"msg":"16 digits"}]}`}, want{missing: CodeMissing, says: `HTTP 422: [{"loc":["path","uuid"],"msg":"16 digits"}]`}},
		"another uuid's":                {controltower.Fault{Body: `{"uuid":"v"}`}, want{missing: CodeInvalid, says: `the trigger of another uuid, "v"`}},
		"a uuid that is no text":        {controltower.Fault{Body: `{"uuid":null}`}, want{missing: CodeInvalid, says: "the trigger of another uuid, null"}},
		"too large":                     {controltower.Fault{Body: `{"spec":"` + strings.Repeat("x", maxTrigger) + `"}`}, want{missing: CodeInvalid, says: "more than 4194304 bytes"}},
		"a login page":                  {controltower.Fault{Body: "<html>Log in</html>"}, want{says: "no JSON object; is it a control tower?"}},
		"a list":                        {controltower.Fault{Body: "[]"}, want{says: "no JSON object"}},
		"null":                          {controltower.Fault{Body: "null"}, want{says: "no JSON object"}},
		"nothing":                       {controltower.Fault{Status: 204}, want{says: "answers HTTP 204"}},
		"500":                           {controltower.Fault{Status: 500, Body: "Internal Server Error"}, want{says: "answers HTTP 500: Internal Server Error"}},
		"503 with a time":               {controltower.Fault{Status: 503, Header: http.Header{"Retry-After": {"7"}}}, want{says: "answers HTTP 503", after: 7 * time.Second}},
		"429 with a time that is long":  {controltower.Fault{Status: 429, Header: http.Header{"Retry-After": {"86400"}}}, want{says: "answers HTTP 429", after: maxRetryAfter}},
		"401":                           {controltower.Fault{Status: 401, Body: `{"detail":"who are you?"}`}, want{says: "refuses the request (HTTP 401: who are you?): RIVERGATE_CONTROL_TOWER_TOKEN"}},
		"cut off":                       {controltower.Fault{Cut: true}, want{says: "breaks off its answer"}},
		"too slow":                      {controltower.Fault{Hang: true}, want{says: "does not answer within 50ms"}},
		"redirected to another host":    {controltower.Fault{Location: other.URL() + "/triggers/u"}, want{says: "redirects to another host, " + other.URL()}},
		"redirected without end":        {controltower.Fault{Location: "/triggers/u"}, want{says: "redirects again and again"}},
		"a text of several lines, long": {controltower.Fault{Status: 500, Body: "a\x1b[31m\nb " + strings.Repeat("c", 1000)}, want{says: `answers HTTP 500: a\x1b[31m b ccc`}},
	} {
		t.Run(name, func(t *testing.T) {
			server := controltower.Start(t)
			server.Break(c.fault)
			tower := open(t, server.URL(), func(o *Options) {
				if c.fault.Hang {
					o.Timeout = 50 * time.Millisecond
				}
			})
			found, err := tower.Look(t.Context(), "u")
			require.Nil(t, found)
			require.ErrorContains(t, err, c.says)
			require.Less(t, len(err.Error()), 400)
			var missing *NotFound
			var trouble *Trouble
			if c.missing != "" {
				require.ErrorAs(t, err, &missing)
				require.Equal(t, c.missing, missing.Code)
				require.False(t, missing.Final)
			} else {
				require.ErrorAs(t, err, &trouble)
				require.Equal(t, c.after, trouble.After)
				require.ErrorContains(t, err, "the control tower at "+server.URL())
			}
			server.Mend()
			require.NoError(t, server.Put(controltower.Plain("u")))
			_, err = tower.Look(t.Context(), "u")
			require.NoError(t, err, "an attempt that failed is not remembered")
		})
	}
	require.Empty(t, other.Asked(), "no other host is asked")
}

func TestATowerThatIsDownIsInTroubleAndComesBack(t *testing.T) {
	server := controltower.Start(t)
	require.NoError(t, server.Put(controltower.Plain("u")))
	tower := open(t, server.URL())
	server.Down()
	_, err := tower.Look(t.Context(), "u")
	var trouble *Trouble
	require.ErrorAs(t, err, &trouble)
	require.ErrorContains(t, err, "connection refused")
	require.NoError(t, server.Up())
	_, err = tower.Look(t.Context(), "u")
	require.NoError(t, err)
	require.InDelta(t, 1, testutil.ToFloat64(tower.metrics.lookups.WithLabelValues(resultFailed)), 0)
}

func TestTheTokenIsSentAndNothingSecretIsTold(t *testing.T) {
	server := controltower.Start(t)
	require.NoError(t, server.Put(controltower.Plain("u")))
	tower := open(t, server.URL(), func(o *Options) { o.Token = "s3cret" })
	_, err := tower.Look(t.Context(), "u")
	require.NoError(t, err)
	require.True(t, server.Authorized("Bearer s3cret"))

	server.Down()
	tower = open(t, strings.Replace(server.URL(), "http://", "http://me:pa55word@", 1))
	_, err = tower.Look(t.Context(), "u")
	require.ErrorContains(t, err, "http://me:xxxxx@")
	require.NotContains(t, err.Error(), "pa55word")
}

func TestTheCacheIsBoundedByBytes(t *testing.T) {
	server := controltower.Start(t)
	tower := open(t, server.URL(), func(o *Options) { o.CacheBytes = 20_000 })
	for i := range 100 {
		uuid := fmt.Sprint("u", i)
		server.PutDocument(uuid, fmt.Appendf(nil, `{"uuid":%q,"spec":%q}`, uuid, strings.Repeat("x", 1000)))
		_, err := tower.Look(t.Context(), uuid)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, testutil.ToFloat64(tower.metrics.cacheBytes), 20_000.0)
	require.Greater(t, testutil.ToFloat64(tower.metrics.cacheBytes), 10_000.0)
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	server := controltower.Start(t)
	server.Break(controltower.Fault{Hang: true})
	tower := open(t, server.URL())
	failed := make(chan error, 1)
	go func() { _, err := tower.Look(context.Background(), "u"); failed <- err }()
	require.Eventually(t, func() bool { return server.Requests("u") == 1 }, 10*time.Second, time.Millisecond)
	tower.Close()
	require.Error(t, <-failed)
	_, err := tower.Look(t.Context(), "u")
	require.True(t, errors.Is(err, errClosed), "%v", err)
}

func TestAnAddressThatIsNoneIsRefused(t *testing.T) {
	for address, reason := range map[string]string{
		"http://127.0.0.1:8000": "", "https://tower.example/api/": "", "http://[::1]:80": "",
		"127.0.0.1:8000": "is not an address", "tower": "must begin with http", "ftp://tower": "must begin with http",
		"http://": "names no host", "http://tower?x=1": "must end with its path", "http://tower/#x": "must end with its path",
		"http://me:pa55word@tower:port": "is not an address",
	} {
		got := CheckURL(address)
		require.NotContains(t, got, "pa55word")
		if reason == "" {
			require.Empty(t, got, address)
		} else {
			require.Contains(t, got, reason, address)
		}
	}
}
