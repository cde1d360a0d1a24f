package pluginstore

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
)

const acmeFile = "rivergate-pusher-acme"

func TestInstallPutsAPluginIntoTheFolderAndTheLockFile(t *testing.T) {
	f := newFolder(t)
	source := put(t, program("acme", "1.0.0"))
	done, err := f.tryInstall(source)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(f.path, acmeFile), done.Path)
	require.Equal(t, program("acme", "1.0.0"), f.text(acmeFile))
	info, err := os.Stat(done.Path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode(), "a file that was downloaded becomes executable")
	require.Equal(t, []Entry{{Kind: "pusher", Name: "acme", Release: Release{Version: "1.0.0", SHA256: sumOf(program("acme", "1.0.0")), Source: source}}}, f.entries())
	trust, err := f.judge(PolicyLocked, nil, "acme", "")
	require.NoError(t, err)
	require.Equal(t, pluginhost.Trust("locked"), trust)
	f.clean()

	require.True(t, f.install(program("acme", "1.0.0")).Unchanged)
	require.Nil(t, f.entries()[0].Former)
}

// clean demands that nothing is left over beside the binaries, the lock file and the kept versions.
func (f *folder) clean() {
	f.Helper()
	entries, err := os.ReadDir(f.path)
	require.NoError(f, err)
	for _, e := range entries {
		require.True(f, strings.HasPrefix(e.Name(), "rivergate-") || e.Name() == LockName || e.Name() == versionsDir, e.Name())
	}
	staged, err := filepath.Glob(filepath.Join(f.path, versionsDir, stagingPrefix+"*"))
	require.NoError(f, err)
	require.Empty(f, staged)
}

func (f *folder) keptFiles() []string {
	kept, err := filepath.Glob(filepath.Join(f.path, versionsDir, "*", "*"))
	require.NoError(f, err)
	for i := range kept {
		kept[i] = filepath.Base(kept[i])
	}
	return kept
}

func TestRollbackReturnsToTheFormerVersionAndTwiceToTheNewer(t *testing.T) {
	f := newFolder(t)
	one, two, three := program("acme", "1"), program("acme", "2"), program("acme", "3")
	f.install(one)
	f.install(two)
	require.Equal(t, "1", f.entries()[0].Former.Version)
	f.install(three)
	require.Equal(t, []string{sumOf(two)}, f.keptFiles(), "only what can be gone back to is kept")

	for _, want := range []struct{ now, former string }{{two, "3"}, {three, "2"}, {two, "3"}} {
		done, err := f.Rollback(t.Context(), "acme", nil)
		require.NoError(t, err)
		require.Equal(t, want.now, f.text(acmeFile))
		require.Equal(t, want.former, done.To.Entry.Former.Version)
		require.Equal(t, *done.To.Entry, f.entries()[0])
		_, err = f.judge(PolicyLocked, nil, "acme", "")
		require.NoError(t, err)
		f.clean()
	}
}

func TestRollbackTakesSignatureAndAllBack(t *testing.T) {
	acme := newPublisher(t)
	f := newFolder(t)
	for _, version := range []string{"1", "2"} {
		text := program("acme", version)
		source := put(t, text)
		require.NoError(t, os.WriteFile(source+".minisig", []byte(acme.sign(t, text, "release "+version)), 0o600))
		done, err := f.tryInstall(source, func(o *InstallOptions) { o.Keys = acme.keys() })
		require.NoError(t, err)
		require.Equal(t, "release "+version, done.Signer.Comment)
	}
	done, err := f.Rollback(t.Context(), "acme", acme.keys())
	require.NoError(t, err)
	require.Equal(t, "release 1", done.Signer.Comment)
	trust, err := f.judge(PolicyLocked, acme.keys(), "acme", "")
	require.NoError(t, err)
	require.Equal(t, pluginhost.Trust("locked, signed"), trust)

	_, err = f.Rollback(t.Context(), "acme", newPublisher(t).keys())
	require.ErrorContains(t, err, "not in RIVERGATE_PLUGIN_KEYS")
	require.Equal(t, program("acme", "1"), f.text(acmeFile))
}

