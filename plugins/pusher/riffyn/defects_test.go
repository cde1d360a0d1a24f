package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/pusher/riffyn/riffynfake"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// The defects of the former gateway, by their numbers. 1, 11, 12 and negative indices belong to the intake; see README.md.

func TestDefect2AllIndexGroupsOfATriggerWithoutPlateArePushed(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	f := plugintest.Indexed(frame(l.single(), rows(6)...), 0, 1, 0, 2, protocol.NoIndex, 1)
	require.Empty(t, h.Deliver(f))
	require.Equal(t, events(6), l.Events(l.runs[0]), "in the order in which they came")
}

func TestDefect3ARowWithoutIndexOfAPlateIsRejectedWithAClearReason(t *testing.T) {
	l := newLab(t, 2)
	h := l.start()
	f := plugintest.Indexed(frame(l.plate(1, 2, l.runs...), rows(2)...), protocol.NoIndex, 1)
	outcomes := h.Deliver(f)
	all(t, outcomes, 1, sdk.Rejected, "no_index")
	require.Equal(t, 0, outcomes[0].Row)
	require.Equal(t, "the row names no well (index), and the trigger has 2 wells with a run of their own", outcomes[0].Message)
	require.Empty(t, l.Events(l.runs[0]))
	require.Equal(t, events(2)[1:], l.Events(l.runs[1]), "the other row arrives")
}

func TestDefect4AnIndexBeyondTheWellsIsRejected(t *testing.T) {
	l := newLab(t, 4)
	h := l.start()
	for _, trigger := range [][]byte{l.plate(2, 2, l.runs...), trigger(t, map[string]int{"rows": 2, "columns": 2}, l.spec(l.runs[0]))} {
		outcomes := h.Deliver(plugintest.Indexed(frame(trigger, rows(2)...), 4, 1000))
		all(t, outcomes, 2, sdk.Rejected, "no_well")
		require.Equal(t, "index 4 is no well: the trigger has the wells 0 to 3", outcomes[0].Message)
	}
	for _, run := range l.runs {
		require.Empty(t, l.Events(run))
	}
}

func TestDefect5NullIsAbsentAndNeverTheWordNone(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	outcomes := h.Deliver(frame(l.single(), `{"timeElapsed":"1","odMeasured":null,"odSetpoint":null,"error":null}`, `{"timeElapsed":null,"odMeasured":"1"}`))
	all(t, outcomes, 1, sdk.Rejected, "no_key")
	require.Equal(t, 1, outcomes[0].Row)
	require.Equal(t, []map[string]string{{"Time elapsed": "1"}}, l.Events(l.runs[0]))
}

func TestDefect6NothingIsWrittenOfARowThatDoesNotFit(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	bad := `{"timeElapsed":"20","odMeasured":"0.5","colour":"green"}`
	for range 2 {
		outcomes := h.Deliver(frame(l.single(), bad))
		all(t, outcomes, 1, sdk.Rejected, "unknown_member")
		require.Contains(t, outcomes[0].Message, `"colour"`)
	}
	require.Zero(t, l.Calls(riffynfake.Append))
	require.Empty(t, l.Events(l.runs[0]))
}

func TestDefect6ARetryAfterTheFirstPhaseMakesNoSecondKey(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	l.Inject(riffynfake.Fault{Kind: riffynfake.Fill, Status: 500})
	f := frame(l.single(), rows(5)...)
	all(t, h.Deliver(f), 5, sdk.Retry, "http_500")
	require.Len(t, l.Events(l.runs[0]), 5, "the keys are there")
	h.Reopen()
	require.Empty(t, h.Deliver(f))
	require.Equal(t, events(5), l.Events(l.runs[0]))
	require.Equal(t, 1, l.Calls(riffynfake.Append))
}

func TestDefect7AFailureInOneWellDuplicatesNothingInTheOthers(t *testing.T) {
	l := newLab(t, 6).set("concurrency", 1)
	h := l.start()
	l.Inject(riffynfake.Fault{Kind: riffynfake.Append, Run: l.runs[3], Status: 429})
	f := plugintest.Indexed(frame(l.plate(2, 3, l.runs...), rows(6)...), 0, 1, 2, 3, 4, 5)
	outcomes := byRow(h.Deliver(f))
	require.Len(t, outcomes, 3, "wells 0 to 2 are done")
	require.Equal(t, sdk.Throttled, outcomes[3].Class)
	again := byRow(h.Deliver(f))
	require.Len(t, again, 3)
	for well := range 3 {
		require.Equal(t, sdk.Duplicate, again[well].Class)
	}
	for well, run := range l.runs {
		require.Equal(t, events(6)[well:well+1], l.Events(run), "well %d", well)
	}
}

