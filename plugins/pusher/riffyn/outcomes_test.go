package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/pusher/riffyn/riffynfake"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
	declared "github.com/rivergate/rivergate/sdk/schema"
	"github.com/rivergate/rivergate/sdk/settings"
)

func TestRowsOfOtherSourcesAreSkipped(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	for doc, reason := range map[string]string{
		`{"uuid":"u"}`:                 "the trigger has no metadata",
		`{"uuid":"u","metadata":null}`: "the trigger has no metadata",
		`{"uuid":"u","metadata":{"source":"service.control-tower.api","spec":{}}}`: `the trigger comes from "service.control-tower.api", not from riffyn`,
		`{"uuid":"u","metadata":{"spec":{}}}`:                                      `the trigger comes from "", not from riffyn`,
	} {
		outcomes := h.Deliver(frame([]byte(doc), rows(2)...))
		all(t, outcomes, 2, sdk.Skipped, "skipped")
		require.Equal(t, reason, outcomes[0].Message)
	}
	require.Zero(t, l.Calls(riffynfake.Activity))
}

func TestATriggerThatNamesNoRunIsRejectedWithTheReason(t *testing.T) {
	l := newLab(t, 2)
	h := l.start()
	good := l.spec(l.runs[0])
	for name, c := range map[string]struct {
		trigger []byte
		reason  string
	}{
		"no JSON":       {[]byte(`{"uuid"`), "cannot be read"},
		"no spec":       {[]byte(`{"metadata":{"source":"riffyn"}}`), "has no metadata.spec"},
		"null":          {[]byte(`{"metadata":{"source":"riffyn","spec":null}}`), "has no metadata.spec"},
		"a text":        {trigger(t, nil, "run"), "metadata.spec that cannot be read"},
		"no run":        {trigger(t, nil, spec{"experimentId": l.experiment, "activityId": l.activity}), `the runId "", which is no id`},
		"a path":        {trigger(t, nil, spec{"experimentId": "../x", "activityId": l.activity, "runId": l.runs[0]}), `the experimentId "../x", which is no id`},
		"a bad well":    {trigger(t, nil, []any{good, spec{}}), "well 1: the trigger has the experimentId"},
		"a plate of 0":  {trigger(t, map[string]int{"rows": 0, "columns": 12}, good), "a plate of 0 × 12 wells"},
		"a giant plate": {trigger(t, map[string]int{"rows": 1 << 40, "columns": 1 << 40}, good), "a plate of"},
	} {
		outcomes := h.Deliver(plugintest.Indexed(frame(c.trigger, rows(1)...), 0))
		all(t, outcomes, 1, sdk.Rejected, "bad_trigger")
		require.Contains(t, outcomes[0].Message, c.reason, name)
	}
	all(t, h.Deliver(frame(nil, rows(1)...)), 1, sdk.Retry, "no_trigger")
	require.Empty(t, l.Events(l.runs[0]))
}

func TestAListWithoutAPlateHasAsManyWellsAsEntries(t *testing.T) {
	l := newLab(t, 2)
	h := l.start()
	list := trigger(t, nil, []any{l.spec(l.runs[0]), nil, l.spec(l.runs[1])})
	outcomes := byRow(h.Deliver(plugintest.Indexed(frame(list, rows(5)...), 2, 0, 1, 3, protocol.NoIndex)))
	require.Len(t, outcomes, 3)
	require.Equal(t, sdk.Skipped, outcomes[2].Class)
	require.Equal(t, "no_well", outcomes[3].Code)
	require.Equal(t, "no_index", outcomes[4].Code)
	require.Equal(t, events(5)[:1], l.Events(l.runs[1]))
	require.Equal(t, events(5)[1:2], l.Events(l.runs[0]))
	// A list of one leaves nothing to choose.
	require.Empty(t, h.Deliver(frame(trigger(t, nil, []any{l.spec(l.runs[0])}), rows(1)...)))
	// A plate with more wells than entries.
	outcomes = byRow(h.Deliver(plugintest.Indexed(frame(l.plate(2, 2, l.runs...), rows(2)...), 1, 3)))
	require.Equal(t, "well 3 has no entry in metadata.spec of the trigger, which lists 2", outcomes[1].Message)
}

