package pluginstore

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/pluginhost"
)

func what(list []Locked) map[string]string {
	all := map[string]string{}
	for _, p := range list {
		all[p.Name] = p.What
	}
	return all
}

func TestLockRecordsWhatIsInTheFolder(t *testing.T) {
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1.0.0"))
	f.place("rivergate-pusher-broken", "nothing")
	list := f.lockAll()
	require.Equal(t, map[string]string{"acme": Added, "broken": Refused}, what(list))
	require.Contains(t, list[1].Problem, "is no plugin")
	require.Equal(t, []Entry{{Kind: "pusher", Name: "acme", Release: Release{Version: "1.0.0", SHA256: sumOf(program("acme", "1.0.0")), Source: "local"}}}, f.entries())

	before := f.text(LockName)
	require.Equal(t, map[string]string{"acme": Unchanged, "broken": Refused}, what(f.lockAll()))
	require.Equal(t, before, f.text(LockName))

	f.place("rivergate-pusher-acme", program("acme", "2.0.0"))
	list = f.lockAll(func(o *LockOptions) { o.Names = []string{"acme"} })
	require.Equal(t, map[string]string{"acme": Changed}, what(list))
	require.Equal(t, "1.0.0", list[0].Was.Version)
	require.Equal(t, "2.0.0", list[0].Version)
	require.Equal(t, "2.0.0", f.entries()[0].Version)
}

func TestCheckTellsTheDifferenceAndChangesNothing(t *testing.T) {
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1.0.0"))
	f.place("rivergate-pusher-gone", program("gone", "1.0.0"))
	f.lockAll()
	before := f.text(LockName)
	check := func(o *LockOptions) {
		o.Check = true
		o.Introduce = func(ctx context.Context, dir string, verify Verify, want func(pluginhost.Found) bool) ([]pluginhost.Found, error) {
			return introduce(ctx, dir, verify, func(found pluginhost.Found) bool {
				require.False(t, want(found), "a check starts no plugin")
				return false
			})
		}
	}
	require.Equal(t, map[string]string{"acme": Unchanged, "gone": Unchanged}, what(f.lockAll(check)))
	f.place("rivergate-pusher-acme", program("acme", "1.0.1"))
	f.place("rivergate-pusher-new", program("new", "1.0.0"))
	require.NoError(t, os.Remove(filepath.Join(f.path, "rivergate-pusher-gone")))
	require.Equal(t, map[string]string{"acme": Changed, "gone": Missing, "new": Added}, what(f.lockAll(check)))
	require.Equal(t, before, f.text(LockName))
}

func TestAnEntryWithoutABinaryLeavesWhenItIsPruned(t *testing.T) {
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1"))
	f.lockAll()
	require.NoError(t, os.Remove(filepath.Join(f.path, "rivergate-pusher-acme")))
	require.Equal(t, map[string]string{"acme": Missing}, what(f.lockAll()))
	require.Len(t, f.entries(), 1)
	require.Equal(t, map[string]string{"acme": Removed}, what(f.lockAll(func(o *LockOptions) { o.Prune = true })))
	require.Empty(t, f.entries())
}

func TestANameThatNobodyHasIsNotLocked(t *testing.T) {
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1"))
	for _, name := range []string{"acne", "storage/acme"} {
		_, err := f.Store.Lock(t.Context(), LockOptions{Names: []string{name}, Introduce: introduce})
		var unknown *UnknownError
		require.ErrorAs(t, err, &unknown)
	}
	require.Equal(t, map[string]string{"acme": Added}, what(f.lockAll(func(o *LockOptions) { o.Names = []string{"pusher/acme"} })))
}

func TestALockFileThatIsBrokenIsNotOverwritten(t *testing.T) {
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1"))
	require.NoError(t, os.WriteFile(f.LockPath(), []byte("{\n\"schema\": 1,\n\"plugin\": []}"), 0o600))
	_, err := f.Store.Lock(t.Context(), LockOptions{Introduce: introduce})
	require.ErrorContains(t, err, f.LockPath()+", line 3: ")
	_, err = f.tryInstall(put(t, program("acme", "2")))
	require.ErrorContains(t, err, "line 3: ")
	require.Equal(t, program("acme", "1"), f.text("rivergate-pusher-acme"))
}

func TestTwoCommandsAtOnceDoNotMix(t *testing.T) {
	f := newFolder(t)
	release, err := f.hold(t.Context())
	require.NoError(t, err)
	second, err := Open(f.path, "")
	require.NoError(t, err)
	second.patience = 50 * time.Millisecond
	_, err = second.Lock(t.Context(), LockOptions{Introduce: introduce})
	require.ErrorIs(t, err, ErrBusy)
	release()
	_, err = second.Lock(t.Context(), LockOptions{Introduce: introduce})
	require.NoError(t, err)
}
