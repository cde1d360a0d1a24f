package e2e

import (
	"encoding/json"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// pageDeadline is how long a page may take on a busy machine, the start of the browser included.
const pageDeadline = 2 * time.Minute

// browser is the program, Chromium or what is made of it.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium-headless-shell", "chromium", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	cannot(t, "there is no Chromium; deploy/services run chromium installs Debian's chromium-headless-shell")
	return ""
}

// seen is what the script of testdata/page.html saw of one answer; Refused: that the browser showed it nothing.
type seen struct {
	Status  int
	Headers map[string]string
	Body    string
	Refused string
}

// site serves the page from an origin of its own.
type site struct {
	*httptest.Server
	given map[string]string // what the script needs to know
	told  chan map[string]seen
}

func newSite(t *testing.T) *site {
	t.Helper()
	page := template.Must(template.ParseFiles("testdata/page.html"))
	s := &site{told: make(chan map[string]seen, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		if err := page.Execute(w, s.given); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("POST /seen", func(_ http.ResponseWriter, r *http.Request) {
		var told map[string]seen
		if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
			t.Error(err)
		}
		s.told <- told
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// open shows the page to a browser, and returns what its script saw.
func (s *site) open(t *testing.T, program string) map[string]seen {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	defer log.Close()
	process, err := rig.Spawn(program, []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--enable-logging=stderr", "--user-data-dir=" + filepath.Join(dir, "profile"), s.URL,
	}, []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir}, dir, nil, nil, log)
	require.NoError(t, err)
	defer func() {
		process.KillGroup()
		<-process.Done()
	}()
	select {
	case told := <-s.told:
		return told
	case <-process.Done():
		require.Fail(t, "the browser ended", "%s", rig.Tail(log.Name(), 4<<10))
	case <-time.After(pageDeadline):
		require.Fail(t, "the page has told nothing", "%s", rig.Tail(log.Name(), 4<<10))
	}
	return nil
}

// A browser's fetch, unchanged: ranges, forms, resumable uploads and errors, for pages of the origins that the operator names.
func TestAPageInABrowserUsesTheStorage(t *testing.T) {
	program := browser(t)
	named, other := newSite(t), newSite(t)
	w := newWorld(t, map[string]string{"RIVERGATE_TARGETS": "gateway,storage", "RIVERGATE_CORS_ORIGINS": "https://app.example.com," + named.URL})
	host := w.start()
	base := "http://" + host.Addr
	c := newContract(t, base)
	user := map[string]string{"X-User-ID": "5"}
	object := uploadTo(c, []byte("well,od\nA1,0.11\n"), "plate one.csv", nil, user, 201).data["file_path"].(string)
	files := func() []any {
		return c.ask(ask{method: "GET", route: storagePath + "/files", header: user, want: 200}).data["items"].([]any)
	}
	signed := func(object, method string) string {
		return c.ask(ask{
			method: "GET", route: storagePath + "/objects/{object_name}/presigned-url", path: map[string]string{"object_name": object},
			query: url.Values{"method": {method}}, header: user, want: 200,
		}).data["url"].(string)
	}
	for _, s := range []*site{named, other} {
		s.given = map[string]string{
			"host": base, "object": base + storagePath + "/objects/" + object, "signed": signed(object, "GET"),
			"put": signed("organizations/1/files/5/put.txt", "PUT"),
		}
	}

	for name, saw := range map[string]map[string]seen{"named": named.open(t, program), "other": other.open(t, program)} {
		part := saw["signed"]
		require.Equal(t, 206, part.Status, "%s: %+v", name, part)
		require.Equal(t, "od", part.Body)
		require.Equal(t, "bytes 5-6/16", part.Headers["content-range"])
		require.Equal(t, "bytes", part.Headers["accept-ranges"])
		require.Contains(t, part.Headers["content-disposition"], "plate one.csv")
		require.Equal(t, `"`+sum([]byte("well,od\nA1,0.11\n"))+`"`, part.Headers["etag"])
		require.Equal(t, "od\nA1,0.11\n", saw["signedOpen"].Body)
		require.Equal(t, 200, saw["signedPut"].Status, "%+v", saw["signedPut"])
		require.Equal(t, `"`+sum([]byte("put by a page"))+`"`, saw["signedPut"].Headers["etag"])
		require.Equal(t, 403, saw["forged"].Status)
		require.Contains(t, saw["forged"].Body, "signed", "the page can say why")
		delete(saw, "signed")
		delete(saw, "signedOpen")
		delete(saw, "signedPut")
		delete(saw, "forged")
		if name == "other" {
			require.Len(t, saw, 6)
			for what, answer := range saw {
				require.Zero(t, answer.Status, what)
				require.Contains(t, answer.Refused, "Failed to fetch", what)
			}
			continue
		}
		require.Equal(t, 206, saw["object"].Status, "%+v", saw["object"])
		require.Equal(t, "od", saw["object"].Body)
		require.Equal(t, "bytes 5-6/16", saw["object"].Headers["content-range"])
		require.NotEmpty(t, saw["object"].Headers["x-request-id"])
		require.Equal(t, 200, saw["simple"].Status)
		require.Equal(t, 404, saw["nothing"].Status)
		require.Contains(t, saw["nothing"].Body, "NOT_FOUND")
		require.Equal(t, 400, saw["nobody"].Status)
		require.Contains(t, saw["nobody"].Body, "X-Org-ID")
		require.Equal(t, 201, saw["upload"].Status, "%+v", saw["upload"])
		require.Contains(t, saw["upload"].Body, sum([]byte("well,od\nB1,0.2\n")))
		require.Equal(t, 201, saw["tus"].Status, "%+v", saw["tus"])
		require.Equal(t, "0", saw["tus"].Headers["upload-offset"])
		require.NotEmpty(t, saw["tus"].Headers["upload-expires"])
		require.Equal(t, 204, saw["tusPatch"].Status, "%+v", saw["tusPatch"])
		require.Equal(t, "5", saw["tusPatch"].Headers["upload-offset"])
		require.Contains(t, saw["tusPatch"].Headers["x-object-name"], "tus_")
	}
	require.Len(t, files(), 4, "the plate, what was put, and what the page of the named origin uploaded twice")
	w.stop()
}
