package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

const modelsPath = "/api/v1/storage/models"

func hexSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestAModelFromItsRegistrationToItsDownload(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		status, first := r.upload(modelsPath, "name", "Churn", "algorithm", "xgboost", "hyperparameters", `{"depth": 6, "x": [1, null]}`,
			"metrics", `{"auc": 0.91}`, "signature", `{"inputs": [{"name": "a", "type": "double"}], "outputs": [{"name": "p", "type": "float"}]}`,
			"tags", `["nightly"]`, "training_duration_seconds", "12.5", "file", "my model.pkl\nthe first", "framework", "sklearn") // fields behind the file, too
		require.Equal(t, 201, status, first)
		id := first["model_id"].(string)
		require.Regexp(t, `^mdl-[0-9a-f]{8}$`, id)
		require.Equal(t, "ver-001", first["version_id"])
		require.Equal(t, false, first["is_promoted"])
		require.Equal(t, hexSum("the first"), first["sha256"])
		require.EqualValues(t, 9, first["file_size_bytes"])
		require.Contains(t, first["artifact_uri"], "s3://rivergen-storage/organizations/7/models/"+id+"/v1/my_model.pkl")
		one := modelsPath + "/" + id

		status, _ = r.get(one)
		require.Equal(t, 404, status, "nothing is promoted")
		status, all := r.get(one + "?include_all_versions=true")
		require.Equal(t, 200, status)
		require.Nil(t, all["promoted_version"])
		v := all["versions"].([]any)[0].(map[string]any)
		require.Equal(t, map[string]any{"depth": 6.0, "x": []any{1.0, nil}}, v["hyperparameters"])
		require.Equal(t, map[string]any{"auc": 0.91}, v["metrics"])
		require.Equal(t, "sklearn", v["framework"])
		require.Equal(t, "pkl", v["format"])
		require.Equal(t, 12.5, v["training_duration_seconds"])
		require.Equal(t, map[string]any{"nightly": ""}, v["tags"])
		require.Equal(t, map[string]any{"model_file": first["artifact_uri"], "onnx_file": nil}, v["artifacts"])
		require.Equal(t, []any{map[string]any{"name": "my model.pkl", "size_bytes": 9.0, "sha256": hexSum("the first")}}, v["manifest"])
		require.Equal(t, 3.0, v["trained_by"])

		status, second := r.upload(modelsPath, "name", "Churn", "model_id", id, "promote", "true", "file", "m.onnx\nthe second")
		require.Equal(t, 201, status, second)
		require.Equal(t, "ver-002", second["version_id"])
		require.Equal(t, true, second["is_promoted"])
		status, shown := r.get(one)
		require.Equal(t, 200, status)
		require.Equal(t, "ver-002", shown["promoted_version"].(map[string]any)["version_id"])
		require.NotContains(t, shown, "versions")

		status, list := r.get(modelsPath + "?search=hUR&status=ready&algorithm=xgboost")
		require.Equal(t, 200, status)
		require.Len(t, list["items"], 1)
		item := list["items"].([]any)[0].(map[string]any)
		require.Equal(t, []any{id, "Churn", 2.0, 2.0, 2.0}, []any{item["model_id"], item["model_name"], item["latest_version"], item["promoted_version"], item["versions_count"]})
		for _, none := range []string{"?search=%25", "?algorithm=other", "?status=uploading", "?page=2"} {
			status, list = r.get(modelsPath + none)
			require.Equal(t, 200, status)
			require.Empty(t, list["items"], none)
		}

		for query, want := range map[string]string{"": "the second", "?version_id=ver-001&format=pkl&expires_in=60": "the first", "?format=onnx": "the second"} {
			status, d := r.get(one + "/download" + query)
			require.Equal(t, 200, status, d)
			require.Equal(t, hexSum(want), d["sha256"])
			status, got := r.get(d["download_url"].(string))
			require.Equal(t, 200, status)
			require.Equal(t, want, got["bytes"])
		}
		for query, want := range map[string]int{
			"?format=joblib": 422, "?version_id=ver-001&format=onnx": 422, "?format=exe": 400, "?version_id=ver-003": 404, "?version_id=2": 404,
			"?version_id=ver-1": 404, "?expires_in=86401": 400, "?expires_in=0": 400,
		} {
			status, _ = r.get(one + "/download" + query)
			require.Equal(t, want, status, query)
		}

		status, ml := r.get(one + "?format=mlflow&include_all_versions=true")
		require.Equal(t, 200, status)
		m := ml["registered_model"].(map[string]any)
		require.Equal(t, "Churn", m["name"])
		require.Equal(t, []any{map[string]any{"alias": "promoted", "version": "2"}}, m["aliases"])
		require.Len(t, m["latest_versions"], 2)
		require.Equal(t, "Production", m["latest_versions"].([]any)[0].(map[string]any)["current_stage"])
		status, _ = r.get(one + "?format=other")
		require.Equal(t, 400, status)

		require.EqualValues(t, len("the first")+len("the second"), r.reconciled())
		r.org = "8"
		for _, path := range []string{one, one + "?include_all_versions=true", one + "/download"} {
			status, _ = r.get(path)
			require.Equal(t, 404, status)
		}
		status, _ = r.upload(modelsPath, "name", "Churn", "model_id", id, "file", "m.onnx\nx")
		require.Equal(t, 404, status)
		status, _ = r.post(one+"/promote", `{"version_id": "ver-001"}`)
		require.Equal(t, 404, status)
		status, list = r.get(modelsPath)
		require.Equal(t, 200, status)
		require.Empty(t, list["items"])
	})
}