func TestThereIsNoWayBackToWhatWasNeverThereOrWasChanged(t *testing.T) {
	f := newFolder(t)
	_, err := f.Rollback(t.Context(), "acme", nil)
	require.ErrorContains(t, err, "not in the lock file")
	f.install(program("acme", "1"))
	var none *NoFormerError
	_, err = f.Rollback(t.Context(), "acme", nil)
	require.ErrorAs(t, err, &none)

	f.place(acmeFile, program("evil", "1"))
	done := f.install(program("acme", "2"))
	require.Contains(t, done.NotKept, "not the one in the lock file")
	_, err = f.Rollback(t.Context(), "acme", nil)
	require.ErrorAs(t, err, &none, "bytes that nobody vouched for are not gone back to")

	f.install(program("acme", "3"))
	kept := filepath.Join(f.path, versionsDir, acmeFile, sumOf(program("acme", "2")))
	require.NoError(t, os.WriteFile(kept, []byte("changed"), 0o600))
	_, err = f.Rollback(t.Context(), "acme", nil)
	var wrong *HashError
	require.ErrorAs(t, err, &wrong)
	require.NoError(t, os.Remove(kept))
	_, err = f.Rollback(t.Context(), "acme", nil)
	require.ErrorContains(t, err, "rivergate plugins install brings it back")
	require.Equal(t, program("acme", "3"), f.text(acmeFile))
}

func TestAPluginThatLayThereByHandIsKeptToo(t *testing.T) {
	f := newFolder(t)
	f.place(acmeFile, program("acme", "0"))
	f.install(program("acme", "1"))
	_, err := f.Rollback(t.Context(), "pusher/acme", nil)
	require.NoError(t, err)
	require.Equal(t, program("acme", "0"), f.text(acmeFile))
}

func TestAnUpgradeThatIsRevertedLeavesEverythingAsItWas(t *testing.T) {
	f := newFolder(t)
	keepAll := func(o *InstallOptions) { o.KeepAll = true }
	first := f.install(program("acme", "1"), keepAll)
	require.NoError(t, f.Revert(t.Context(), first))
	require.NoFileExists(t, filepath.Join(f.path, acmeFile))
	require.Empty(t, f.entries())

	f.install(program("acme", "1"))
	f.install(program("acme", "2"))
	before := f.text(LockName)
	done := f.install(program("acme", "3"), keepAll)
	require.NoError(t, f.Revert(t.Context(), done))
	require.Equal(t, before, f.text(LockName))
	require.Equal(t, program("acme", "2"), f.text(acmeFile))
	_, err := f.Rollback(t.Context(), "acme", nil)
	require.NoError(t, err)
	require.Equal(t, program("acme", "1"), f.text(acmeFile), "the version before is still there to go back to")

	f.install(program("acme", "3"), keepAll)
	require.NoError(t, f.Settle(t.Context()))
	require.Equal(t, []string{sumOf(program("acme", "1"))}, f.keptFiles())
}

func TestWhatCannotBeInstalledChangesNothing(t *testing.T) {
	acme, stranger := newPublisher(t), newPublisher(t)
	two := program("acme", "2")
	signed := put(t, two)
	require.NoError(t, os.WriteFile(signed+".minisig", []byte(stranger.sign(t, two, "x")), 0o600))
	open := put(t, two)
	require.NoError(t, os.Chmod(open, 0o666))
	other := put(t, program("other", "2"))
	for name, c := range map[string]struct {
		source string
		change func(*InstallOptions)
		want   string
	}{
		"wrong hash":         {put(t, two), func(o *InstallOptions) { o.SHA256 = hashA }, sumOf(two) + ", and " + hashA + " was asked for"},
		"no hash at all":     {put(t, two), func(o *InstallOptions) { o.SHA256 = "abc" }, "64 hexadecimal digits"},
		"not there":          {"/nowhere/plugin", nil, "there is no such file: /nowhere/plugin"},
		"a folder":           {t.TempDir(), nil, "is a folder"},
		"a device":           {"/dev/null", nil, "not a regular file"},
		"world-writable":     {open, nil, "chmod o-w"},
		"no plugin":          {put(t, "hello"), nil, "cannot be run as a plugin: the file is no plugin"},
		"reserved name":      {put(t, program("storage", "1")), nil, "--name gives it another"},
		"name not allowed":   {put(t, two), func(o *InstallOptions) { o.Name = "../acme" }, "not allowed"},
		"another plugin":     {other, func(o *InstallOptions) { o.Expect = "acme" }, "--name acme does it all the same"},
		"kind of no use":     {put(t, "connector other 2"), nil, "its kind is connector, and this version of Rivergate runs pushers and storages"},
		"another kind":       {put(t, "storage acme 2"), func(o *InstallOptions) { o.Kind = protocol.KindPusher }, "of the kind storage, and one of the kind pusher"},
		"no signature":       {put(t, two), func(o *InstallOptions) { o.Keys = acme.keys() }, "needs a signature, and there is no /"},
		"wrong signature":    {signed, func(o *InstallOptions) { o.Keys = acme.keys() }, signed + ".minisig: it was made with the key " + stranger.ID()},
		"signature, no key":  {put(t, two), func(o *InstallOptions) { o.Signature = signed + ".minisig" }, "names no key"},
		"plain http":         {"http://example.com/acme", func(o *InstallOptions) { o.SHA256 = hashA }, "not encrypted"},
		"another scheme":     {"ftp://example.com/acme", func(o *InstallOptions) { o.SHA256 = hashA }, "only https"},
		"address, no hash":   {"https://user:word@example.com/acme?token=word", nil, "https://example.com/acme has to be: give its SHA-256 with --sha256"},
		"address is no such": {"https://", nil, "names no host"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			f.install(program("acme", "1"))
			before := f.text(LockName)
			var changes []func(*InstallOptions)
			if c.change != nil {
				changes = append(changes, c.change)
			}
			_, err := f.tryInstall(c.source, changes...)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "word@")
			require.NotContains(t, err.Error(), "token")
			require.Equal(t, before, f.text(LockName))
			require.Equal(t, program("acme", "1"), f.text(acmeFile))
			f.clean()
		})
	}
}

