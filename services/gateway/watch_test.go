package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/api"
)

func TestADeliveryIsFoundByItsOwnOrgOnly(t *testing.T) {
	r := newRig(t, func(_ *Options, p *pushers) {
		p.progress = func(context.Context) []delivery.Progress {
			return []delivery.Progress{{Name: "file", State: "pending", Attempts: 2, LastError: "down"}}
		}
	})
	id := r.post("/data/batch", `{"uuid":"u","rows":[{"data":{}},{"data":{}}]}`, "X-Org-ID", "5").accepted().DeliveryID
	path := "/api/v1/gateway/deliveries/"
	d := data[DeliveryState](r.do(http.MethodGet, path+id, "", "X-Org-ID", "5"))
	require.Equal(t, id, d.DeliveryID)
	require.Equal(t, "u", d.UUID)
	require.Equal(t, 2, d.Rows)
	require.Equal(t, "down", d.Pushers[0].LastError)

	position, err := delivery.ParseDeliveryID(id)
	require.NoError(t, err)
	for _, other := range []string{id + "1", delivery.DeliveryID(position + 1), delivery.DeliveryID(position + 2), "dlv-", "x"} {
		r.do(http.MethodGet, path+other, "", "X-Org-ID", "5").refused(404)
	}
	r.do(http.MethodGet, path+id, "", "X-Org-ID", "6").refused(404)
}

// gone is a journal that has let everything go.
type gone struct{ journal.Journal }

func (gone) Lookup(context.Context, uint64) (*journal.Record, error) { return nil, journal.ErrGone }

func TestADeliveryThatTheJournalHasLetGo(t *testing.T) {
	r := newRig(t, func(o *Options, _ *pushers) { o.Journal = gone{} })
	r.do(http.MethodGet, "/api/v1/gateway/deliveries/dlv-1", "").refused(410)
}

// host plays the plugin host.
type host struct {
	list      []Plugin
	reload    error
	reloading Reloading
	cut       error
}

func (h host) Status() []Plugin { return h.list }
func (h host) Reload(_ context.Context, name string) error {
	if name == "none" {
		return ErrUnknownPlugin
	}
	return h.reload
}
func (h host) ReloadAll(context.Context) (Reloading, error) { return h.reloading, h.cut }

func TestPushersAreShownWithTheirProcesses(t *testing.T) {
	r := newRig(t, func(o *Options, p *pushers) {
		o.Plugins = host{list: []Plugin{
			{Name: "file", Kind: "pusher", Binary: "rivergate-pusher-file", Version: "1.2", SHA256: "ab", State: "running", Restarts: 3},
			{Name: "http", Kind: "pusher", State: "running"}, {Name: "pg", Kind: "pusher", State: "crash_loop", Reason: "exit status 2", LastError: "boom"},
			{Name: "held", Kind: "pusher", State: "running", Condition: "silent", Reason: "no answer"}, {Name: "old", Kind: "storage", State: "running"},
		}}
		p.statuses = []delivery.Status{
			{Name: "file", LagRows: 5, LagBytes: 50, OldestAge: 1500 * time.Millisecond, DeliveredTotal: 7, DeadTotal: 1, RowsPerSecond: 2.345, LastError: "once",
				Window: 2, Condition: "slow", ConditionReason: "a batch takes 40s"},
			{Name: "http", Blocked: "credentials are wrong"}, {Name: "pg"}, {Name: "held", Paused: true}, {Name: "old", Disabled: true}, {Name: "lost"},
		}
	})
	list := data[PusherList](r.do(http.MethodGet, "/api/v1/gateway/pushers", "")).Pushers
	require.Equal(t, Pusher{
		Name: "file", Binary: "rivergate-pusher-file", Version: "1.2", SHA256: "ab", State: "running", LagRows: 5, LagBytes: 50, OldestAgeMS: 1500,
		DeliveredTotal: 7, DeadTotal: 1, RowsPerSecond: 2.35, Restarts: 3, LastError: "once",
		Window: 2, Condition: "slow", ConditionReason: "a batch takes 40s",
	}, list[0])
	require.Equal(t, "silent: no answer", list[3].Condition+": "+list[3].ConditionReason, "the plugin host's word, where delivery has none")
	plugins := data[PluginList](r.do(http.MethodGet, "/api/v1/plugins", "")).Plugins
	require.Equal(t, 2, plugins[0].Window)
	require.Equal(t, "slow", plugins[0].Condition)
	states := map[string]string{}
	for _, p := range list {
		states[p.Name] = p.State + ": " + p.Reason
	}
	require.Equal(t, "backing_off: credentials are wrong", states["http"])
	require.Equal(t, "crash_loop: exit status 2", states["pg"])
	require.Equal(t, "boom", list[2].LastError)
	require.Contains(t, states["held"], "paused")
	require.Contains(t, states["old"], "disabled")
	require.Contains(t, states["lost"], "failed")
}

