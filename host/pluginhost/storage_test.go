package pluginhost

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// storages is a world with the plugin local, and an instance of it that keeps its objects in a folder of the test.
func storages(t testing.TB, change ...func(*Options)) (*world, Instance) {
	t.Helper()
	w := newWorld(t, change...)
	w.installStorage()
	return w, Instance{
		Name: "storage-local", Kind: protocol.KindStorage, OnDemand: true,
		Vars: map[string]string{"PLUGIN_STORAGE_LOCAL_PATH": filepath.Join(t.TempDir(), "objects")},
	}
}

func (w *world) installStorage() {
	w.t.Helper()
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	built := filepath.Join(binaries.dir, "storage-local")
	if _, err := os.Stat(built); err != nil {
		cmd := exec.Command("go", "build", "-o", built, "../../plugins/storage/local")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		text, err := cmd.CombinedOutput()
		require.NoError(w.t, err, "%s", text)
	}
	data, err := os.ReadFile(built)
	require.NoError(w.t, err)
	path := filepath.Join(w.opts.Dir, BinaryName(protocol.KindStorage, "local"))
	require.NoError(w.t, os.WriteFile(path+".new", data, 0o755))
	require.NoError(w.t, os.Rename(path+".new", path))
}

func (w *world) storage() *Storage {
	w.t.Helper()
	s, err := w.host.Storage(w.t.Context(), "local")
	require.NoError(w.t, err)
	return s
}

func someBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func read(t testing.TB, s *Storage, key string, part protocol.Range) []byte {
	t.Helper()
	_, content, err := s.Get(t.Context(), key, part)
	require.NoError(t, err)
	got, err := io.ReadAll(content)
	require.NoError(t, err)
	require.NoError(t, content.Close())
	return got
}

func TestAStorageStartsWhenItIsFirstNeeded(t *testing.T) {
	w, in := storages(t)
	require.Empty(t, w.host.Start(t.Context(), []Instance{in}))
	require.Equal(t, StateIdle, w.status(in.Name).State)
	s := w.storage()
	require.Equal(t, StateIdle, w.status(in.Name).State, "a handle alone starts nothing")

	var together sync.WaitGroup
	for range 8 {
		together.Go(func() {
			_, err := s.Stat(t.Context(), "nothing")
			require.ErrorIs(t, err, protocol.ErrNotFound)
		})
	}
	together.Wait()
	st := w.status(in.Name)
	require.Equal(t, StateRunning, st.State)
	require.Equal(t, protocol.KindStorage, st.Kind)
	require.Equal(t, "local", st.Plugin)
	require.Contains(t, st.Capabilities, protocol.CapMultipart)

	content := someBytes(3<<20 + 17)
	o, err := s.Put(t.Context(), protocol.Put{Key: "a/b", Size: int64(len(content))}, bytes.NewReader(content))
	require.NoError(t, err)
	require.EqualValues(t, len(content), o.Size)
	require.Equal(t, content, read(t, s, "a/b", protocol.Whole()))
	require.Equal(t, content[5:1<<20], read(t, s, "a/b", protocol.Range{From: 5, Length: 1<<20 - 5}))
	_, err = w.host.Storage(t.Context(), "other")
	require.ErrorIs(t, err, ErrUnknown)
}

func TestWrongVariablesOfASleepingStorageAreFoundAtTheStart(t *testing.T) {
	w, in := storages(t)
	in.Vars["PLUGIN_STORAGE_LOCAL_PAHT"] = "x"
	problems := w.host.Start(t.Context(), []Instance{in})
	require.Len(t, problems, 1)
	require.Equal(t, "PLUGIN_STORAGE_LOCAL_PAHT", problems[0].Variable)

	w, in = storages(t)
	in.Plugin = "nowhere"
	problems = w.host.Check(t.Context(), []Instance{in})
	require.Len(t, problems, 1)
	require.Equal(t, "PLUGIN_STORAGE_LOCAL_USE", problems[0].Variable)
}

