package e2e

import (
	"context"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/pusher/riffyn/riffynfake"
	"github.com/rivergate/rivergate/services/gateway/trigger/controltower"
)

const riffynKey = "key-of-the-lab"

// withRiffyn enables the pusher riffyn with a server that keeps its rules, and a control tower.
func (w *world) withRiffyn() (*riffynfake.Server, *controltower.Tower) {
	w.t.Helper()
	fake := riffynfake.New(riffynKey)
	server := httptest.NewServer(fake)
	w.t.Cleanup(server.Close)
	w.t.Cleanup(server.CloseClientConnections) // first: calls that hang end with their connections
	tower := controltower.Start(w.t)
	w.set("RIVERGATE_CONTROL_TOWER_URL", tower.URL(),
		"PLUGIN_RIFFYN_ENABLED", "true", "PLUGIN_RIFFYN_API_KEY", riffynKey, "PLUGIN_RIFFYN_URL", server.URL+"/v1",
		"PLUGIN_RIFFYN_CHECKPOINT_DIR", filepath.Join(w.dir, "checkpoint"), "PLUGIN_RIFFYN_SETTLE", "500ms",
		"PLUGIN_RIFFYN_RETRY_MIN", "20ms", "PLUGIN_RIFFYN_RETRY_MAX", "500ms")
	return fake, tower
}

func riffynSpec(experiment, activity, run string) map[string]string {
	return map[string]string{"experimentId": experiment, "activityId": activity, "runId": run}
}

// riffynTrigger is a trigger as Riffyn makes them.
func riffynTrigger(uuid string, plate *controltower.Plate, spec any) controltower.Trigger {
	return controltower.Trigger{UUID: uuid, APIVersion: "v1", Protocol: "od", Plate: plate, Spec: map[string]any{},
		Metadata: &controltower.Metadata{Source: "riffyn", Spec: spec}}
}

// riffynEverywhere gives each uuid a run, whose properties are the members of the load's rows. The server stays up, and takes
// calls without answering, or answers that it cannot; the control tower goes away.
func riffynEverywhere(w *world) place {
	fake, tower := w.withRiffyn()
	runs := map[string]string{} // of each uuid
	return place{
		pusher: "riffyn", exact: true,
		env: map[string]string{"SETTLE": "5s"}, // the default: on a busy machine the server may be that late
		client: func(uuid string) {
			experiment, activity, made := fake.AddActivity(1, riffynfake.Output{Name: "load", Properties: []string{"Seq", "Pad"}})
			runs[uuid] = made[0]
			require.NoError(w.t, tower.Put(riffynTrigger(uuid, nil, riffynSpec(experiment, activity, made[0]))))
		},
		bounce: func(t *testing.T) {
			fake.Inject(riffynfake.Fault{Kind: riffynfake.Append, Written: true}, riffynfake.Fault{Kind: riffynfake.Append, Status: 502},
				riffynfake.Fault{Kind: riffynfake.Fill, Status: 503, Written: true})
			tower.Down()
			away(t)
			require.NoError(t, tower.Up())
		},
		arrived: func(t *testing.T) (all []delivery) {
			for uuid, run := range runs {
				for _, event := range fake.Events(run) {
					seq, err := strconv.Atoi(event["Seq"])
					require.NoError(t, err)
					require.Equal(t, row(seq, nil), `{"seq":`+event["Seq"]+`,"pad":"`+event["Pad"]+`"}`)
					all = append(all, delivery{rowID: rowID{uuid, seq}})
				}
			}
			return all
		},
	}
}

func TestTheTurbidostatRelayReachesItsRiffynRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	fake, tower := w.withRiffyn()
	properties := []string{"Time elapsed", "OD measured", "OD setpoint"}
	for i := range 44 {
		properties = append(properties, fmt.Sprintf("LED %dnm setpoint", 395+5*i))
	}
	properties = append(properties, "Error")
	experiment, activity, runs := fake.AddActivity(1, riffynfake.Output{Name: "waste", Properties: []string{"Volume"}}, riffynfake.Output{Name: "culture", Properties: properties})
	require.NoError(t, tower.Put(riffynTrigger(turbidostat, nil, riffynSpec(experiment, activity, runs[0]))))
	w.start()

	_, batch, _, failure := turbidostatTraffic()
	w.accepted("/data/batch", batch)
	w.accepted("/data", failure)
	w.accepted("/data/batch", batch) // after a crash of its own: a delivery of its own
	w.caughtUp(30*time.Second, "riffyn")
	require.Empty(t, w.deadLetters("riffyn"))

	var want []map[string]string
	for r := range 12 {
		event := map[string]string{}
		for c, property := range properties[:47] {
			event[property] = fmt.Sprintf("%d.%02d0", r, c)
		}
		want = append(want, event)
	}
	failed := map[string]string{"Error": `pump 2: no answer (Grüße, µ, é, "quoted")`}
	for _, property := range properties[:47] {
		failed[property] = ""
	}
	require.Equal(t, append(append(append([]map[string]string{}, want...), failed), want...), fake.Events(runs[0]))
	require.Equal(t, 1, tower.Requests(turbidostat), "defect 9: the trigger is looked up once")
	require.Equal(t, 1, fake.Calls(riffynfake.Activity), "and so is the activity")
}