func TestDefect8ACallThatHangsIsGivenUp(t *testing.T) {
	l := newLab(t, 1).set("request_timeout", "1s")
	h := l.start()
	f := frame(l.single(), rows(2)...)
	for _, kind := range []riffynfake.Kind{riffynfake.Activity, riffynfake.Append, riffynfake.Raw, riffynfake.Fill} {
		l.Inject(riffynfake.Fault{Kind: kind, Hang: true})
		all(t, h.Deliver(f), 2, sdk.Retry, "timeout")
	}
	require.ErrorContains(t, h.Health(), "no answer from http://127.0.0.1")
	require.Empty(t, h.Deliver(f))
	require.NoError(t, h.Health())
	require.Equal(t, events(2), l.Events(l.runs[0]))
}

func TestDefect9AnActivityIsAskedForOnce(t *testing.T) {
	l := newLab(t, 4)
	h := l.start()
	for range 5 {
		require.Empty(t, h.Deliver(plugintest.Indexed(frame(l.plate(2, 2, l.runs...), rows(4)...), 0, 1, 2, 3), frame(l.single(), rows(1)...)))
	}
	require.Equal(t, 1, l.Calls(riffynfake.Activity))
}

func TestDefect10ValuesOfRaggedRowsStayWithTheirRow(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	require.Empty(t, h.Deliver(frame(l.single(),
		`{"timeElapsed":"0","odMeasured":"a0"}`,
		`{"timeElapsed":"1","odSetpoint":"b1"}`,
		`{"timeElapsed":"2"}`,
		`{"timeElapsed":"3","error":"c3","odSetpoint":"b3","odMeasured":"a3"}`,
		`{"timeElapsed":"3","odMeasured":"a4"}`,
	)))
	require.ElementsMatch(t, []map[string]string{
		{"Time elapsed": "0", "OD measured": "a0"},
		{"Time elapsed": "1", "OD setpoint": "b1"},
		{"Time elapsed": "2"},
		{"Time elapsed": "3", "OD measured": "a3", "OD setpoint": "b3", "Error": "c3"},
		{"Time elapsed": "3", "OD measured": "a4"},
	}, l.Events(l.runs[0]))
}

func TestDefect13TheKeyIsFoundByItsNameWhereverItStands(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	outcomes := h.Deliver(frame(l.single(),
		`{"timeElapsed": 1.50, "odMeasured": 1e5}`,
		`{"odMeasured": 0.10, "timeElapsed": 12345678901234567890123}`,
		`{"odMeasured": "0.3", "odSetpoint": "0.4"}`))
	all(t, outcomes, 1, sdk.Rejected, "no_key")
	require.Equal(t, 2, outcomes[0].Row)
	require.Equal(t, `the row has no member "timeElapsed", the primary key "Time elapsed"`, outcomes[0].Message)
	require.Equal(t, []map[string]string{
		{"Time elapsed": "1.50", "OD measured": "1e5"},
		{"Time elapsed": "12345678901234567890123", "OD measured": "0.10"},
	}, l.Events(l.runs[0]), "numbers keep their text")
}

func TestRowsOfAPlateGoToTheirWells(t *testing.T) {
	const wells = 96
	l := newLab(t, wells, "Time elapsed", "Absorbance", "Error")
	h := l.start()
	var list []string
	var index []int32
	for i := range wells {
		well := i/12 + (i%12)*8 // rows by line, wells by column
		list = append(list, fmt.Sprintf(`{"timeElapsed":"%d","absorbance":"0.%d","error":null}`, i, well))
		index = append(index, int32(well))
	}
	runs := append([]string{}, l.runs...)
	runs[17] = "" // a well without a run
	outcomes := h.Deliver(plugintest.Indexed(frame(l.plate(8, 12, runs...), list...), index...))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Skipped, outcomes[0].Class)
	require.Equal(t, "well 17 has no run", outcomes[0].Message)
	for i := range wells {
		if well := index[i]; well != 17 {
			require.Equal(t, []map[string]string{{"Time elapsed": fmt.Sprint(i), "Absorbance": fmt.Sprintf("0.%d", well)}}, l.Events(l.runs[well]))
		}
	}
	require.Empty(t, l.Events(l.runs[17]))
	require.Equal(t, 1, l.Calls(riffynfake.Activity))
}
