package vectors

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
)

const three = `{"collection":"c","vectors":[
	{"id":"x","values":[1,0,0],"metadata":{"n":1,"tag":"a","deep":{"k":1}},"text":"ex"},
	{"id":"y","values":[0,2,0],"metadata":{"n":2.5,"tag":"b","ok":true}},
	{"id":"z","values":[1,1,0]}]}`

func TestTheThreeRoutes(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		c := serve(t, open(t, db, Options{}))
		require.Equal(t, map[string]any{"collection": "c", "upserted": 3.0, "inserted": 3.0, "updated": 0.0, "dimensions": 3.0}, c.ok("upsert", three))
		require.Equal(t, map[string]any{"collection": "c", "upserted": 2.0, "inserted": 1.0, "updated": 1.0, "dimensions": 3.0},
			c.ok("upsert", `{"collection":"c","dimensions":3,"metric":"cosine","vectors":[{"id":"w","values":[-1,0,0]},{"id":"z","values":[3,3,0.0],"metadata":{"n":3}}]}`))

		found := c.ok("search", `{"collection":"c","vector":[2,0,0],"top_k":2,"include_values":true}`)
		require.Equal(t, 4.0, found["total"])
		require.Equal(t, true, found["exact"])
		matches := found["matches"].([]any)
		require.Len(t, matches, 2)
		require.Equal(t, map[string]any{"id": "x", "score": 1.0, "metadata": map[string]any{"n": 1.0, "tag": "a", "deep": map[string]any{"k": 1.0}},
			"values": []any{1.0, 0.0, 0.0}}, matches[0])
		second := matches[1].(map[string]any)
		require.InDelta(t, math.Sqrt2/2, second["score"], 1e-6)
		require.Equal(t, []any{3.0, 3.0, 0.0}, second["values"], "as they were sent")
		require.NotContains(t, c.ok("search", `{"collection":"c","vector":[2,0,0],"include_metadata":false}`)["matches"].([]any)[0], "metadata")

		require.Equal(t, map[string]any{"collection": "c", "deleted": 1.0}, c.ok("delete", `{"collection":"c","ids":["x","nobody"]}`))
		require.Equal(t, []string{"z", "y", "w"}, c.ids(`{"collection":"c","vector":[2,0,0]}`))
		require.Equal(t, 1.0, c.ok("delete", `{"collection":"c","filter":{"n":{"$gt":2.5}}}`)["deleted"])
		require.Equal(t, []string{"y", "w"}, c.ids(`{"collection":"c","vector":[2,0,0]}`))
		require.Equal(t, 1.0, c.ok("upsert", `{"collection":"c","vectors":[{"id":"x","values":[1,0,0]}]}`)["inserted"], "a deleted one comes back as new")
		require.Equal(t, 3.0, c.ok("delete", `{"collection":"c","delete_all":true}`)["deleted"])
		require.Equal(t, map[string]any{"collection": "c", "matches": []any{}, "total": 0.0, "exact": true}, c.ok("search", `{"collection":"c","vector":[2,0,0]}`))
	})
}