func TestWhatIsNoRegistrationLeavesNothing(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		for want, forms := range map[int][][]string{
			400: {
				{"file", "m.pkl\nx"}, {"name", "a"}, {"name", "a", "format", "exe", "file", "m.pkl\nx"}, {"name", "a\x01", "file", "m.pkl\nx"},
				{"name", strings.Repeat("a", 256), "file", "m.pkl\nx"}, {"name", "a", "metrics", `{"auc": "high"}`, "file", "m.pkl\nx"},
				{"name", "a", "hyperparameters", `[1]`, "file", "m.pkl\nx"}, {"name", "a", "signature", `7`, "file", "m.pkl\nx"}, {"name", "a", "tags", `{"a": 1}`, "file", "m.pkl\nx"},
				{"name", "a", "promote", "perhaps", "file", "m.pkl\nx"}, {"name", "a", "file", "m.pkl\nx", "model_id", "mdl-00000000"},
				{"name", "a", "training_duration_seconds", "-1", "file", "m.pkl\nx"}, {"name", "a", "training_duration_seconds", "NaN", "file", "m.pkl\nx"},
				{"name", "a", "file", "m.pkl\nx", "file", "n.pkl\ny"}, {"name", "a", "file", "../m.pkl\nx"},
			},
			404: {{"name", "a", "model_id", "mdl-00000000", "file", "m.pkl\nx"}, {"name", "a", "model_id", "nonsense", "file", "m.pkl\nx"}},
			413: {{"name", "a", "file", "m.pkl\n" + strings.Repeat("x", testQuota+1)}},
		} {
			for _, form := range forms {
				status, failure := r.upload(modelsPath, form...)
				require.Equal(t, want, status, "%.300q %v", form, failure)
			}
		}
		for body, want := range map[string]int{
			`{"name": "a"}`: 400, `{"name": "a", "artifact_uri": "organizations/7/files/3/none"}`: 404, `{"name": "a", "artifact_uri": "organizations/7/files/4/x"}`: 403,
			`{"name": "a", "artifact_uri": "organizations/8/files/3/x"}`: 404, `{"name": "a", "artifact_uri": "../x"}`: 400, `{`: 400,
			`{"name": "a", "artifact_uri": "https://example.org/x"}`: 400,
		} {
			status, failure := r.post(modelsPath, body)
			require.Equal(t, want, status, "%s %v", body, failure)
		}
		r.dir.Fail(func(op storagetest.Op) error {
			if op.Name == "put" {
				return io.ErrClosedPipe
			}
			return nil
		})
		status, _ := r.upload(modelsPath, "name", "a", "file", "m.pkl\nx")
		require.Equal(t, 503, status)
		r.dir.Fail(nil)

		status, list := r.get(modelsPath)
		require.Equal(t, 200, status)
		require.Empty(t, list["items"])
		require.Zero(t, r.reconciled())
		require.Empty(t, r.dir.Keys())
		var rows int
		require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM models_models) + (SELECT count(*) FROM models_versions)").Scan(&rows))
		require.Zero(t, rows)
	})
}