func TestAStorageIsInstalledBesideAPusherOfItsName(t *testing.T) {
	const storageFile = "rivergate-storage-acme"
	acme := newPublisher(t)
	f := newFolder(t)
	f.install(program("acme", "1"))
	f.install(program("acme", "2"))
	for _, version := range []string{"7", "8"} {
		text := "storage acme " + version
		source := put(t, text)
		require.NoError(t, os.WriteFile(source+".minisig", []byte(acme.sign(t, text, "release "+version)), 0o600))
		done, err := f.tryInstall(source, func(o *InstallOptions) { o.Keys = acme.keys() })
		require.NoError(t, err)
		require.Equal(t, protocol.KindStorage, done.Kind)
		require.Equal(t, "release "+version, done.Signer.Comment)
		require.Equal(t, filepath.Join(f.path, storageFile), done.Path)
		require.Equal(t, text, f.text(storageFile))
	}
	require.Equal(t, program("acme", "2"), f.text(acmeFile))

	_, err := f.Rollback(t.Context(), "acme", nil)
	require.ErrorContains(t, err, "several plugins are called acme: say pusher/acme")
	done, err := f.Rollback(t.Context(), "storage/acme", acme.keys())
	require.NoError(t, err)
	require.Equal(t, "7", done.To.Entry.Version)
	require.Equal(t, "storage acme 7", f.text(storageFile))
	require.Equal(t, program("acme", "2"), f.text(acmeFile))
	f.clean()
}

func TestAnotherNameIsGivenOnRequest(t *testing.T) {
	f := newFolder(t)
	done := f.install(program("acme", "1"), func(o *InstallOptions) { o.Name = "second" })
	require.Equal(t, "second", done.Name)
	require.Equal(t, program("acme", "1"), f.text("rivergate-pusher-second"))
	require.Equal(t, "second", f.entries()[0].Name)
}

// publish serves files. The handler may do as it likes.
func publish(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestAnAddressIsInstalledByItsHashOrItsSignature(t *testing.T) {
	acme := newPublisher(t)
	text := program("acme", "1")
	url := publish(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/releases/acme":
			http.Redirect(w, r, "/files/acme?signed=secretword", http.StatusFound)
		case "/files/acme":
			_, _ = w.Write([]byte(text))
		case "/releases/acme.minisig":
			_, _ = w.Write([]byte(acme.sign(t, text, "acme")))
		default:
			http.NotFound(w, r)
		}
	})
	f := newFolder(t)
	var seen int64
	done, err := f.tryInstall(url+"/releases/acme?token=secretword", func(o *InstallOptions) {
		o.SHA256 = strings.ToUpper(sumOf(text))
		o.Progress = func(read, _ int64) { seen = read }
	})
	require.NoError(t, err)
	require.Equal(t, url+"/releases/acme", done.To.Entry.Source)
	require.NotContains(t, f.text(LockName), "secretword")
	require.Equal(t, int64(len(text)), seen)

	done, err = newFolder(t).tryInstall(url+"/releases/acme", func(o *InstallOptions) { o.Keys = acme.keys() })
	require.NoError(t, err)
	require.Equal(t, acme.ID(), done.Signer.Key)

	_, err = newFolder(t).tryInstall(url+"/files/acme", func(o *InstallOptions) { o.Keys = acme.keys() })
	require.ErrorContains(t, err, "there is no "+url+"/files/acme.minisig: --signature")
	_, err = newFolder(t).tryInstall(url+"/files/acme", func(o *InstallOptions) {
		o.Keys, o.Signature = acme.keys(), url+"/releases/acme.minisig"
	})
	require.NoError(t, err)
}

