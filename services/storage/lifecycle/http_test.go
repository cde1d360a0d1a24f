package lifecycle

import (
	"encoding/json"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
)

// ask sends a request to the routes, and returns data of a success or the error.
func (r *rig) ask(status int, method, path, body string, headers ...string) map[string]any {
	r.t.Helper()
	app := fiber.New()
	app.Use(func(c *fiber.Ctx) error {
		c.Context().SetRemoteAddr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err := c.Next(); err != nil {
			api.Fail(c.Context(), err)
		}
		return nil
	})
	api.Mount(app, r.Routes(), &api.Gate{Development: true}, api.NewAnswers(time.Hour))
	request := httptest.NewRequest(method, "/internal/lifecycle/"+path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := app.Test(request, -1)
	require.NoError(r.t, err)
	defer response.Body.Close()
	var got struct {
		Data  map[string]any
		Error map[string]any
	}
	require.NoError(r.t, json.NewDecoder(response.Body).Decode(&got))
	require.Equal(r.t, status, response.StatusCode, "%+v", got)
	if status == 200 {
		return got.Data
	}
	return got.Error
}

func TestTheRoutesKeepTheirContract(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		f := r.put(1, name, noise(1, 1000), time.Time{})
		stamp := func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
		accessed := f.Accessed
		require.Equal(t, map[string]any{
			"object_name": name, "tier": "hot", "size_bytes": 1000., "last_accessed_at": stamp(accessed), "tier_changed_at": nil,
			"next_transition_at": stamp(accessed.Add(30 * day)),
		}, r.ask(200, "GET", "status?object_name="+name, ""))
		policy := map[string]any{"warm_after_days": 30., "cold_after_days": 90.}
		tiers := func(hot, cold float64) map[string]any {
			one := func(n float64) map[string]any { return map[string]any{"objects": n, "bytes": n * 1000} }
			return map[string]any{"hot": one(hot), "warm": one(0), "cold": one(cold)}
		}
		require.Equal(t, map[string]any{"tiers": tiers(1, 0), "policy": policy, "last_run_at": nil}, r.ask(200, "GET", "status", ""))
		r.ask(404, "GET", "status?object_name="+name, "", "X-Org-ID", "2")

		body := `{"object_name":"` + name + `","target_tier":"cold","reason":"test"`
		r.ask(404, "POST", "transition", body+"}", "X-Org-ID", "2")
		dry := r.ask(200, "POST", "transition", body+`,"dry_run":true}`)
		require.Len(t, dry["transitioned"], 1)
		r.holds(1, name, noise(1, 1000), protocol.TierHot)
		moved := r.ask(200, "POST", "transition", body+"}")
		f = r.holds(1, name, noise(1, 1000), protocol.TierCold)
		require.Equal(t, map[string]any{
			"transitioned": []any{map[string]any{"object_name": name, "from_tier": "hot", "to_tier": "cold", "at": stamp(f.TierChanged)}},
			"skipped":      []any{}, "failed": []any{},
		}, moved)
		again := r.ask(200, "POST", "transition", `{"storage_file_ids":[999999,`+jsonOf(f.ID)+`],"target_tier":"cold"}`)
		require.Equal(t, map[string]any{
			"transitioned": []any{},
			"skipped":      []any{map[string]any{"object_name": name, "storage_file_id": float64(f.ID), "reason": "It is cold already"}},
			"failed":       []any{map[string]any{"storage_file_id": 999999., "reason": "There is no such file"}},
		}, again)
		state := r.ask(200, "GET", "status?object_name="+name, "")
		require.Equal(t, stamp(f.TierChanged), state["tier_changed_at"])
		require.Nil(t, state["next_transition_at"])
		require.Equal(t, tiers(0, 1), r.ask(200, "GET", "status", "")["tiers"])

		r.put(1, name+"2", noise(2, 1000), time.Time{})
		r.pass(time.Hour)
		ran := r.ask(200, "POST", "run", `{"warm_after_days":0,"cold_after_days":0,"limit":5,"dry_run":true}`)
		require.GreaterOrEqual(t, ran["duration_ms"], 0.)
		delete(ran, "duration_ms")
		want := map[string]any{"scanned": 1., "to_warm": 0., "to_cold": 1., "expired_deleted": 0., "bytes_moved": 1000., "dry_run": true}
		require.Equal(t, want, ran)
		ran = r.ask(200, "POST", "run", `{"warm_after_days":0,"cold_after_days":0}`)
		delete(ran, "duration_ms")
		want["dry_run"] = false
		require.Equal(t, want, ran)
		require.Equal(t, 0., r.ask(200, "POST", "run", ``)["scanned"])
		require.NotNil(t, r.ask(200, "GET", "status", "")["last_run_at"])
		require.Nil(t, r.ask(200, "GET", "status", "", "X-Org-ID", "2")["last_run_at"])
		r.exact(2)
	})
}

func jsonOf(v any) string { text, _ := json.Marshal(v); return string(text) }

func TestWhatTheRoutesRefuse(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.put(1, name, noise(1, 1000), time.Time{})
		for _, c := range []struct {
			status     int
			path, body string
			field      string
		}{
			{400, "transition", `{"object_name":"x"}`, "target_tier"}, {400, "transition", `{"object_name":"x","target_tier":"icy"}`, "target_tier"},
			{400, "transition", `{"target_tier":"hot"}`, "object_name"},
			{400, "transition", `{"target_tier":"hot","object_name":"x","storage_file_ids":[1]}`, "object_name"},
			{404, "transition", `{"target_tier":"hot","object_name":"x"}`, ""}, {400, "transition", `{`, ""},
			{400, "run", `{"limit":0}`, "limit"}, {400, "run", `{"warm_after_days":-1}`, "warm_after_days"}, {400, "run", `{"limit":1.5}`, "limit"},
			{422, "run", `{"cold_after_days":5}`, "cold_after_days"},
		} {
			failure := r.ask(c.status, "POST", c.path, c.body)
			if c.field != "" {
				require.Equal(t, c.field, failure["details"].(map[string]any)["field"], c.body)
			}
		}
		r.dir.Set(func(a *protocol.Abilities) { a.Tiers = []protocol.Tier{protocol.TierHot} })
		failure := r.ask(422, "POST", "transition", `{"target_tier":"cold","object_name":"`+name+`"}`)
		require.Contains(t, failure["message"], "no tier cold")
		r.pass(100 * day)
		require.Equal(t, 0., r.ask(200, "POST", "run", `{}`)["scanned"])
		require.Nil(t, r.ask(200, "GET", "status?object_name="+name, "")["next_transition_at"])
		r.exact(1)
	})
}

func TestTheRoutesAreDescribed(t *testing.T) {
	text, err := api.Document(api.Info{Title: "t", Version: "1"}, new(Lifecycle).Routes())
	require.NoError(t, err)
	for _, schema := range []string{"TransitionsEnvelope", "StatusAnswerEnvelope", "OrgStatus", "ObjectStatus", "RunResultEnvelope"} {
		require.Contains(t, string(text), `"`+schema+`"`)
	}
}
