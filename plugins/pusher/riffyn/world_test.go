package main

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/plugins/pusher/riffyn/riffynfake"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "s3cret-key-of-a-user"

// lab is a fake Riffyn with an activity, and the plugin's configuration for it.
type lab struct {
	*riffynfake.Server
	t                    *testing.T
	config               map[string]any
	experiment, activity string
	runs                 []string
}

// newLab has an activity with two outputs, whose last one is the target, and that many runs.
func newLab(t *testing.T, runs int, properties ...string) *lab {
	t.Helper()
	if len(properties) == 0 {
		properties = []string{"Time elapsed", "OD measured", "OD setpoint", "Error"}
	}
	l := &lab{Server: riffynfake.New(key), t: t}
	l.experiment, l.activity, l.runs = l.AddActivity(runs,
		riffynfake.Output{Name: "other", Properties: []string{"Time elapsed", "Wrong output"}},
		riffynfake.Output{Name: "culture", Properties: properties})
	server := httptest.NewServer(l.Server)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // first: calls that hang end with their connections
	l.config = map[string]any{"api_key": key, "url": server.URL + "/v1", "checkpoint_dir": t.TempDir(), "settle": "0s", "request_timeout": "5s"}
	return l
}

func (l *lab) set(pairs ...any) *lab {
	for i := 0; i < len(pairs); i += 2 {
		l.config[pairs[i].(string)] = pairs[i+1]
	}
	return l
}

func (l *lab) start() *plugintest.Harness {
	l.t.Helper()
	return plugintest.Start(l.t, plugin, l.config)
}

type spec map[string]string

func (l *lab) spec(run string) spec {
	return spec{"experimentId": l.experiment, "activityId": l.activity, "runId": run}
}

// single is the trigger of one run without a plate.
func (l *lab) single() []byte { return trigger(l.t, nil, l.spec(l.runs[0])) }

// plate is the trigger of a plate, whose wells have the runs in turn; "" has none.
func (l *lab) plate(rows, columns int, runs ...string) []byte {
	list := make([]any, len(runs))
	for i, run := range runs {
		if run != "" {
			list[i] = l.spec(run)
		}
	}
	return trigger(l.t, map[string]int{"rows": rows, "columns": columns}, list)
}

func trigger(t *testing.T, plate, spec any) []byte {
	doc := map[string]any{"uuid": "5f2b8c01d4e97a36", "apiVersion": "1.0", "protocol": "test", "spec": map[string]any{},
		"metadata": map[string]any{"source": "riffyn", "spec": spec}}
	if plate != nil {
		doc["plate"] = plate
	}
	raw, err := json.Marshal(doc)
	require.NoError(t, err)
	return raw
}

func frame(trigger []byte, rows ...string) protocol.Frame {
	f := plugintest.Frame("5f2b8c01d4e97a36", rows...)
	f.Trigger = trigger
	return f
}

func row(time, od string) string {
	return fmt.Sprintf(`{"timeElapsed": %q, "odMeasured": %q, "odSetpoint": "0.5", "error": null}`, time, od)
}

func rows(n int) (list []string) {
	for i := range n {
		list = append(list, row(fmt.Sprint(10*i), fmt.Sprintf("0.%03d", i)))
	}
	return list
}

func event(time, od string) map[string]string {
	return map[string]string{"Time elapsed": time, "OD measured": od, "OD setpoint": "0.5"}
}

func events(n int) (list []map[string]string) {
	for i := range n {
		list = append(list, event(fmt.Sprint(10*i), fmt.Sprintf("0.%03d", i)))
	}
	return list
}

// byRow gives the outcomes of a single frame by row.
func byRow(outcomes []protocol.Outcome) map[int]protocol.Outcome {
	m := map[int]protocol.Outcome{}
	for _, o := range outcomes {
		m[o.Row] = o
	}
	return m
}

// all requires that every one of n rows has the class.
func all(t *testing.T, outcomes []protocol.Outcome, n int, class protocol.Class, code string) {
	t.Helper()
	require.Len(t, outcomes, n)
	for _, o := range outcomes {
		require.Equal(t, class, o.Class, "%+v", o)
		require.Equal(t, code, o.Code, "%+v", o)
		require.NotContains(t, o.Message, key)
	}
}
