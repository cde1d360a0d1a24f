package conformance

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// misbehaviour is a plugin of plugins/testdata that breaks one rule, or none, in one way.
type misbehaviour struct {
	binary string
	env    []string
	config map[string]any
	breaks string // the rule; empty: none
	says   string // what the explanation holds
	judges string // a rule that others skip, and this one passes
	silent bool   // it is waited for until the timeout, which is therefore shorter
}

func lie(name, breaks, says string) misbehaviour {
	return misbehaviour{binary: "lying", env: []string{"WATCH=1", "LIE=" + name}, breaks: breaks, says: says}
}

func silent(m misbehaviour) misbehaviour {
	m.silent = true
	return m
}

func misbehaviours(t *testing.T) []misbehaviour {
	notAPlugin := func(how, says string) misbehaviour {
		return misbehaviour{binary: "notaplugin", env: []string{"NOTAPLUGIN=" + how}, breaks: "handshake", says: says}
	}
	announces := func(line, says string) misbehaviour {
		return misbehaviour{binary: "notaplugin", env: []string{"NOTAPLUGIN=handshake", "HANDSHAKE=" + line}, breaks: "handshake", says: says}
	}
	locked := func(m misbehaviour) misbehaviour {
		m.env = append(m.env, "LOCK="+filepath.Join(t.TempDir(), "lock"))
		return m
	}
	return []misbehaviour{
		notAPlugin("greet", `the first line on its standard output is "Hello, world"`),
		notAPlugin("fail", "exit status 4 (cannot find my configuration)"),
		notAPlugin("silent", "exit status 0"),
		silent(notAPlugin("hang", `it runs on; the first line on its standard output is "Hello, I am a server and listen for ever"`)),
		announces("1|1|unix|/tmp/elsewhere|grpc", "PLUGIN_UNIX_SOCKET_DIR"),
		announces("1|1|tcp|0.0.0.0:7000|grpc", "loopback"),
		announces("1|99|tcp|127.0.0.1:7000|grpc", "one of the offered protocol versions"),
		announces("2|1|tcp|127.0.0.1:7000|grpc", "core protocol version"),
		announces("1|1|tcp|127.0.0.1:7000|netrpc", "fifth field"),

		lie("", "", ""),
		lie("tcp", "", ""),
		lie("zero-window", "", ""), // 0 means no change
		lie("prints", "stdout", "a banner that nobody asked for"),
		{binary: "chatty", config: map[string]any{"line": "64KiB"}, breaks: "stdout", says: "noise"},
		lie("version", "version", "99"),
		silent(lie("mute", "describe", "nothing")),
		lie("kind", "describe", "engine"),
		lie("changing", "describe", "two that differ"),
		lie("schema", "schema", "/type"),
		lie("strict", "unknown-fields", "what is this?"),
		lie("refuses", "configure", "path: cannot be written"),
		{binary: "crash", config: map[string]any{"crash_at_open": true}, breaks: "configure", says: "panic: poison"},
		lie("careless", "bad-configuration", "no problem"),
		silent(lie("wedged", "deadlines", "Health")),
		silent(lie("unwell", "health", "I feel unwell")),
		lie("forgetful", "health", "Health of a configured instance"),
		lie("any-instance", "health", "NOT_FOUND"),
		silent(lie("deaf", "outcomes", "batch 1")),
		lie("future-ack", "outcomes", "were sent"),
		lie("back-ack", "outcomes", "is acknowledged after"),
		lie("double-ack", "outcomes", "a second one"),
		lie("unknown-rows", "outcomes", "which is not in batches up to 1"),
		lie("bad-class", "outcomes", "outcome class 77"),
		lie("no-class", "outcomes", "outcome class 0"),
		lie("twice", "outcomes", "a second one for row 0"),
		lie("huge-ack", "outcomes", "message"),
		{binary: "slow", config: map[string]any{"delay": "1h"}, breaks: "outcomes", says: "batch 1", silent: true},
		silent(lie("greedy", "window", "with one batch in flight")),
		silent(lie("half-packs", "packs", "with 8 batches in one message")),
		lie("unordered", "order", "delivered"),
		lie("no-repeat", "retry", "panic: that row was here before"),
		lie("no-reconfigure", "retry", "panic: configured already"),
		silent(lie("deaf-drain", "drain", "Drain")),
		lie("leaves-out", "drain", "after batch 1"),
		lie("remembers", "drain", "an instance that was drained"),
		locked(lie("stale-lock", "restart", "somebody else is at work")),
		locked(lie("exclusive", "overlap", "somebody else is at work")),
		lie("one-slot", "instances", "instance is not configured"),
		lie("choosy", "odd-bytes", "panic: a row is an object"),
		{binary: "crash", config: map[string]any{"crash_on": "odd"}, breaks: "odd-bytes", says: "panic: poison"},
		{binary: "hang", config: map[string]any{"hang_on": "odd"}, breaks: "odd-bytes", says: "nothing", silent: true},
		lie("spoilt", "triggers", "panic: a trigger has metadata"),
		lie("small", "large-batch", "a batch of 20 MiB"),
		silent(lie("ignores-term", "sigterm", "runs on")),
		{binary: "lying", breaks: "parent-death", says: "runs on"},
		{binary: "forker", config: map[string]any{"path": filepath.Join(t.TempDir(), "pids")}, breaks: "parent-death", says: "something does that it started"},

		{binary: "envdump"},
		{binary: "flaky", config: map[string]any{"share": 1}, judges: "order"},
		{binary: "sharing", judges: "instances"},
		{binary: "lying", env: []string{"WATCH=1", "LIE=trigger"}, judges: "triggers"},
		{binary: "hungry"},
		{binary: "witness", config: map[string]any{"path": filepath.Join(t.TempDir(), "rows")}},
	}
}