func TestAPlateWithOneRunTakesAllItsWells(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	one := trigger(t, map[string]int{"rows": 2, "columns": 2}, l.spec(l.runs[0]))
	require.Empty(t, h.Deliver(plugintest.Indexed(frame(one, rows(4)...), 3, protocol.NoIndex, 0, 0)))
	require.Equal(t, events(4), l.Events(l.runs[0]))
}

func TestValuesAreTextsAndInstantsHaveMillisecondsAndZ(t *testing.T) {
	l := newLab(t, 1, "Start time", "N", "Flag", "Nested", "Text")
	h := l.start()
	require.Empty(t, h.Deliver(frame(l.single(),
		`{"startTime":"2026-01-02T03:04:05+01:00","n":1.500,"flag":true,"nested":{"a":[1,2]},"text":"2026-01-02"}`,
		`{"startTime":"2026-01-02T02:04:05.6789Z","n":-0,"flag":"","text":"<&> \u00e9 \ud83d\ude00"}`)))
	require.Equal(t, []map[string]string{
		{"Start time": "2026-01-02T02:04:05.000Z", "N": "1.500", "Flag": "true", "Nested": `{"a":[1,2]}`, "Text": "2026-01-02"},
		{"Start time": "2026-01-02T02:04:05.678Z", "N": "-0", "Flag": "", "Text": "<&> é 😀"},
	}, l.Events(l.runs[0]))
}