func TestBadInputIsRefusedAndLeavesNothing(t *testing.T) {
	v := open(t, openSQLite(t), Options{})
	c := serve(t, v)
	c.ok("upsert", three)
	many := func(n int) string {
		return strings.TrimSuffix(strings.Repeat(`{"id":"%","values":[1,0,0]},`, n), ",")
	}
	one := func(vector string) string {
		return `{"collection":"c","vectors":[{"id":"good","values":[1,2,3]},` + vector + `]}`
	}
	for _, bad := range []struct {
		route, body string
		status      int
		says        string
	}{
		{"upsert", one(`{"id":"n","values":[1,NaN,0]}`), 422, "NaN"},
		{"upsert", one(`{"id":"n","values":[1,Infinity,0]}`), 422, "Infinity"},
		{"upsert", one(`{"id":"n","values":[1,-Infinity,0]}`), 422, "Infinity"},
		{"upsert", one(`{"id":"n","values":[1,null,0]}`), 422, "finite"},
		{"upsert", one(`{"id":"n","values":[1,1e39,0]}`), 422, "too large"},
		{"upsert", one(`{"id":"n","values":[1,1e30,0]}`), 422, "too large"},
		{"upsert", one(`{"id":"n","values":[1,"2",0]}`), 400, "must be a number"},
		{"upsert", one(`{"id":"n","values":[1,2]}`), 422, "3 dimensions"},
		{"upsert", one(`{"id":"n","values":[0,0,0]}`), 422, "no direction"},
		{"upsert", one(`{"id":"n","values":[1e-45,0,0]}`), 422, "no direction"},
		{"upsert", one(`{"id":"n"}`), 400, "values are missing"},
		{"upsert", one(`{"id":"n","values":[]}`), 400, "values are missing"},
		{"upsert", one(`{"values":[1,2,3]}`), 400, "id is missing"},
		{"upsert", one(`{"id":7,"values":[1,2,3]}`), 400, "must be a string"},
		{"upsert", one(`{"id":"a\u0000b","values":[1,2,3]}`), 422, "cannot be stored"},
		{"upsert", one(`{"id":"good","values":[1,2,3]}`), 422, "same as that of vectors[0]"},
		{"upsert", one(`{"id":"m","values":[1,2,3],"metadata":{"a":"` + strings.Repeat("x", MaxMetadata) + `"}}`), 422, "longer than"},
		{"upsert", one(`{"id":"m","values":[1,2,3],"metadata":[1]}`), 400, "must be an object"},
		{"upsert", one(`{"id":"m","values":[1,2,3],"metadata":{"a":}}`), 400, "not valid JSON"},
		{"upsert", one(`{"id":"m","values":[01,2,3]}`), 400, "not valid JSON"},
		{"upsert", one(`7`), 400, "must be an object"},
		{"upsert", `{"collection":"c","vectors":[]}`, 400, "must be 1 to 1000"},
		{"upsert", `{"collection":"c","vectors":[` + many(1001) + `]}`, 400, "must be 1 to 1000"},
		{"upsert", `{"vectors":[{"id":"q","values":[1,0,0]}]}`, 400, "collection is missing"},
		{"upsert", `{"collection":"` + strings.Repeat("c", 129) + `","vectors":[{"id":"q","values":[1,0,0]}]}`, 400, "longer"},
		{"upsert", `{"collection":"c","dimensions":4,"vectors":[{"id":"q","values":[1,0,0,0]}]}`, 422, "dimensions"},
		{"upsert", `{"collection":"c","dimensions":5000,"vectors":[{"id":"q","values":[1,0,0,0]}]}`, 400, "dimensions"},
		{"upsert", `{"collection":"c","metric":"l2","vectors":[{"id":"q","values":[1,0,0]}]}`, 422, "metric"},
		{"upsert", `{"collection":"c","metric":"manhattan","vectors":[{"id":"q","values":[1,0,0]}]}`, 400, "metric"},
		{"upsert", `{"collection":"new","vectors":[{"id":"q","values":[1,0,0]},{"id":"r","values":[1,0]}]}`, 422, "dimensions"},
		{"upsert", `{"collection":"c"`, 400, "not valid JSON"},
		{"upsert", `{"collection":"c","vectors":[{"id":"q","values":[1,0,0]}]} x`, 400, "follows"},
		{"upsert", `[]`, 400, "must be an object"},
		{"upsert", ``, 400, "not valid JSON"},
		{"upsert", `{"collection":"c","x":` + strings.Repeat("[", 100_000), 400, "nested"},
		{"search", `{"collection":"nobody","vector":[1,0,0]}`, 404, "no such collection"},
		{"search", `{"collection":"new","vector":[1,0,0]}`, 404, "no such collection"},
		{"search", `{"collection":"c","vector":[1,0]}`, 422, "3 dimensions"},
		{"search", `{"collection":"c","vector":[]}`, 422, "3 dimensions"},
		{"search", `{"collection":"c","vector":[0,0,0]}`, 422, "no direction"},
		{"search", `{"collection":"c","vector":[NaN,0,0]}`, 422, "NaN"},
		{"search", `{"collection":"c","vector":["1",0,0]}`, 400, "must be a number"},
		{"search", `{"collection":"c"}`, 400, "vector"},
		{"search", `{"collection":"c","vector":[1,0,0],"text":"x"}`, 400, "not both"},
		{"search", `{"collection":"c","text":"x"}`, 422, "384"},
		{"search", `{"collection":"c","vector":[1,0,0],"top_k":0}`, 400, "top_k"},
		{"search", `{"collection":"c","vector":[1,0,0],"top_k":101}`, 400, "top_k"},
		{"search", `{"collection":"c","vector":[1,0,0],"top_k":1.5}`, 400, "top_k"},
		{"search", `{"collection":"c","vector":[1,0,0],"top_k":"ten"}`, 400, "top_k"},
		{"search", `{"collection":"c","vector":[1,0,0],"filter":7}`, 400, "filter"},
		{"search", `{"collection":"c","vector":[1,0,0],"filter":{"a":{"$regex":"x"}}}`, 400, "no operator"},
		{"search", `{"collection":"c","vector":[1,0,0],"filter":{"a":{}}}`, 400, "operator"},
		{"search", `{"collection":"c","vector":[1,0,0],"filter":{"a":{"$in":1}}}`, 400, "list"},
		{"search", `{"collection":"c","vector":[1,0,0],"filter":{"a":{"$gt":null}}}`, 400, "number or a string"},
		{"search", `{"collection":"c","vector":[1,0,0],"filter":{"$or":[]}}`, 400, "field"},
		{"search", `{"collection":"c","vector":[1,0,0],"exact":"yes"}`, 400, "exact"},
		{"delete", `{"collection":"nobody","ids":["x"]}`, 404, "no such collection"},
		{"delete", `{"collection":"c"}`, 400, "Exactly one"},
		{"delete", `{"collection":"c","ids":["x"],"delete_all":true}`, 400, "Exactly one"},
		{"delete", `{"collection":"c","delete_all":false}`, 400, "Exactly one"},
		{"delete", `{"collection":"c","ids":[]}`, 400, "1 to 1000"},
		{"delete", `{"collection":"c","filter":{}}`, 400, "condition"},
		{"delete", `{"collection":"c","ids":"x"}`, 400, "array"},
	} {
		body := bad.body
		for i := 0; strings.Contains(body, `"%"`); i++ {
			body = strings.Replace(body, `"%"`, fmt.Sprintf(`"%d"`, i), 1)
		}
		status, failure := c.post(bad.route, body)
		short := body[:min(len(body), 120)]
		require.Equal(t, bad.status, status, "%s %s: %v", bad.route, short, failure)
		require.Equal(t, api.CodeOf(bad.status), failure["code"])
		require.Contains(t, failure["message"], bad.says, "%s %s", bad.route, short)
	}
	require.Equal(t, 3.0, c.ok("search", `{"collection":"c","vector":[1,0,0]}`)["total"], "nothing was stored, nothing deleted")
}

