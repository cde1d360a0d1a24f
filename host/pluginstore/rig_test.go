package pluginstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) {
	if step := os.Getenv("PLUGINSTORE_KILL_AT"); step != "" {
		killedChild(step)
	}
	goleak.VerifyTestMain(m)
}

// folder is a plugin folder under test.
type folder struct {
	*testing.T
	*Store
	path string
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	path := t.TempDir()
	s, err := Open(path, "")
	require.NoError(t, err)
	return &folder{T: t, Store: s, path: path}
}

// program is the text of a pusher for the fake introducer: what it says of itself.
func program(name, version string) string { return "pusher " + name + " " + version + "\n" }

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// put writes a file outside the plugin folder.
func put(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "download")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// place puts a binary into the plugin folder by hand.
func (f *folder) place(file, text string) {
	f.Helper()
	require.NoError(f, os.WriteFile(filepath.Join(f.path, file), []byte(text), 0o755))
}

func (f *folder) text(file string) string {
	f.Helper()
	text, err := os.ReadFile(filepath.Join(f.path, file))
	require.NoError(f, err)
	return string(text)
}

func (f *folder) entries() []Entry {
	f.Helper()
	l, _, err := f.ReadLock()
	require.NoError(f, err)
	return l.Plugins
}

// install installs a file and demands that it works.
func (f *folder) install(text string, change ...func(*InstallOptions)) *Installed {
	f.Helper()
	done, err := f.tryInstall(put(f.T, text), change...)
	require.NoError(f, err)
	return done
}

func (f *folder) tryInstall(source string, change ...func(*InstallOptions)) (*Installed, error) {
	o := InstallOptions{Source: source, Introduce: introduce}
	for _, c := range change {
		c(&o)
	}
	return f.Install(f.Context(), o)
}

func (f *folder) lockAll(change ...func(*LockOptions)) []Locked {
	f.Helper()
	o := LockOptions{Introduce: introduce}
	for _, c := range change {
		c(&o)
	}
	list, err := f.Store.Lock(f.Context(), o)
	require.NoError(f, err)
	return list
}

// judge asks the verifier about the binary of a plugin as it lies in the folder.
func (f *folder) judge(policy string, keys Keys, plugin, pin string) (pluginhost.Trust, error) {
	f.Helper()
	return f.Verify(policy, keys)(f.Context(), f.binary(plugin, pin))
}

func (f *folder) binary(plugin, pin string) pluginhost.Binary {
	path := filepath.Join(f.path, pluginhost.BinaryName(protocol.KindPusher, plugin))
	sum, err := hashOf(path)
	require.NoError(f, err)
	return pluginhost.Binary{Kind: protocol.KindPusher, Plugin: plugin, Source: path, Path: path, SHA256: sum, Pin: pin}
}

// introduce stands in for a plugin host: a file says in its text who it is. Whether real plugins do is tested with the
// commands.
func introduce(ctx context.Context, dir string, verify Verify, want func(pluginhost.Found) bool) ([]pluginhost.Found, error) {
	files, err := filepath.Glob(filepath.Join(dir, "rivergate-*"))
	if err != nil {
		return nil, err
	}
	var found []pluginhost.Found
	for _, path := range files {
		if strings.HasSuffix(path, pluginhost.SignatureSuffix) {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		kind, name, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), "rivergate-"), "-")
		f := pluginhost.Found{Kind: protocol.Kind(kind), Name: name, Path: path, Size: int64(len(raw)), SHA256: sumOf(string(raw))}
		if want(f) {
			words := strings.Fields(string(raw))
			_, err := verify(ctx, pluginhost.Binary{Kind: f.Kind, Plugin: f.Name, Source: path, Path: path, SHA256: f.SHA256})
			switch {
			case err != nil:
				f.Problem = err.Error()
			case len(words) != 3:
				f.Problem = path + " is no plugin"
			case words[0] != kind:
				f.Problem, f.Other = path+" is of another kind", protocol.Kind(words[0])
			default:
				f.Says, f.Version = words[1], words[2]
			}
		}
		found = append(found, f)
	}
	return found, nil
}

// killedChild is a process of its own that installs, or goes back, and is killed at a step on the way.
func killedChild(step string) {
	s, err := Open(os.Getenv("PLUGINSTORE_DIR"), "")
	if err != nil {
		panic(err)
	}
	s.reached = func(now string) {
		if now == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			<-context.Background().Done()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if source := os.Getenv("PLUGINSTORE_SOURCE"); source != "" {
		var list []string
		if key := os.Getenv("PLUGINSTORE_KEY"); key != "" {
			list = append(list, key)
		}
		var keys Keys
		if keys, err = ParseKeys(list); err == nil {
			_, err = s.Install(ctx, InstallOptions{Source: source, Introduce: introduce, Keys: keys})
		}
	} else {
		_, err = s.Rollback(ctx, "acme", nil)
	}
	if err != nil {
		panic(err)
	}
	os.Exit(0)
}