func TestPushersArePausedResumedAndForgottenByName(t *testing.T) {
	r := newRig(t, func(_ *Options, p *pushers) { p.statuses = []delivery.Status{{Name: "file", Paused: true}} })
	path := "/api/v1/gateway/pushers/"
	require.Equal(t, PusherName{"file", "paused"}, data[PusherName](r.post(path+"file/pause", "")))
	data[PusherName](r.post(path+"file/resume", ""))
	require.Equal(t, []string{"pause file", "resume file"}, r.pushers.steered)
	r.post(path+"none/pause", "").refused(404)
	r.do(http.MethodDelete, path+"file", "").refused(409)
	r.do(http.MethodDelete, path+"none", "").refused(404)
}

func TestPluginsAreListedAndReloaded(t *testing.T) {
	h := host{list: []Plugin{{Name: "file", Kind: "pusher", State: "running", PID: 12, ConfigSchema: json.RawMessage(`{"type":"object"}`)}}}
	r := newRig(t, func(o *Options, _ *pushers) { o.Plugins = h })
	a := r.do(http.MethodGet, "/api/v1/plugins", "")
	require.Contains(t, string(a.body), `"capabilities":[],"config_schema":{"type":"object"}`)
	require.Equal(t, 12, data[PluginList](a).Plugins[0].PID)
	require.Equal(t, "file", data[Reloaded](r.post("/api/v1/plugins/file/reload", "")).Plugin.Name)
	r.post("/api/v1/plugins/none/reload", "").refused(404)

	h.reload = errors.New("exit status 3 before the handshake")
	r = newRig(t, func(o *Options, _ *pushers) { o.Plugins = h })
	require.Contains(t, r.post("/api/v1/plugins/file/reload", "").refused(502).Message, "exit status 3")
}

func TestPluginsAreShownWithTheirLimitsAndTrust(t *testing.T) {
	limits := &PluginLimits{MemoryMax: 1 << 28, By: "cgroup v2", NotEnforced: []string{"cpu_max"}}
	h := host{list: []Plugin{{
		Name: "file", Kind: "pusher", State: "running", Condition: "silent", Reason: "no answer", Phase: "upgrading", Trust: "locked, signed",
		Limits: limits, SharedWith: []string{"lake"}, Attached: "127.0.0.1:7000",
	}, {Name: "plain", Kind: "pusher", State: "running"}}}
	r := newRig(t, func(o *Options, _ *pushers) { o.Plugins = h })
	a := r.do(http.MethodGet, "/api/v1/plugins", "")
	list := data[PluginList](a).Plugins
	want := h.list[0]
	want.Capabilities = []string{}
	require.Equal(t, want, list[0])
	require.Contains(t, string(a.body), `"limits":{"memory_max":268435456,"by":"cgroup v2","not_enforced":["cpu_max"]}`)
	require.NotContains(t, string(a.body[bytes.Index(a.body, []byte(`"plain"`)):]), "limits", "what does not hold is left out")
}

