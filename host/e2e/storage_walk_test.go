package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

const storagePath = "/api/v1/storage"

// storageSetups are the two ends of what an operator may choose; every assertion holds on both.
func storageSetups(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("SQLite and local", func(t *testing.T) {
		test(t, newWorld(t, map[string]string{"RIVERGATE_TARGETS": "gateway,storage"}))
	})
	t.Run("PostgreSQL through PgBouncer and S3", func(t *testing.T) {
		env := map[string]string{"RIVERGATE_TARGETS": "gateway,storage"}
		env["RIVERGATE_DATABASE_URL"] = ownDatabase(t)
		for name, value := range s3Backend(t) {
			env[name] = value
		}
		test(t, newWorld(t, env))
	})
}

// s3Backend is a storage plugin over the S3 server of the tests, with a bucket of its own.
func s3Backend(t *testing.T) map[string]string {
	t.Helper()
	at, err := url.Parse(server(t, "RIVERGATE_TEST_S3_URL"))
	require.NoError(t, err)
	secret, _ := at.User.Password()
	return map[string]string{
		"RIVERGATE_STORAGE":               "s3",
		"PLUGIN_STORAGE_S3_URL":           "http://" + at.Host,
		"PLUGIN_STORAGE_S3_REGION":        "us-east-1",
		"PLUGIN_STORAGE_S3_BUCKET":        "walk-" + strconv.FormatInt(time.Now().UnixNano(), 36),
		"PLUGIN_STORAGE_S3_CREATE_BUCKET": "true",
		"PLUGIN_STORAGE_S3_ACCESS_KEY":    at.User.Username(),
		"PLUGIN_STORAGE_S3_WARM_CLASS":    "STANDARD_IA", "PLUGIN_STORAGE_S3_COLD_CLASS": "GLACIER_IR",
		"PLUGIN_STORAGE_S3_SECRET_KEY": secret,
	}
}

// TestTheStorageRoutesKeepTheirContract walks all 22 routes of the storage service, and those beyond them.
func TestTheStorageRoutesKeepTheirContract(t *testing.T) {
	storageSetups(t, func(t *testing.T, w *world) {
		w.set("RIVERGATE_STORAGE_MAX_FILE", "1MiB", "RIVERGATE_STORAGE_QUOTA", "8MiB")
		host := w.start()
		c := newContract(t, "http://"+host.Addr)
		walkFiles(t, c)
		walkQuota(t, c)
		walkVectors(t, c)
		walkInternalFiles(t, c)
		walkCache(t, c)
		walkLifecycle(t, c)
		walkModels(t, c)
		reconciled := c.ask(ask{method: "POST", route: "/internal/storage/reconcile", json: map[string]any{}, want: 200})
		require.Equal(t, true, reconciled.data["exact"], "%s", reconciled.body)
		for _, route := range []string{
			"POST /api/v1/storage/upload", "GET /api/v1/storage/files", "GET /api/v1/storage/objects/{object_name}/metadata",
			"GET /api/v1/storage/objects/{object_name}/presigned-url", "DELETE /api/v1/storage/objects/{object_name}",
			"GET /api/v1/storage/quota", "GET /api/v1/storage/usage", "POST /internal/vectors/upsert", "POST /internal/vectors/search",
			"POST /internal/vectors/delete", "POST /internal/files", "GET /internal/files/{object_name}", "POST /internal/cache/set",
			"GET /internal/cache/{key}", "DELETE /internal/cache/{key}", "POST /internal/lifecycle/transition", "GET /internal/lifecycle/status",
			"POST /internal/lifecycle/run", "POST /api/v1/storage/models", "GET /api/v1/storage/models", "GET /api/v1/storage/models/{model_id}",
			"GET /api/v1/storage/models/{model_id}/download",
		} {
			require.True(t, c.asked[route], "%s was not walked", route)
		}
	})
}

func uploadTo(c *contract, content []byte, name string, fields, header map[string]string, want int) answered {
	c.t.Helper()
	body, contentType := form(c.t, fields, name, content)
	h := map[string]string{"Content-Type": contentType}
	for k, v := range header {
		h[k] = v
	}
	return c.ask(ask{method: "POST", route: storagePath + "/upload", header: h, body: body, want: want})
}

