package riffynfake

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The rules that the fake is for.

func TestTheRulesAreKept(t *testing.T) {
	s := New("key")
	experiment, activity, runs := s.AddActivity(1, Output{Name: "o", Properties: []string{"Key", "Value"}})
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("api-key", "key")
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	var got struct {
		Outputs []struct {
			ID         string `json:"_id"`
			Properties []struct {
				ID string `json:"_id"`
			}
		}
	}
	base := "/v1/experiment/" + experiment + "/activity/" + activity
	require.NoError(t, json.Unmarshal(ask("GET", "/v1/process/"+experiment+"/activity/"+activity, "").Body.Bytes(), &got))
	resource, key, value := got.Outputs[0].ID, got.Outputs[0].Properties[0].ID, got.Outputs[0].Properties[1].ID
	write := func(property, more string) *httptest.ResponseRecorder {
		return ask("POST", base+"/add-batch-run-data", fmt.Sprintf(`{"batchData":[{"resourceDefId":%q,"propertyTypeId":%q,"runIds":[%q],%s}]}`, resource, property, runs[0], more))
	}

	w := write(key, `"values":["1","2"],"append":true`)
	require.Equal(t, http.StatusOK, w.Code)
	var answer []struct {
		EventGroupID string
		Data         []struct{ EventID json.RawMessage }
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	group, event := answer[0].EventGroupID, strings.Trim(string(answer[0].Data[0].EventID), `"`)
	require.Len(t, group, 17)

	for reason, c := range map[string]struct {
		status         int
		property, more string
	}{
		"append and a group":       {400, value, fmt.Sprintf(`"eventGroupId":%q,"append":true,"values":[{"eventId":%q,"value":"x"}]`, group, event)},
		"no values":                {400, key, `"append":true,"values":[]`},
		"an unknown member":        {400, key, `"append":true,"values":["1"],"idempotencyKey":"k"`},
		"a number for a value":     {422, key, `"append":true,"values":[1]`},
		"a number for an event id": {422, value, fmt.Sprintf(`"eventGroupId":%q,"values":[{"eventId":%s,"value":"x"}]`, group, event)},
		"another group's event":    {422, value, fmt.Sprintf(`"eventGroupId":%q,"values":[{"eventId":"1","value":"x"}]`, group)},
		"an event twice":           {422, value, fmt.Sprintf(`"eventGroupId":%q,"values":[{"eventId":%q,"value":"x"},{"eventId":%q,"value":"y"}]`, group, event, event)},
		"an unknown group":         {404, value, fmt.Sprintf(`"eventGroupId":%q,"values":[{"eventId":%q,"value":"x"}]`, experiment, event)},
		"an unknown property":      {404, resource, `"append":true,"values":["1"]`},
	} {
		require.Equal(t, c.status, write(c.property, c.more).Code, reason)
	}
	require.Len(t, s.Events(runs[0]), 2, "nothing of it took effect")
	require.Equal(t, http.StatusNotFound, ask("GET", "/v1/process/"+experiment+"/activity/"+experiment, "").Code)

	require.Equal(t, http.StatusOK, write(key, `"values":["1"],"append":true`).Code)
	require.Len(t, s.Events(runs[0]), 3, "the same append again makes another event")
	require.Equal(t, http.StatusOK, write(key, `"values":["9"]`).Code)
	require.Equal(t, []map[string]string{{"Key": "9"}}, s.Events(runs[0]), "without append, everything is overwritten")
}