func TestADownloadIsBounded(t *testing.T) {
	endless := make(chan struct{})
	defer close(endless)
	url := publish(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/away":
			http.Redirect(w, r, "http://example.com/x", http.StatusFound)
		case "/huge":
			w.Header().Set("Content-Length", "2000")
			_, _ = w.Write(make([]byte, 2000))
		case "/growing":
			for range 20 {
				_, _ = w.Write(make([]byte, 100))
				w.(http.Flusher).Flush()
			}
		case "/short":
			w.Header().Set("Content-Length", "500")
			_, _ = w.Write(make([]byte, 100))
		case "/stalls":
			_, _ = w.Write(make([]byte, 100))
			w.(http.Flusher).Flush()
			select {
			case <-endless:
			case <-r.Context().Done():
			}
		default:
			w.WriteHeader(http.StatusTeapot)
		}
	})
	for path, want := range map[string]string{
		"/loop": "more than 5 redirects", "/away": "redirected: http://example.com/x is not encrypted",
		"/huge": "it has 2000 bytes; at most 1000", "/growing": "more than 1000 bytes", "/short": "unexpected EOF",
		"/stalls": "nothing came for 200ms", "/tea": "418",
	} {
		s, err := parseSource(url + path + "?secretword")
		require.NoError(t, err)
		fetch := &fetcher{stall: 30 * time.Second}
		if path == "/stalls" {
			fetch.stall = 200 * time.Millisecond
		}
		err = fetch.fetch(t.Context(), s, 1000, new(strings.Builder))
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "download "+url+path+": ")
		require.NotContains(t, err.Error(), "secretword")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := parseSource(url)
	require.NoError(t, err)
	require.ErrorIs(t, (&fetcher{}).fetch(ctx, s, 1, new(strings.Builder)), context.Canceled)
}

func TestAnEncryptedAddressIsNeverLeftForAPlainOne(t *testing.T) {
	plain := publish(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) })
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain, http.StatusFound) }))
	defer server.Close()
	s, err := parseSource(server.URL)
	require.NoError(t, err)
	err = (&fetcher{client: server.Client()}).fetch(t.Context(), s, 1000, new(strings.Builder))
	require.ErrorContains(t, err, "redirected from https to "+plain)
}

func TestAnUpgradeIsNotRevertedOverWhatAnotherCommandDid(t *testing.T) {
	keepAll := func(o *InstallOptions) { o.KeepAll = true }
	f := newFolder(t)
	f.install(program("acme", "1"))
	done := f.install(program("acme", "2"), keepAll)
	f.install(program("acme", "3"))
	require.ErrorContains(t, f.Revert(t.Context(), done), "meanwhile")
	require.Equal(t, program("acme", "3"), f.text(acmeFile))
	_, err := f.judge(PolicyLocked, nil, "acme", "")
	require.NoError(t, err, "what lies there can be run")

	f = newFolder(t)
	f.install(program("acme", "1"))
	f.place(acmeFile, program("other", "1"))
	done = f.install(program("acme", "2"), keepAll)
	require.NoError(t, f.Settle(t.Context()))
	require.ErrorContains(t, f.Revert(t.Context(), done), "is not kept any more")
	require.NoFileExists(t, f.pending(), "no exchange is begun that nobody can finish")
	f.install(program("acme", "3"))
}

func TestAnEscapedSlashInAnAddressStaysOne(t *testing.T) {
	s, err := parseSource("https://example.com/projects/group%2Fname/acme?token=secretword")
	require.NoError(t, err)
	require.Equal(t, "https://example.com/projects/group%2Fname/acme", s.String())
	signature := s.with(".minisig")
	require.Equal(t, "https://example.com/projects/group%2Fname/acme.minisig", signature.String())
	require.Equal(t, "/projects/group%2Fname/acme.minisig", signature.url.EscapedPath())
}
