package pluginstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/pluginhost"
)

func TestThePolicySaysWhichBinariesRun(t *testing.T) {
	pin := sumOf(program("acme", "1"))
	for _, c := range []struct {
		name, policy, pin string
		locked            bool
		want              pluginhost.Trust
		refusal           string
	}{
		{name: "any, nothing known", policy: PolicyAny, want: "any"},
		{name: "any, pinned", policy: PolicyAny, pin: pin, want: "pinned"},
		{name: "any, in the lock file", policy: PolicyAny, locked: true, want: "locked"},
		{name: "pinned, nothing known", policy: PolicyPinned, refusal: "PLUGIN_<NAME>_SHA256"},
		{name: "pinned, pinned", policy: PolicyPinned, pin: pin, want: "pinned"},
		{name: "pinned, in the lock file", policy: PolicyPinned, locked: true, want: "locked"},
		{name: "locked, nothing known", policy: PolicyLocked, refusal: "rivergate plugins lock acme"},
		{name: "locked, only pinned", policy: PolicyLocked, pin: pin, refusal: "rivergate plugins lock acme"},
		{name: "locked, in the lock file", policy: PolicyLocked, pin: pin, locked: true, want: "locked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFolder(t)
			f.place("rivergate-pusher-acme", program("acme", "1"))
			if c.locked {
				f.lockAll()
			}
			trust, err := f.judge(c.policy, nil, "acme", c.pin)
			if c.refusal != "" {
				require.ErrorContains(t, err, c.refusal)
				require.ErrorContains(t, err, "there is no lock file "+f.LockPath())
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, trust)
		})
	}
}

func TestABinaryThatTheLockFileDoesNotNameIsToldSo(t *testing.T) {
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1"))
	f.lockAll()
	f.place("rivergate-pusher-other", program("other", "1"))
	_, err := f.judge(PolicyLocked, nil, "other", "")
	require.ErrorContains(t, err, "it is not in the lock file "+f.LockPath())
	require.ErrorContains(t, err, "rivergate plugins lock other")
}

func TestAChangedBinaryIsRefusedUnderEveryPolicy(t *testing.T) {
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1.0.0"))
	f.lockAll()
	f.place("rivergate-pusher-acme", program("acme", "1.0.1"))
	now := sumOf(program("acme", "1.0.1"))
	for _, policy := range []string{PolicyAny, PolicyPinned, PolicyLocked} {
		_, err := f.judge(policy, nil, "acme", now)
		var differs *DiffersError
		require.ErrorAs(t, err, &differs)
		for _, word := range []string{
			filepath.Join(f.path, "rivergate-pusher-acme"), now, sumOf(program("acme", "1.0.0")), "1.0.0", "rivergate plugins lock acme",
		} {
			require.ErrorContains(t, err, word)
		}
	}
	f.lockAll()
	trust, err := f.judge(PolicyLocked, nil, "acme", "")
	require.NoError(t, err, "the lock file is read afresh")
	require.Equal(t, pluginhost.Trust("locked"), trust)
}

func TestABrokenLockFileLetsNothingRun(t *testing.T) {
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1"))
	require.NoError(t, os.WriteFile(f.LockPath(), []byte("{"), 0o600))
	_, err := f.judge(PolicyAny, nil, "acme", "")
	require.ErrorContains(t, err, f.LockPath()+", line 1: ")
}

func TestTheStatesOfAllBinariesAreTold(t *testing.T) {
	f := newFolder(t)
	f.place("rivergate-pusher-good", program("good", "1"))
	f.place("rivergate-pusher-odd", program("odd", "1"))
	f.lockAll()
	f.place("rivergate-pusher-odd", program("odd", "2"))
	f.place("rivergate-pusher-strange", program("strange", "1"))
	found, err := introduce(t.Context(), f.path, nil, func(pluginhost.Found) bool { return false })
	require.NoError(t, err)
	states, err := f.States(found, nil)
	require.NoError(t, err)
	at := func(name string) State { return states[filepath.Join(f.path, "rivergate-pusher-"+name)] }
	require.Equal(t, State{Lock: StateLocked}, at("good"))
	require.Equal(t, State{Lock: StateDiffers}, at("odd"))
	require.Equal(t, State{Lock: StateUnlocked}, at("strange"))
}