func TestThePlateReaderRelayReachesTheRunOfEachWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	fake, tower := w.withRiffyn()
	experiment, activity, runs := fake.AddActivity(plateRows*plateColumns, riffynfake.Output{Name: "plate", Properties: []string{"Time elapsed", "Absorbance", "Error"}})
	var spec []any
	for _, run := range runs {
		spec = append(spec, riffynSpec(experiment, activity, run))
	}
	spec[40] = nil // an empty well
	require.NoError(t, tower.Put(riffynTrigger(plateReader, &controltower.Plate{Rows: plateRows, Columns: plateColumns}, spec)))
	w.start()

	_, wells, batch, bad, failure := plateReaderTraffic()
	w.accepted("/data/batch", batch)
	w.accepted("/data", failure)
	w.caughtUp(30*time.Second, "riffyn")

	for i, well := range wells {
		if well == 40 {
			require.Empty(t, fake.Events(runs[well]))
			continue
		}
		require.Equal(t, []map[string]string{{"Time elapsed": fmt.Sprint(i * 7), "Absorbance": fmt.Sprintf("0.%04d", well)}}, fake.Events(runs[well]), "well %d", well)
	}
	dead := w.deadLetters("riffyn") // defect 3: never lost without a word
	require.Len(t, dead, 1)
	require.Equal(t, "no_index", dead[0].Code)
	require.Contains(t, dead[0].Message, "names no well")
	require.JSONEq(t, bad, string(dead[0].Data))
}

func TestRowsReachTheirRiffynRunOnceThroughKillsAndFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	fake, tower := w.withRiffyn()
	const wells, posts = 4, 40
	experiment, activity, runs := fake.AddActivity(wells, riffynfake.Output{Name: "plate", Properties: []string{"Time elapsed", "Absorbance"}})
	var spec []any
	for _, run := range runs {
		spec = append(spec, riffynSpec(experiment, activity, run))
	}
	require.NoError(t, tower.Put(riffynTrigger("kills", &controltower.Plate{Rows: 2, Columns: 2}, spec)))
	w.start()

	for n := range posts {
		switch n % 10 {
		case 1:
			fake.Inject(riffynfake.Fault{Kind: riffynfake.Append, Written: true})
		case 3:
			fake.Inject(riffynfake.Fault{Kind: riffynfake.Append, Status: 502}, riffynfake.Fault{Kind: riffynfake.Fill, Status: 503, Written: true})
		case 5:
			fake.Inject(riffynfake.Fault{Kind: riffynfake.Fill, Status: 429, RetryAfter: time.Second})
		case 6:
			require.NoError(t, syscall.Kill(w.runningPID("riffyn"), syscall.SIGKILL))
		case 9:
			w.host.Kill()
			w.start()
		}
		var rows []string
		for well := range wells {
			rows = append(rows, fmt.Sprintf(`{"index":%d,"data":{"timeElapsed":"%d","absorbance":"%d.%d"}}`, well, n, n, well))
		}
		w.accepted("/data/batch", `{"uuid":"kills","rows":[`+strings.Join(rows, ",")+`]}`)
		moment(t)
	}
	w.caughtUp(60*time.Second, "riffyn")
	require.Empty(t, w.deadLetters("riffyn"))
	for well, run := range runs {
		var want []map[string]string
		for n := range posts {
			want = append(want, map[string]string{"Time elapsed": fmt.Sprint(n), "Absorbance": fmt.Sprintf("%d.%d", n, well)})
		}
		require.ElementsMatch(t, want, fake.Events(run), "each row once, with its own values")
	}
}

func TestWrongRiffynCredentialsHoldTheRowsUntilTheyAreRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	fake, tower := w.withRiffyn()
	experiment, activity, runs := fake.AddActivity(1, riffynfake.Output{Name: "culture", Properties: []string{"Time elapsed"}})
	require.NoError(t, tower.Put(riffynTrigger("held", nil, riffynSpec(experiment, activity, runs[0]))))
	fake.SetKey("another")
	w.start()
	w.accepted("/data", `{"uuid":"held","row":{"data":{"timeElapsed":"1"}}}`)
	eventually(t, 20*time.Second, "the pusher shows what is wrong", func(ctx context.Context) bool {
		p, err := w.host.Pusher(ctx, "riffyn")
		return err == nil && strings.Contains(p.Reason+p.LastError, "API_KEY")
	})
	fake.SetKey(riffynKey)
	w.caughtUp(60*time.Second, "riffyn")
	require.Equal(t, []map[string]string{{"Time elapsed": "1"}}, fake.Events(runs[0]))
	require.NotContains(t, w.log(), riffynKey)
}