func TestTheConfigurationIsReadAgain(t *testing.T) {
	const path = "/api/v1/plugins/reload"
	h := host{reloading: Reloading{Started: []string{"lake"}, Failed: map[string]string{"file": "exit status 2"}, NeedsRestart: []string{"RIVERGATE_LISTEN"}}}
	r := newRig(t, func(o *Options, _ *pushers) { o.Plugins = h })
	a := r.post(path, "")
	require.JSONEq(t, `{"started":["lake"],"stopped":[],"replaced":[],"changed":[],"unchanged":[],"failed":{"file":"exit status 2"},
		"needs_restart":["RIVERGATE_LISTEN"],"warnings":[],"problems":[]}`, string(data[json.RawMessage](a)))

	h = host{reloading: Reloading{Problems: []ConfigProblem{
		{Variable: "PLUGIN_FIEL_ENABLED", Reason: "there is no plugin fiel", Nearest: "PLUGIN_FILE_ENABLED"}, {Variable: "RIVERGATE_LISTEN", Reason: "has no port"},
	}}}
	r = newRig(t, func(o *Options, _ *pushers) { o.Plugins = h })
	refused := r.post(path, "").refused(422)
	require.Contains(t, refused.Message, "nothing was changed")
	require.Equal(t, []api.FieldError{
		{Field: "PLUGIN_FIEL_ENABLED", Reason: "there is no plugin fiel; did you mean PLUGIN_FILE_ENABLED?"}, {Field: "RIVERGATE_LISTEN", Reason: "has no port"},
	}, refused.Details.Errors)

	r = newRig(t, func(o *Options, _ *pushers) { o.Plugins = host{cut: context.DeadlineExceeded} })
	r.post(path, "").refused(503)
}

const lettersPath = "/api/v1/gateway/dead-letters"

func letters() []delivery.DeadLetter {
	three := int32(3)
	return []delivery.DeadLetter{
		{ID: "dlq-c", Org: 1, Pusher: "file", DeliveryID: "dlv-1", UUID: "u", Index: &three, Data: json.RawMessage("{\"b\": 1.0,\n \"a\":\"<&>\"}"), Class: "rejected", Code: "http_422", Message: "no", Attempts: 1},
		{ID: "dlq-b", Org: 1, Pusher: "file", Data: json.RawMessage(`{}`), Class: "poison"},
		{ID: "dlq-a", Org: 1, Pusher: "file", Data: json.RawMessage(`{}`), Class: "poison"},
	}
}

func TestDeadLettersShowTheClientsOwnBytes(t *testing.T) {
	r := newRig(t, func(_ *Options, p *pushers) { p.letters = letters() })
	a := r.do(http.MethodGet, lettersPath+"?pusher=file&uuid=u&class=rejected&since=2026-01-01T00:00:00Z&until=2026-02-01T00:00:00%2B01:00&limit=1", "")
	require.Contains(t, string(a.body), "\"data\":{\"b\": 1.0,\n \"a\":\"<&>\"}}")
	page := data[api.List[DeadLetter]](a)
	require.Len(t, page.Items, 1)
	require.Equal(t, int32(3), *page.Items[0].Index)
	require.Equal(t, delivery.Filter{
		Org: 1, Pusher: "file", UUID: "u", Class: "rejected",
		Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Until: r.pushers.asked.Until,
	}, r.pushers.asked)
	require.Equal(t, time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC), r.pushers.asked.Until.UTC())

	page = data[api.List[DeadLetter]](r.do(http.MethodGet, lettersPath+"?limit=2&cursor="+page.NextCursor, ""))
	require.Equal(t, "dlq-b", page.Items[0].ID)
	require.Empty(t, page.NextCursor, "the end")

	one := data[DeadLetter](r.do(http.MethodGet, lettersPath+"/dlq-c", ""))
	require.Equal(t, "http_422", one.Code)
	r.do(http.MethodGet, lettersPath+"/dlq-c", "", "X-Org-ID", "2").refused(404)

	a = r.do(http.MethodGet, lettersPath+"/export", "")
	lines := strings.Split(strings.TrimSuffix(string(a.body), "\n"), "\n")
	require.Len(t, lines, 3, "one a line, whatever blanks the data have")
	require.Contains(t, lines[0], `"data":{"b": 1.0,  "a":"<&>"}}`)

	for query, field := range map[string]string{"limit=0": "limit", "limit=1001": "limit", "cursor=!": "cursor", "cursor=eA": "cursor", "since=yesterday": "since"} {
		require.Equal(t, field, r.do(http.MethodGet, lettersPath+"?"+query, "").refused(400).Details.Field)
	}
}