func fetch(t *testing.T, address string) (int, []byte) {
	t.Helper()
	answer, err := http.Get(address)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, body
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// Routes 1 to 5, and the download.
func walkFiles(t *testing.T, c *contract) {
	csv := []byte("well,od\nA1,0.11\nA2,0.13\n")
	user := map[string]string{"X-User-ID": "5"}
	up := uploadTo(c, csv, "plate one.csv", map[string]string{"path": "runs/2026"}, user, 201).data
	require.Equal(t, "plate one.csv", up["file_name"])
	require.Regexp(t, `^plate[_-]one_\d{8}_\d{6}_[0-9a-f]{8}\.csv$`, up["unique_file_name"])
	require.EqualValues(t, len(csv), up["size"])
	require.Equal(t, sum(csv), up["sha256"])
	require.Contains(t, up["content_type"], "text/csv")
	object := "organizations/1/files/5/runs/2026/" + up["unique_file_name"].(string)
	require.Equal(t, object, up["file_path"])
	require.Regexp(t, `^s3://[^/]+/`+object+`$`, up["s3_uri"])

	for name, bad := range map[string]struct {
		fields  map[string]string
		content []byte
		file    string
		status  int
	}{
		"no file":        {nil, nil, "", 400},
		"bad category":   {map[string]string{"file_category": "x"}, csv, "a.csv", 400},
		"traversal":      {map[string]string{"path": "../6"}, csv, "a.csv", 400},
		"absolute":       {map[string]string{"path": "/etc"}, csv, "a.csv", 400},
		"backslash":      {map[string]string{"path": `a\b`}, csv, "a.csv", 400},
		"over the limit": {nil, make([]byte, 1<<20+1), "a.bin", 413},
	} {
		got := uploadTo(c, bad.content, bad.file, bad.fields, user, bad.status)
		require.NotEmpty(t, got.failed["message"], name)
	}

	second := uploadTo(c, []byte("second"), "b.txt", map[string]string{"file_category": "general"}, user, 201).data
	list := c.ask(ask{method: "GET", route: storagePath + "/files", header: user, want: 200}).data
	items := list["items"].([]any)
	require.Len(t, items, 2)
	newest := items[0].(map[string]any)
	require.Equal(t, "b.txt", newest["file_name"], "newest first")
	require.Equal(t, second["storage_file_id"], newest["storage_file_id"])
	require.EqualValues(t, 2, list["pagination"].(map[string]any)["total_count"])
	status, body := fetch(t, newest["presigned_url"].(string))
	require.Equal(t, 200, status)
	require.Equal(t, "second", string(body))
	of := c.ask(ask{method: "GET", route: storagePath + "/files", query: url.Values{"file_category": {"data_source"}, "page_size": {"1"}}, header: user, want: 200}).data
	require.Len(t, of["items"], 1)
	require.Empty(t, c.ask(ask{method: "GET", route: storagePath + "/files", header: map[string]string{"X-User-ID": "6"}, want: 200}).data["items"])
	c.ask(ask{method: "GET", route: storagePath + "/files", query: url.Values{"page_size": {"101"}}, header: user, want: 400})

	at := map[string]string{"object_name": object}
	const objects = storagePath + "/objects/{object_name}"
	meta := c.ask(ask{method: "GET", route: objects + "/metadata", path: at, header: user, want: 200}).data
	require.Equal(t, object, meta["name"])
	require.Equal(t, "hot", meta["tier"])
	require.Equal(t, sum(csv), meta["sha256"])
	c.ask(ask{method: "GET", route: objects + "/metadata", path: at, header: map[string]string{"X-User-ID": "6"}, want: 403})
	c.ask(ask{method: "GET", route: objects + "/metadata", path: at, header: map[string]string{"X-Org-ID": "2", "X-User-ID": "5"}, want: 404})
	c.ask(ask{method: "GET", route: objects + "/metadata", path: map[string]string{"object_name": object + "x"}, header: user, want: 404})

	whole := c.ask(ask{method: "GET", route: objects, path: at, header: user, want: 200})
	require.Equal(t, csv, whole.body)
	require.Equal(t, `"`+sum(csv)+`"`, whole.header.Get("ETag"))
	part := c.ask(ask{method: "GET", route: objects, path: at, header: map[string]string{"X-User-ID": "5", "Range": "bytes=5-6"}, want: 206})
	require.Equal(t, "od", string(part.body))
	require.Equal(t, "bytes 5-6/"+strconv.Itoa(len(csv)), part.header.Get("Content-Range"))
	beyond := c.ask(ask{method: "GET", route: objects, path: at, header: map[string]string{"X-User-ID": "5", "Range": "bytes=999-"}, want: 416})
	require.Equal(t, "bytes */"+strconv.Itoa(len(csv)), beyond.header.Get("Content-Range"))
	c.ask(ask{method: "GET", route: objects, path: at, header: map[string]string{"X-User-ID": "5", "If-None-Match": whole.header.Get("ETag")}, want: 304})
	c.ask(ask{method: "GET", route: objects, path: at, header: map[string]string{"X-User-ID": "5", "If-Match": `"other"`}, want: 412})
	many := "bytes=" + strings.TrimSuffix(strings.Repeat("0-0,", 1000), ",")
	c.ask(ask{method: "GET", route: objects, path: at, header: map[string]string{"X-User-ID": "5", "Range": many}, want: 200})

	signed := c.ask(ask{method: "GET", route: objects + "/presigned-url", path: at, query: url.Values{"expires_seconds": {"60"}}, header: user, want: 200}).data
	status, body = fetch(t, signed["url"].(string))
	require.Equal(t, 200, status)
	require.Equal(t, csv, body)
	status, _ = fetch(t, tampered(signed["url"].(string)))
	require.Contains(t, []int{400, 403}, status, "one character changed")
	c.ask(ask{method: "GET", route: objects + "/presigned-url", path: at, query: url.Values{"expires_seconds": {"604801"}}, header: user, want: 400})
	c.ask(ask{method: "GET", route: objects + "/presigned-url", path: map[string]string{"object_name": object + "x"}, header: user, want: 404})

	gone := c.ask(ask{method: "DELETE", route: objects, path: at, header: user, want: 200}).data
	require.Equal(t, object, gone["object_name"])
	c.ask(ask{method: "DELETE", route: objects, path: at, header: user, want: 404})
	c.ask(ask{method: "GET", route: objects, path: at, header: user, want: 404})
	status, _ = fetch(t, signed["url"].(string))
	require.Equal(t, 404, status)
}

// tampered changes the last letter or digit of an address.
func tampered(address string) string {
	b := []byte(address)
	last := len(b) - 1
	if b[last] == '0' {
		b[last] = '1'
	} else {
		b[last] = '0'
	}
	return string(b)
}

// Routes 6 and 7.
func walkQuota(t *testing.T, c *contract) {
	quota := c.ask(ask{method: "GET", route: storagePath + "/quota", want: 200}).data
	require.EqualValues(t, 8<<20, quota["limit_bytes"])
	require.EqualValues(t, 8, quota["limit_mb"])
	require.EqualValues(t, 0.01, quota["limit_gb"])
	usage := c.ask(ask{method: "GET", route: storagePath + "/usage", want: 200}).data
	require.EqualValues(t, len("second"), usage["used_bytes"])
	require.EqualValues(t, 0, usage["reserved_bytes"])
	require.EqualValues(t, 1, usage["file_count"])

	org := map[string]string{"X-Org-ID": "77"}
	c.ask(ask{method: "PUT", route: "/internal/orgs/{org}/quota", path: map[string]string{"org": "77"}, json: map[string]any{"limit_bytes": 10}, want: 200})
	uploadTo(c, []byte("0123456789"), "ten.txt", nil, org, 201)
	full := uploadTo(c, []byte("x"), "one.txt", nil, org, 413)
	require.Equal(t, map[string]any{"limit": 10., "used": 10., "requested": 1.}, full.failed["details"].(map[string]any)["quota"])
}

// Routes 8 to 10.
func walkVectors(t *testing.T, c *contract) {
	const upsert, search, remove = "/internal/vectors/upsert", "/internal/vectors/search", "/internal/vectors/delete"
	vectors := []any{
		map[string]any{"id": "x", "values": []float64{1, 0, 0}, "metadata": map[string]any{"kind": "a", "n": 1}, "text": "first"},
		map[string]any{"id": "y", "values": []float64{0, 1, 0}, "metadata": map[string]any{"kind": "a", "n": 2}},
		map[string]any{"id": "z", "values": []float64{0.9, 0.1, 0}, "metadata": map[string]any{"kind": "b", "n": 3}},
	}
	got := c.ask(ask{method: "POST", route: upsert, json: map[string]any{"collection": "walk", "vectors": vectors}, want: 200}).data
	require.EqualValues(t, 3, got["inserted"])
	require.EqualValues(t, 3, got["dimensions"])
	got = c.ask(ask{method: "POST", route: upsert, json: map[string]any{"collection": "walk", "vectors": vectors[:1]}, want: 200}).data
	require.EqualValues(t, 1, got["updated"])
	c.ask(ask{method: "POST", route: upsert, json: map[string]any{"collection": "walk", "vectors": []any{map[string]any{"id": "w", "values": []float64{1}}}}, want: 422})
	c.ask(ask{method: "POST", route: upsert, header: map[string]string{"Content-Type": "application/json"},
		body: []byte(`{"collection": "walk", "vectors": [{"id": "w", "values": [NaN, 0, 0]}]}`), want: 422})

	matches := func(query map[string]any) []any {
		query["collection"] = "walk"
		return c.ask(ask{method: "POST", route: search, json: query, want: 200}).data["matches"].([]any)
	}
	nearest := matches(map[string]any{"vector": []float64{1, 0, 0}, "top_k": 2})
	require.Len(t, nearest, 2)
	require.Equal(t, "x", nearest[0].(map[string]any)["id"])
	require.Equal(t, "z", nearest[1].(map[string]any)["id"])
	filtered := matches(map[string]any{"vector": []float64{1, 0, 0}, "filter": map[string]any{"kind": "a", "n": map[string]any{"$gte": 2}}})
	require.Len(t, filtered, 1)
	require.Equal(t, "y", filtered[0].(map[string]any)["id"])
	deleted := c.ask(ask{method: "POST", route: remove, json: map[string]any{"collection": "walk", "ids": []string{"x"}}, want: 200}).data
	require.EqualValues(t, 1, deleted["deleted"])
	require.Equal(t, "z", matches(map[string]any{"vector": []float64{1, 0, 0}, "top_k": 1})[0].(map[string]any)["id"])
	c.ask(ask{method: "POST", route: search, json: map[string]any{"collection": "walk", "vector": []float64{1, 0, 0}}, header: map[string]string{"X-Org-ID": "2"}, want: 404})
	c.ask(ask{method: "POST", route: remove, json: map[string]any{"collection": "walk", "delete_all": true}, want: 200})
}

// Routes 11 and 12.
func walkInternalFiles(t *testing.T, c *contract) {
	content := []byte(strings.Repeat("0123456789", 1000))
	put := func(fields map[string]string, content []byte, want int) answered {
		body, contentType := form(t, fields, "result.bin", content)
		return c.ask(ask{method: "POST", route: "/internal/files", header: map[string]string{"Content-Type": contentType}, body: body, want: want})
	}
	fields := map[string]string{"purpose": "query_result", "object_name": "walk/result.bin", "ttl_seconds": "3600"}
	made := put(fields, content, 201).data
	name := made["object_name"].(string)
	require.Equal(t, sum(content), made["sha256"])
	require.NotNil(t, made["expires_at"])
	put(fields, content, 409)
	fields["overwrite"] = "true"
	put(fields, []byte("shorter"), 201)

	at := map[string]string{"object_name": name}
	const route = "/internal/files/{object_name}"
	got := c.ask(ask{method: "GET", route: route, path: at, want: 200})
	require.Equal(t, "shorter", string(got.body))
	require.Equal(t, "7", got.header.Get("Content-Length"))
	require.Equal(t, `"`+sum([]byte("shorter"))+`"`, got.header.Get("ETag"))
	require.Equal(t, "ort", string(c.ask(ask{method: "GET", route: route, path: at, header: map[string]string{"Range": "bytes=2-4"}, want: 206}).body))
	c.ask(ask{method: "GET", route: route, path: at, header: map[string]string{"Range": "bytes=7-"}, want: 416})
	c.ask(ask{method: "GET", route: route, path: at, header: map[string]string{"If-None-Match": got.header.Get("ETag")}, want: 304})
	head := c.ask(ask{method: "HEAD", route: route, path: at, want: 200})
	require.Empty(t, head.body)
	require.Equal(t, "7", head.header.Get("Content-Length"))
	c.ask(ask{method: "GET", route: route, path: at, header: map[string]string{"X-Org-ID": "2"}, want: 404})
}

// Routes 13 to 15.
func walkCache(t *testing.T, c *contract) {
	const key = "walk/a:b c"
	set := c.ask(ask{method: "POST", route: "/internal/cache/set", json: map[string]any{"key": key, "value": map[string]any{"n": 1}, "ttl_seconds": 60}, want: 200}).data
	require.Equal(t, key, set["key"])
	require.Equal(t, true, set["stored"])
	at := map[string]string{"key": key}
	got := c.ask(ask{method: "GET", route: "/internal/cache/{key}", path: at, want: 200}).data
	require.Equal(t, map[string]any{"n": 1.}, got["value"])
	require.LessOrEqual(t, got["ttl_remaining_seconds"], 60.)
	c.ask(ask{method: "GET", route: "/internal/cache/{key}", path: at, header: map[string]string{"X-Org-ID": "2"}, want: 404})
	require.Equal(t, true, c.ask(ask{method: "DELETE", route: "/internal/cache/{key}", path: at, want: 200}).data["deleted"])
	require.Equal(t, false, c.ask(ask{method: "DELETE", route: "/internal/cache/{key}", path: at, want: 200}).data["deleted"])
	c.ask(ask{method: "GET", route: "/internal/cache/{key}", path: at, want: 404})
	c.ask(ask{method: "POST", route: "/internal/cache/set", json: map[string]any{"key": strings.Repeat("k", 513), "value": 1}, want: 400})
}

// Routes 16 to 18.
func walkLifecycle(t *testing.T, c *contract) {
	content := []byte("moves between tiers")
	up := uploadTo(c, content, "cold.txt", nil, nil, 201).data
	object := up["file_path"].(string)
	const transition, status = "/internal/lifecycle/transition", "/internal/lifecycle/status"
	dry := c.ask(ask{method: "POST", route: transition, json: map[string]any{"object_name": object, "target_tier": "cold", "dry_run": true}, want: 200}).data
	require.Len(t, dry["transitioned"], 1)
	require.Equal(t, "hot", c.ask(ask{method: "GET", route: status, query: url.Values{"object_name": {object}}, want: 200}).data["tier"])
	moved := c.ask(ask{method: "POST", route: transition, json: map[string]any{"object_name": object, "target_tier": "cold", "reason": "walk"}, want: 200}).data
	require.Len(t, moved["transitioned"], 1, "%v", moved)
	one := moved["transitioned"].([]any)[0].(map[string]any)
	require.Equal(t, "hot", one["from_tier"])
	require.Equal(t, "cold", one["to_tier"])
	require.Equal(t, "cold", c.ask(ask{method: "GET", route: status, query: url.Values{"object_name": {object}}, want: 200}).data["tier"])
	require.Equal(t, content, c.ask(ask{method: "GET", route: storagePath + "/objects/{object_name}", path: map[string]string{"object_name": object}, want: 200}).body)
	c.ask(ask{method: "POST", route: transition, json: map[string]any{"object_name": object, "target_tier": "tepid"}, want: 400})
	c.ask(ask{method: "GET", route: status, query: url.Values{"object_name": {object + "x"}}, want: 404})
	all := c.ask(ask{method: "GET", route: status, want: 200}).data
	require.EqualValues(t, 1, all["tiers"].(map[string]any)["cold"].(map[string]any)["objects"])
	run := c.ask(ask{method: "POST", route: "/internal/lifecycle/run", json: map[string]any{"dry_run": true}, want: 200}).data
	require.Equal(t, true, run["dry_run"])
	require.EqualValues(t, 0, run["to_cold"], "nothing is old enough")
}

// Routes 19 to 22.
func walkModels(t *testing.T, c *contract) {
	model := []byte("a model of some bytes")
	register := func(fields map[string]string, want int) answered {
		body, contentType := form(t, fields, "churn.pkl", model)
		return c.ask(ask{method: "POST", route: storagePath + "/models", header: map[string]string{"Content-Type": contentType, "X-User-ID": "5"}, body: body, want: want})
	}
	first := register(map[string]string{"name": "churn", "algorithm": "xgboost", "format": "pkl", "metrics": `{"auc": 0.91}`}, 201).data
	id := first["model_id"].(string)
	require.Regexp(t, `^mdl-[0-9a-f]{8}$`, id)
	require.Equal(t, "ver-001", first["version_id"])
	require.Equal(t, "ready", first["status"])
	require.Equal(t, false, first["is_promoted"])
	require.Equal(t, sum(model), first["sha256"])
	at := map[string]string{"model_id": id}
	const one = storagePath + "/models/{model_id}"
	c.ask(ask{method: "GET", route: one, path: at, want: 404}) // nothing is promoted
	second := register(map[string]string{"name": "churn", "model_id": id, "promote": "true", "format": "pkl"}, 201).data
	require.Equal(t, "ver-002", second["version_id"])
	require.Equal(t, true, second["is_promoted"])
	register(map[string]string{"name": "churn", "model_id": "mdl-00000000"}, 404)
	register(map[string]string{}, 400)

	list := c.ask(ask{method: "GET", route: storagePath + "/models", query: url.Values{"search": {"chu"}}, want: 200}).data
	item := list["items"].([]any)[0].(map[string]any)
	require.EqualValues(t, 2, item["versions_count"])
	require.Equal(t, id, item["model_id"])
	shown := c.ask(ask{method: "GET", route: one, path: at, query: url.Values{"include_all_versions": {"true"}}, want: 200}).data
	require.Len(t, shown["versions"], 2)
	require.Equal(t, "ver-002", shown["promoted_version"].(map[string]any)["version_id"])
	mlflow := c.ask(ask{method: "GET", route: one, path: at, query: url.Values{"format": {"mlflow"}}, want: 200})
	require.Contains(t, string(mlflow.body), "churn")
	c.ask(ask{method: "GET", route: one, path: at, header: map[string]string{"X-Org-ID": "2"}, want: 404})

	download := c.ask(ask{method: "GET", route: one + "/download", path: at, query: url.Values{"version_id": {"ver-001"}}, want: 200}).data
	require.Equal(t, sum(model), download["sha256"])
	status, body := fetch(t, download["download_url"].(string))
	require.Equal(t, 200, status)
	require.Equal(t, model, body)
	c.ask(ask{method: "GET", route: one + "/download", path: at, query: url.Values{"format": {"onnx"}}, want: 422})
	c.ask(ask{method: "GET", route: one + "/download", path: at, query: url.Values{"version_id": {"ver-009"}}, want: 404})
}

// ownDatabase is a database of its own for one test, on the cluster of the tests, behind PgBouncer.
func ownDatabase(t *testing.T) string {
	t.Helper()
	pooled := server(t, "RIVERGATE_TEST_PGBOUNCER_DSN")
	direct := server(t, "RIVERGATE_TEST_POSTGRES_DSN")
	name := "walk_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	conn, err := pgx.Connect(t.Context(), direct)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	require.NoError(t, err)
	at, err := url.Parse(pooled)
	require.NoError(t, err)
	at.Path = "/" + name
	return at.String()
}