// Also those of registrations that failed do not come again.
func TestVersionNumbersAreGivenOnceHoweverManyRegisterAtOnce(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		status, first := r.upload(modelsPath, "name", "a", "file", "m.pkl\n1")
		require.Equal(t, 201, status)
		id := first["model_id"].(string)
		status, failure := r.upload(modelsPath, "name", "another", "model_id", id, "file", "m.pkl\nx")
		require.Equal(t, 422, status, failure)

		var all sync.WaitGroup
		var mu sync.Mutex
		seen := map[string]bool{"ver-001": true, "ver-002": true}
		promoted := map[string]bool{}
		for range 12 {
			all.Go(func() {
				status, v := r.upload(modelsPath, "name", "a", "model_id", id, "promote", "true", "file", "m.pkl\nx")
				mu.Lock()
				defer mu.Unlock()
				if status == 201 {
					if version := v["version_id"].(string); seen[version] {
						t.Errorf("%s came twice", version)
					} else {
						seen[version] = true
						promoted[version] = true
					}
				} else {
					t.Errorf("%d %v", status, v)
				}
			})
		}
		all.Wait()
		for n := range 14 {
			require.True(t, seen[fmt.Sprintf("ver-%03d", n+1)])
		}
		status, shown := r.get(modelsPath + "/" + id + "?include_all_versions=true")
		require.Equal(t, 200, status)
		require.Len(t, shown["versions"], 13)
		// The history is a chain: each was promoted in place of the one before it.
		history := shown["promotions"].([]any)
		require.Len(t, history, 12)
		require.Equal(t, shown["promoted_version"].(map[string]any)["version_id"], history[0].(map[string]any)["version_id"])
		for i, p := range history {
			require.True(t, promoted[p.(map[string]any)["version_id"].(string)])
			var before any
			if i+1 < len(history) {
				before = history[i+1].(map[string]any)["version_id"]
			}
			require.Equal(t, before, p.(map[string]any)["previous_version_id"])
		}
		r.reconciled()
	})
}

func TestOfManyWhoPromoteInPlaceOfTheSameExactlyOneWins(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		_, first := r.upload(modelsPath, "name", "a", "file", "m.pkl\n0")
		id := first["model_id"].(string)
		const n = 8
		for i := range n {
			status, _ := r.upload(modelsPath, "name", "a", "model_id", id, "file", fmt.Sprintf("m.pkl\n%d", i))
			require.Equal(t, 201, status)
		}
		path := modelsPath + "/" + id + "/promote"
		status, p := r.post(path, `{"version_id": "ver-001", "expected_version_id": ""}`)
		require.Equal(t, 200, status, p)
		require.Nil(t, p["previous_version_id"])
		var all sync.WaitGroup
		statuses := make([]int, n)
		for i := range n {
			all.Go(func() {
				statuses[i], _ = r.post(path, fmt.Sprintf(`{"version_id": "ver-%03d", "expected_version_id": "ver-001"}`, i+2))
			})
		}
		all.Wait()
		won := 0
		for _, status := range statuses {
			if status == 200 {
				won++
			} else {
				require.Equal(t, 409, status)
			}
		}
		require.Equal(t, 1, won)
		status, p = r.post(path, `{"version_id": "ver-003"}`)
		require.Equal(t, 200, status, "without a condition")
		require.NotNil(t, p["previous_version_id"])
		for body, want := range map[string]int{
			`{}`: 400, `{"version_id": "ver-099"}`: 404, `{"version_id": "3"}`: 404, `{"version_id": "ver-001", "expected_version_id": "x"}`: 400,
		} {
			status, _ = r.post(path, body)
			require.Equal(t, want, status, body)
		}
	})
}

// The file that a version was made of may change or go: the version stays.
func TestAVersionOfAnUploadedFileIsACopy(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		status, file := r.upload("/api/v1/storage/upload", "file_category", "general", "file", "m.onnx\nbytes of a model")
		require.Equal(t, 201, status, file)
		id := ""
		for i, uri := range []string{file["file_path"].(string), file["s3_uri"].(string)} {
			status, v := r.post(modelsPath, fmt.Sprintf(`{"name": "a", "model_id": %q, "artifact_uri": %q, "promote": true, "metrics": {"auc": 1}}`, id, uri))
			require.Equal(t, 201, status, v)
			require.EqualValues(t, i+1, v["version_number"])
			require.Equal(t, hexSum("bytes of a model"), v["sha256"])
			id = v["model_id"].(string)
		}
		status, _ = r.ask(http.MethodDelete, "/api/v1/storage/objects/"+file["file_path"].(string), nil, "")
		require.Equal(t, 200, status)
		status, d := r.get(modelsPath + "/" + id + "/download?format=onnx")
		require.Equal(t, 200, status, d)
		_, got := r.get(d["download_url"].(string))
		require.Equal(t, "bytes of a model", got["bytes"])
		require.EqualValues(t, 2*len("bytes of a model"), r.reconciled())

		// Internal callers cannot change it either.
		u, err := url.Parse(d["download_url"].(string))
		require.NoError(t, err)
		name := strings.TrimPrefix(u.Path, "/api/v1/storage/signed/")
		status, failure := r.upload("/internal/files", "purpose", "model_artifact", "object_name", name, "overwrite", "true", "file", "m.onnx\nother")
		require.Equal(t, 409, status, failure)
	})
}