func TestMembersThatNoPropertyAnswersTo(t *testing.T) {
	l := newLab(t, 1, "Time elapsed", "OD measured", "Od Measured")
	odd := `{"timeElapsed":"1","colour":"green","shape":null}`
	h := l.start()
	outcomes := h.Deliver(frame(l.single(), odd, `{"timeElapsed":"2","odMeasured":"1"}`, `{"timeElapsed":"3","odMeasured":null}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, "unknown_member", outcomes[0].Code)
	require.Equal(t, "ambiguous_member", outcomes[1].Code)
	l.set("unknown_members", "ignore")
	require.Empty(t, h.Configure(l.config))
	h.Reopen()
	require.Empty(t, h.Deliver(frame(l.single(), odd)))
	require.Equal(t, []map[string]string{{"Time elapsed": "3"}, {"Time elapsed": "1"}}, l.Events(l.runs[0]))
}

func TestARefusedRowIsRejectedAloneWithRiffynsOwnReason(t *testing.T) {
	l := newLab(t, 1)
	l.Refuse(func(property, value string) bool { return property == "Time elapsed" && value == "50" })
	h := l.start()
	f := frame(l.single(), rows(16)...)
	outcomes := h.Deliver(f)
	all(t, outcomes, 1, sdk.Rejected, "http_422")
	require.Equal(t, 5, outcomes[0].Row)
	require.Contains(t, outcomes[0].Message, `Time elapsed cannot be \"50\"`)
	want := events(16)
	require.Equal(t, append(want[:5:5], want[6:]...), l.Events(l.runs[0]), "the others, in order")
}

func TestABatchThatIsRefusedThroughoutIsGivenUpEarly(t *testing.T) {
	l := newLab(t, 1)
	l.Refuse(func(string, string) bool { return true })
	h := l.start()
	all(t, h.Deliver(frame(l.single(), rows(500)...)), 500, sdk.Rejected, "http_422")
	require.Less(t, l.Calls(riffynfake.Append), 100)
}

func TestWhatIsTooLargeIsSplitAndAllArrives(t *testing.T) {
	l := newLab(t, 1)
	l.LimitBody(600)
	h := l.start()
	require.Empty(t, h.Deliver(frame(l.single(), rows(60)...)))
	require.Equal(t, events(60), l.Events(l.runs[0]))
	outcomes := h.Deliver(frame(l.single(), row("600", strings.Repeat("9", 600)), row("610", "1")))
	all(t, outcomes, 1, sdk.Rejected, "http_413")
	require.Equal(t, 0, outcomes[0].Row)
	require.Equal(t, event("610", "1"), l.Events(l.runs[0])[61])
}

func TestEachAnswerHasItsOutcome(t *testing.T) {
	for _, kind := range []riffynfake.Kind{riffynfake.Activity, riffynfake.Append, riffynfake.Fill} {
		for status, want := range map[int]struct {
			class protocol.Class
			code  string
			after time.Duration
		}{
			401: {sdk.Unauthenticated, "http_401", 0},
			403: {sdk.Unauthenticated, "http_403", 0},
			404: {sdk.Rejected, "http_404", 0},
			408: {sdk.Retry, "http_408", 7 * time.Second},
			429: {sdk.Throttled, "http_429", 7 * time.Second},
			405: {sdk.Retry, "http_405", 7 * time.Second},
			500: {sdk.Retry, "http_500", 7 * time.Second},
			503: {sdk.Retry, "http_503", 7 * time.Second},
			301: {sdk.Retry, "http_301", 7 * time.Second},
		} {
			t.Run(fmt.Sprintf("%d to %s", status, kind), func(t *testing.T) {
				l := newLab(t, 1)
				h := l.start()
				fault := riffynfake.Fault{Kind: kind, Status: status, Body: "because " + key + "\n of\u0000 it"}
				if want.after > 0 {
					fault.RetryAfter = want.after
				}
				l.Inject(fault)
				f := frame(l.single(), rows(2)...)
				outcomes := h.Deliver(f)
				all(t, outcomes, 2, want.class, want.code)
				require.Contains(t, outcomes[0].Message, fmt.Sprintf("answered %d", status))
				require.Contains(t, outcomes[0].Message, "because *** of it")
				require.Equal(t, want.after, outcomes[0].RetryAfter)
				if status == 401 || status == 403 {
					require.ErrorContains(t, h.Health(), "set API_KEY, and HEADER")
				}
				require.Empty(t, h.Deliver(f), "later all is well")
				require.Equal(t, events(2), l.Events(l.runs[0]))
				require.NoError(t, h.Health())
			})
		}
	}
}

func TestWrongCredentialsHoldEverything(t *testing.T) {
	l := newLab(t, 1)
	l.SetKey("another")
	h := l.start()
	f := frame(l.single(), rows(2)...)
	all(t, h.Deliver(f), 2, sdk.Unauthenticated, "http_401")
	l.SetKey(key)
	require.Empty(t, h.Deliver(f))
}

func TestAnAccessTokenStandsInForTheKey(t *testing.T) {
	l := newLab(t, 1)
	l.RequireHeader("access-token")
	all(t, l.start().Deliver(frame(l.single(), rows(1)...)), 1, sdk.Unauthenticated, "http_401")
	h := l.set("header", "access-token", "checkpoint_dir", t.TempDir()).start()
	require.Empty(t, h.Deliver(frame(l.single(), rows(1)...)))
}

func TestOneRunThatFailsHoldsNoOther(t *testing.T) {
	l := newLab(t, 3)
	h := l.start()
	l.Inject(riffynfake.Fault{Kind: riffynfake.Append, Run: l.runs[0], Status: 500})
	f := plugintest.Indexed(frame(l.plate(1, 3, l.runs...), rows(6)...), 0, 1, 2, 0, 1, 2)
	outcomes := byRow(h.Deliver(f))
	require.Len(t, outcomes, 2)
	require.Equal(t, "http_500", outcomes[0].Code)
	require.Equal(t, "http_500", outcomes[3].Code, "its later rows wait")
	require.Len(t, l.Events(l.runs[1]), 2)
	require.Len(t, l.Events(l.runs[2]), 2)
}

func TestASlowServerIsNoWedgedPlugin(t *testing.T) {
	l := newLab(t, 3).set("request_timeout", "1s", "concurrency", 1)
	h := l.start()
	l.Inject(riffynfake.Fault{Kind: riffynfake.Append, Run: l.runs[0], Hang: true})
	f := plugintest.Indexed(frame(l.plate(1, 3, l.runs...), rows(3)...), 0, 1, 2)
	outcomes := byRow(h.Deliver(f))
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "timeout", outcomes[0].Code)
	for _, n := range []int{1, 2} {
		require.Equal(t, sdk.Throttled, outcomes[n].Class, "not tried: counts no attempt")
		require.Equal(t, "not_sent", outcomes[n].Code)
	}
	require.Empty(t, h.Deliver(f))
}

func TestAPropertyThatIsNewIsFoundBeforeARowIsRejectedForIt(t *testing.T) {
	l := newLab(t, 1)
	now := time.Now()
	r := &Riffyn{APIKey: key, Header: "api-key", URL: l.config["url"].(string), CheckpointDir: t.TempDir(), CheckpointKeep: time.Hour, RequestTimeout: 5 * time.Second,
		Concurrency: 1, ActivityTTL: time.Hour, UnknownMembers: "reject"}
	require.NoError(t, r.Open(t.Context(), sdk.Env{Instance: "test"}))
	defer func() { require.NoError(t, r.Close(t.Context())) }()
	r.activities.now, r.api.now = func() time.Time { return now }, func() time.Time { return now }
	get := func(maxAge time.Duration) *activity {
		act, f := r.activities.get(t.Context(), place{l.experiment, l.activity}, maxAge)
		if f != nil {
			require.NoError(t, f.err)
		}
		return act
	}
	require.Len(t, get(time.Hour).properties, 4)
	l.AddProperty(l.experiment, l.activity, "Colour")
	now = now.Add(minAge)
	require.Len(t, get(minAge).properties, 4, "it is asked for no more than every half minute")
	now = now.Add(time.Second)
	require.Len(t, get(time.Hour).properties, 4)
	d := &delivery{Riffyn: r, batch: &sdk.Batch{Batch: protocol.Batch{Frames: []protocol.Frame{frame(l.single(), `{"timeElapsed":"1","colour":"green"}`)}}}, until: time.Now().Add(time.Minute)}
	r.now = func() time.Time { return now }
	for row := range d.batch.Rows() {
		rec := &record{row: row}
		d.check(t.Context(), []*run{{to: target{place{l.experiment, l.activity}, l.runs[0]}, records: []*record{rec}}})
		require.False(t, rec.rejected)
		require.Equal(t, []cell{{4, "green"}}, rec.cells)
	}
	require.Equal(t, 2, l.Calls(riffynfake.Activity))
}

func TestEventsAreMatchedByTheirValues(t *testing.T) {
	ids, ok := assign([]string{"2", "1", "2.0", "x", "2026-01-02T03:04:05.000Z"},
		[]seen{{"e5", "x"}, {"e4", "2.0"}, {"e3", "2026-01-02T03:04:05Z"}, {"e2", "1.0"}, {"e1", "2"}})
	require.True(t, ok)
	require.Equal(t, []string{"e1", "e2", "e4", "e5", "e3"}, ids)
	for _, events := range [][]seen{nil, {{"e1", "1"}}, {{"e1", "1"}, {"e2", "3"}}, {{"e1", "1"}, {"", "2"}}} {
		_, ok := assign([]string{"1", "2"}, events)
		require.False(t, ok)
	}
}

func TestAnAnswerThatNamesOtherEventsIsNeverFollowedByAnotherAppend(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	l.Inject(riffynfake.Fault{Kind: riffynfake.Append, Written: true, Status: 200, Body: `[]`})
	f := frame(l.single(), rows(2)...)
	all(t, h.Deliver(f), 2, sdk.Rejected, "bad_answer")
	require.Empty(t, h.Deliver(f), "a replay finds the events")
	require.Equal(t, events(2), l.Events(l.runs[0]))
	require.Equal(t, 1, l.Calls(riffynfake.Append))
}

func TestRawDataOfAnUnknownFormAreNotTakenForNone(t *testing.T) {
	for body, decides := range map[string]bool{
		`[]`:          true,
		`{}`:          true,
		`{"data":[]}`: true,
		`{"data":[{"group":"g","values":["0"]}]}`: false,
		`[1,2]`:                       false,
		`[{"eventId":1,"value":"0"}]`: false,
		`not JSON`:                    false,
		`{"runs":[{"runId":"another","eventGroupId":"g","propertyTypeId":"p","data":[{"eventId":1,"value":"0"}]}]}`: true,
	} {
		l := newLab(t, 1)
		h := l.start()
		l.Inject(riffynfake.Fault{Kind: riffynfake.Append}, riffynfake.Fault{Kind: riffynfake.Raw, Status: 200, Body: body})
		f := frame(l.single(), rows(1)...)
		all(t, h.Deliver(f), 1, sdk.Retry, "network")
		outcomes := h.Deliver(f)
		if decides {
			require.Empty(t, outcomes, body)
			require.Equal(t, 2, l.Calls(riffynfake.Append), body)
			continue
		}
		all(t, outcomes, 1, sdk.Retry, "bad_answer")
		require.Equal(t, 1, l.Calls(riffynfake.Append), body)
	}
}

func TestConfigurationErrorsNameTheVariable(t *testing.T) {
	for _, c := range []struct {
		config        map[string]any
		field, reason string
	}{
		{map[string]any{"api_key": "two\nlines"}, "api_key", "no header may hold"},
		{map[string]any{"api_key": key, "url": "https:///v1"}, "url", "must start with http"},
		{map[string]any{"api_key": key, "url": "https://me:" + key + "@host/v1"}, "url", "hold no user"},
		{map[string]any{"api_key": key, "checkpoint_dir": "/dev/null/x"}, "checkpoint_dir", "not a directory"},
	} {
		if c.config["checkpoint_dir"] == nil {
			c.config["checkpoint_dir"] = t.TempDir()
		}
		problems := plugintest.Connect(t, plugin).Configure(c.config)
		require.Len(t, problems, 1, "%+v", c.config)
		require.Equal(t, c.field, problems[0].Field)
		require.Contains(t, problems[0].Reason, c.reason)
		require.NotContains(t, problems[0].Reason, key)
	}
}

// What the schema says is said before anything starts, by rivergate check.
func TestTheSchemaNamesWhatIsWrong(t *testing.T) {
	text, err := settings.Schema(Riffyn{})
	require.NoError(t, err)
	for config, want := range map[string][2]string{
		`{}`: {"API_KEY", "is required"},
		`{"api_key":"k","header":"authorization"}`:           {"HEADER", "is none of"},
		`{"api_key":"k","url":"ftp://host/v1"}`:              {"URL", "does not match ^https?://"},
		`{"api_key":"k","control_tower_url":"http://tower"}`: {"CONTROL_TOWER_URL", "move the address to RIVERGATE_CONTROL_TOWER_URL and unset this one"},
	} {
		problems := declared.Validate(text, "PLUGIN_RIFFYN_", json.RawMessage(config))
		require.Len(t, problems, 1, config)
		require.Equal(t, "PLUGIN_RIFFYN_"+want[0], problems[0].Variable)
		require.Contains(t, problems[0].Reason, want[1])
	}
}

func FuzzATriggerNamesARunOrAReason(f *testing.F) {
	f.Add([]byte(`{"plate":{"rows":2,"columns":1},"metadata":{"source":"riffyn","spec":[{"experimentId":"e","activityId":"a","runId":"r"},null]}}`), 1)
	f.Add([]byte(`{"metadata":{"source":"riffyn","spec":{"experimentId":"e","activityId":"a","runId":"r"}}}`), -1)
	f.Fuzz(func(t *testing.T, raw []byte, index int) {
		way := newRoute(raw)
		to, skip, err := way.of(index, index >= 0)
		if (to != nil) == (skip != "" || err != nil) {
			t.Fatalf("neither or both of a target and a reason: %v %q %v", to, skip, err)
		}
		if to != nil && (to.run == "" || strings.Contains(to.experiment+to.activity, "/")) {
			t.Fatalf("%+v", to)
		}
	})
}