func (m misbehaviour) name() string {
	return strings.Join(append([]string{m.binary}, m.env...), " ")
}

// Nearly all of the time of this test is spent waiting for plugins that do not answer, so many run at once.
func TestEachMisbehavingPluginFailsExactlyTheRuleThatItBreaks(t *testing.T) {
	cases := misbehaviours(t)
	reports := make([]*Report, len(cases))
	var running errgroup.Group
	running.SetLimit(10)
	for i, m := range cases {
		binary := build(t, m.binary)
		running.Go(func() (err error) {
			opts := Options{Path: binary, Config: m.config, Env: m.env, Timeout: time.Minute} // a busy machine breaks no rule
			if m.silent {
				opts.Timeout = DefaultTimeout
			}
			reports[i], err = Run(t.Context(), opts)
			return err
		})
	}
	require.NoError(t, running.Wait())

	broken := map[string]bool{}
	for i, m := range cases {
		t.Run(m.name(), func(t *testing.T) {
			var text bytes.Buffer
			require.NoError(t, reports[i].WriteText(&text))
			var failed []string
			for _, r := range reports[i].Failed() {
				failed = append(failed, r.Rule)
				require.Contains(t, r.Detail, m.says)
				require.NotEmpty(t, r.Change)
			}
			require.Equal(t, m.breaks, strings.Join(failed, " "), "%s", text.String())
			broken[m.breaks] = true
			for _, r := range reports[i].Results {
				require.True(t, r.Rule != m.judges || r.Status == Pass, "%+v", r)
			}
		})
	}
	for _, r := range Rules() {
		require.True(t, broken[r.ID] || r.ID == "logs" || r.Kind == protocol.KindStorage, "no plugin of the table breaks the rule %s", r.ID)
	}
}

func TestRulesNeedOnlyEarlierOnes(t *testing.T) {
	var earlier []string
	for _, r := range Rules() {
		require.NotContains(t, earlier, r.ID)
		require.NotEmpty(t, r.Title)
		require.NotEmpty(t, r.Contract)
		for _, needed := range r.Needs {
			require.True(t, slices.Contains(earlier, needed), "%s needs %s", r.ID, needed)
		}
		earlier = append(earlier, r.ID)
	}
}