func TestWhatCanBeRepeatedSurvivesKillNine(t *testing.T) {
	w, in := storages(t)
	require.Empty(t, w.host.Start(t.Context(), []Instance{in}))
	s := w.storage()
	content := someBytes(40 << 20)
	_, err := s.Put(t.Context(), protocol.Put{Key: "k", Size: -1}, bytes.NewReader(content))
	require.NoError(t, err)

	kill := func() {
		t.Helper()
		require.NoError(t, syscall.Kill(w.status(in.Name).PID, syscall.SIGKILL))
	}
	kill()
	o, err := s.Stat(t.Context(), "k")
	require.NoError(t, err)
	require.EqualValues(t, len(content), o.Size)

	_, body, err := s.Get(t.Context(), "k", protocol.Whole())
	require.NoError(t, err)
	first := make([]byte, 1<<20)
	_, err = io.ReadFull(body, first)
	require.NoError(t, err)
	kill()
	rest, err := io.ReadAll(body)
	require.NoError(t, err, "it goes on in the next process")
	require.NoError(t, body.Close())
	require.Equal(t, content, append(first, rest...))

	// A Put of which something was read fails, and leaves the former object.
	_, err = s.Put(t.Context(), protocol.Put{Key: "k", Size: -1}, io.MultiReader(bytes.NewReader(content[:9<<20]), reader(func([]byte) (int, error) {
		kill()
		return 0, io.EOF
	})))
	require.ErrorIs(t, err, protocol.ErrUnavailable)
	require.Equal(t, content, read(t, s, "k", protocol.Whole()))
	require.NoError(t, s.Delete(t.Context(), "k"))
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

func TestABodyThatFailsIsTheErrorAndStoresNothing(t *testing.T) {
	w, in := storages(t)
	require.Empty(t, w.host.Start(t.Context(), []Instance{in}))
	s := w.storage()
	mine := errors.New("the client went away")
	_, err := s.Put(t.Context(), protocol.Put{Key: "k", Size: 5 << 20}, io.MultiReader(bytes.NewReader(someBytes(3<<20)), reader(func([]byte) (int, error) {
		return 0, mine
	})))
	require.ErrorIs(t, err, mine)
	for size, body := range map[int64]int{10: 9, 9: 10, 2 << 20: 1 << 20, 1 << 20: 2 << 20} {
		_, err = s.Put(t.Context(), protocol.Put{Key: "k", Size: size}, bytes.NewReader(someBytes(body)))
		require.ErrorIs(t, err, protocol.ErrSize)
	}
	_, err = s.Put(t.Context(), protocol.Put{Key: "k", Size: -1, SHA256: make([]byte, 32)}, bytes.NewReader(someBytes(10)))
	require.ErrorIs(t, err, protocol.ErrChecksum)
	_, err = s.Stat(t.Context(), "k")
	require.ErrorIs(t, err, protocol.ErrNotFound)
	require.Zero(t, w.status(in.Name).Restarts)
}

func TestAnUpgradeOfAStorageLetsItsTransfersEnd(t *testing.T) {
	w, in := storages(t)
	require.Empty(t, w.host.Start(t.Context(), []Instance{in}))
	s := w.storage()
	content := someBytes(20 << 20)
	_, err := s.Put(t.Context(), protocol.Put{Key: "old", Size: -1}, bytes.NewReader(content))
	require.NoError(t, err)
	before := w.status(in.Name).PID

	_, body, err := s.Get(t.Context(), "old", protocol.Whole())
	require.NoError(t, err)
	half := make(chan struct{})
	through := make(chan error)
	go func() {
		_, err := s.Put(context.WithoutCancel(t.Context()), protocol.Put{Key: "new", Size: -1}, io.MultiReader(bytes.NewReader(content), reader(func([]byte) (int, error) {
			<-half
			return 0, io.EOF
		})))
		through <- err
	}()
	require.NoError(t, w.host.Reload(t.Context(), in.Name))
	require.NotEqual(t, before, w.status(in.Name).PID)
	_, err = s.Stat(t.Context(), "old")
	require.NoError(t, err)
	close(half)
	require.NoError(t, <-through)
	got, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Equal(t, content, got)
	require.Equal(t, content, read(t, s, "new", protocol.Whole()))
	eventually(t, patience, "the old process ends", func() bool { return syscall.Kill(before, 0) != nil })
}

func TestAStorageThatCannotRunIsUnavailable(t *testing.T) {
	w, in := storages(t, func(o *Options) { o.StartTimeout = 2 * patience / 10 })
	path := in.Vars["PLUGIN_STORAGE_LOCAL_PATH"]
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.Empty(t, w.host.Start(t.Context(), []Instance{in}))
	_, err := w.storage().Stat(t.Context(), "k")
	require.ErrorIs(t, err, protocol.ErrUnavailable)
	require.ErrorContains(t, err, "PLUGIN_STORAGE_LOCAL_PATH")
	require.NoError(t, os.Remove(path))
	eventually(t, patience, "it runs when the folder can be made", func() bool {
		_, err := w.storage().Stat(t.Context(), "k")
		return errors.Is(err, protocol.ErrNotFound)
	})
}