func TestDeadLettersAreReplayedAndDeletedByIDOrFilter(t *testing.T) {
	r := newRig(t, func(_ *Options, p *pushers) { p.letters = letters() })
	a := r.post(lettersPath+"/replay", `{"ids":["dlq-a","dlq-b"],"to":"http","rate_per_second":2.5}`, "X-Org-ID", "4")
	require.Equal(t, http.StatusAccepted, a.status)
	require.Equal(t, 3, data[Replayed](a).Replayed)
	require.Equal(t, delivery.Filter{Org: 4, IDs: []string{"dlq-a", "dlq-b"}}, r.pushers.asked)
	require.Equal(t, "http", r.pushers.to)
	require.InDelta(t, 2.5, r.pushers.rate, 0)

	require.Equal(t, 3, data[Deleted](r.do(http.MethodDelete, lettersPath, `{"filter":{"class":"poison"}}`)).Deleted)
	require.Equal(t, delivery.Filter{Org: 1, Class: "poison"}, r.pushers.asked)

	for body, want := range map[string]struct {
		status int
		field  string
	}{
		`{}`: {422, "ids"}, ``: {422, "ids"}, `{"ids":[],"to":"http"}`: {422, "ids"}, `{"ids":["a"],"filter":{}}`: {422, "filter"},
		`{"filter":{},"to":"none"}`: {422, "to"}, `{"filter":{},"rate_per_second":0}`: {422, "rate_per_second"},
		`{"ids":5}`: {400, "ids"}, `{"filter":{"since":"x"}}`: {400, "filter.since"}, `{`: {400, ""},
	} {
		require.Equal(t, want.field, r.post(lettersPath+"/replay", body).refused(want.status).Details.Field, body)
	}
	require.Equal(t, "The body must be an object, not array", r.post(lettersPath+"/replay", `[1]`).refused(400).Message)
}

func TestTheTailShowsRowsAsTheyHappen(t *testing.T) {
	r := newRig(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://rivergate/api/v1/gateway/tail?pusher=file&sample=0.5", nil)
	require.NoError(t, err)
	response, err := r.client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	lines := bufio.NewScanner(response.Body)
	next := func() string {
		for lines.Scan() {
			if lines.Text() != "" {
				return lines.Text()
			}
		}
		return ""
	}
	require.Equal(t, ": rows as they happen", next())
	require.Equal(t, delivery.TailOptions{Org: 1, Pusher: "file", Sample: 0.5}, r.pushers.tailed)
	r.pushers.events <- delivery.Event{Type: "delivered"}
	require.Equal(t, "event: delivered", next())
	require.True(t, strings.HasPrefix(next(), `data: {`))
	r.service.Hurry()
	require.Empty(t, next(), "the stream ends when the host stops")
	for _, bad := range []string{"0", "1.1", "NaN", "x"} {
		require.Equal(t, "sample", r.do(http.MethodGet, "/api/v1/gateway/tail?sample="+bad, "").refused(400).Details.Field)
	}
}

func TestAcceptedRowsAreCounted(t *testing.T) {
	r := newRig(t)
	r.post("/data/batch", `{"uuid":"u","rows":[{"data":{"a":1}},{"data":{"a":2}}]}`).accepted()
	require.InDelta(t, 2, r.metric("rivergate_intake_rows_total", ""), 0)
	require.InDelta(t, 14, r.metric("rivergate_intake_bytes_total", ""), 0)
	require.InDelta(t, 1, r.metric("rivergate_intake_requests_total", "202"), 0)
	require.InDelta(t, 1, r.metric("rivergate_intake_request_seconds", ""), 0)
}