// A host that dies after the artifact has become visible, or before, leaves nothing half done.
func TestRegistrationsThatWereCutOffAreFinishedOrForgotten(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db)
		_, whole := r.upload(modelsPath, "name", "whole", "promote", "true", "file", "m.pkl\nwhole")
		_, lost := r.upload(modelsPath, "name", "lost", "file", "m.pkl\nlost")
		require.NoError(t, db.Write(t.Context(), func(tx *database.Tx) error { // as if the process had died before the last step
			for _, statement := range []string{
				"UPDATE models_versions SET status = 'uploading', sha256 = '', size = 0, artifact_uri = ''", "DELETE FROM models_promotions",
				"UPDATE models_models SET versions = 0, newest = 0, promoted = 0", "UPDATE models_versions SET created = 1 WHERE model = (SELECT id FROM models_models WHERE name = 'lost')",
			} {
				if _, err := tx.ExecContext(t.Context(), statement); err != nil {
					return err
				}
			}
			return nil
		}))
		var object string
		require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT object_name FROM models_versions WHERE model = ?", lost["model_id"]).Scan(&object))
		gone, err := r.service.Ledger.Delete(t.Context(), 7, object)
		require.NoError(t, err)
		require.NoError(t, r.dir.Delete(t.Context(), gone.Key))
		require.NoError(t, r.service.Ledger.Purged(t.Context(), gone.Key))
		_, err = r.service.Ledger.Find(t.Context(), 7, object)
		require.ErrorIs(t, err, ledger.ErrNotFound)

		require.NoError(t, r.open().Close()) // another host starts
		_, list := r.get(modelsPath)
		require.Len(t, list["items"], 1)
		status, d := r.get(modelsPath + "/" + whole["model_id"].(string) + "/download")
		require.Equal(t, 200, status)
		require.Equal(t, hexSum("whole"), d["sha256"])
		status, _ = r.get(modelsPath + "/" + lost["model_id"].(string) + "?include_all_versions=true")
		require.Equal(t, 404, status)
		require.EqualValues(t, len("whole"), r.reconciled())
		require.Len(t, r.dir.Keys(), 1)
		require.True(t, bytes.Contains([]byte(r.dir.Keys()[0]), []byte("/models/")))
	})
}

func TestARegistrationThatIsRepeatedWithItsKeyIsOne(t *testing.T) {
	r := newRig(t, openSQLite(t))
	r.key = "one"
	status, first := r.upload(modelsPath, "name", "a", "file", "m.pkl\nbytes")
	require.Equal(t, 201, status, first)
	status, again := r.upload(modelsPath, "name", "a", "file", "m.pkl\nbytes")
	require.Equal(t, 201, status, again)
	require.Equal(t, first, again)
	for _, other := range [][]string{{"name", "b", "file", "m.pkl\nbytes"}, {"name", "a", "file", "m.pkl\nother"}} {
		status, failure := r.upload(modelsPath, other...)
		require.Equal(t, 422, status, failure)
	}
	r.key = ""
	status, file := r.upload("/api/v1/storage/upload", "file_category", "general", "file", "m.onnx\nbytes")
	require.Equal(t, 201, status, file)
	r.key = "two"
	body := fmt.Sprintf(`{"name": "b", "artifact_uri": %q}`, file["file_path"])
	status, first = r.post(modelsPath, body)
	require.Equal(t, 201, status, first)
	status, again = r.post(modelsPath, body)
	require.Equal(t, 201, status, again)
	require.Equal(t, first, again)
	status, _ = r.post(modelsPath, body+" ")
	require.Equal(t, 422, status)
	_, list := r.get(modelsPath)
	require.Len(t, list["items"], 2)
	require.EqualValues(t, 3*len("bytes"), r.reconciled())
}