func TestAnotherOrgsCollectionIsNotThere(t *testing.T) {
	v := open(t, openSQLite(t), Options{})
	c, other := serve(t, v), serve(t, v)
	other.org = 2
	c.ok("upsert", three)
	status, _ := other.post("search", `{"collection":"c","vector":[1,0,0]}`)
	require.Equal(t, http.StatusNotFound, status)
	status, _ = other.post("delete", `{"collection":"c","delete_all":true}`)
	require.Equal(t, http.StatusNotFound, status)
	other.ok("upsert", `{"collection":"c","metric":"l2","vectors":[{"id":"x","values":[5,5]}]}`)
	require.Equal(t, []string{"x"}, other.ids(`{"collection":"c","vector":[1,0]}`))
	require.Len(t, c.ids(`{"collection":"c","vector":[1,0,0]}`), 3)
}

func TestScoresOfEachMetric(t *testing.T) {
	c := serve(t, open(t, openSQLite(t), Options{}))
	for metric, want := range map[string][]float64{"cosine": {1, 0, -1}, "dot": {10, 0, -2}, "l2": {1, 1. / 3, 1. / 4}} {
		vectors := map[string]string{
			"cosine": `{"id":"a","values":[5,0]},{"id":"b","values":[0,3]},{"id":"c","values":[-1,0]}`,
			"dot":    `{"id":"a","values":[5,0]},{"id":"b","values":[0,3]},{"id":"c","values":[-1,0]}`,
			"l2":     `{"id":"a","values":[2,0]},{"id":"b","values":[2,2]},{"id":"c","values":[-1,0]}`,
		}[metric]
		c.ok("upsert", `{"collection":"`+metric+`","metric":"`+metric+`","vectors":[`+vectors+`]}`)
		matches := c.ok("search", `{"collection":"`+metric+`","vector":[2,0]}`)["matches"].([]any)
		for i, m := range matches {
			require.InDelta(t, want[i], m.(map[string]any)["score"], 1e-6, "%s %v", metric, m)
		}
		require.Len(t, c.ids(`{"collection":"`+metric+`","vector":[2,0],"min_score":`+fmt.Sprint(want[1]-1e-6)+`}`), 2)
	}
}

func TestTextIsSearchedByTheDefaultEmbedder(t *testing.T) {
	v := open(t, openSQLite(t), Options{})
	c := serve(t, v)
	u := &Upsert{Collection: "docs", Model: "hashed-ngrams-384-v1"}
	for id, text := range map[string]string{
		"customers": "customer_orders: id, customer name, order date, total amount",
		"weather":   "weather stations, temperature and humidity by hour",
		"plates":    "plate reader measurements of wells",
	} {
		u.Vectors = append(u.Vectors, Vector{ID: id, Values: textVector(text), Text: text})
	}
	_, err := v.Upsert(t.Context(), 1, u)
	require.NoError(t, err)
	for text, want := range map[string]string{"orders of customers": "customers", "Temperatures": "weather", "which well of the plate": "plates"} {
		require.Equal(t, want, c.ids(`{"collection":"docs","text":"` + text + `"}`)[0])
	}
	status, failure := c.post("search", `{"collection":"docs","text":"?!"}`)
	require.Equal(t, 422, status, "%v", failure)
	u.Collection, u.Model = "others", "somebody's model"
	_, err = v.Upsert(t.Context(), 1, u)
	require.NoError(t, err)
	status, failure = c.post("search", `{"collection":"others","text":"weather"}`)
	require.Equal(t, 422, status)
	require.Contains(t, failure["message"], "somebody's model")
	status, _ = c.post("upsert", `{"collection":"c","model":"a","vectors":[{"id":"x","values":[1]}]}`)
	require.Equal(t, 200, status)
	status, _ = c.post("upsert", `{"collection":"c","model":"b","vectors":[{"id":"x","values":[1]}]}`)
	require.Equal(t, 422, status, "vectors of two models are not compared")
}
