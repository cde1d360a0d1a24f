package pluginstore

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/pluginhost"
)

// kill runs a process that installs source (or goes back, when that is empty) and is killed at a step; see killedChild.
func (f *folder) kill(step, source, key string) {
	f.Helper()
	cmd := exec.CommandContext(f.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "PLUGINSTORE_KILL_AT="+step, "PLUGINSTORE_DIR="+f.path, "PLUGINSTORE_SOURCE="+source, "PLUGINSTORE_KEY="+key)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(f, err, &exit, "the step %s was not reached: %s", step, out)
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(f, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "%s", out)
}

// Between any two steps of an install the process is killed with SIGKILL. What lies in the folder is trusted as it is, by a
// host that asks at that moment; and whatever comes next finds the old state or the new one, whole.
func TestAKillAtAnyMomentOfAnInstallLeavesTheOldOrTheNewPlugin(t *testing.T) {
	acme := newPublisher(t)
	one, two := program("acme", "1"), program("acme", "2")
	source := func(text string) string {
		path := put(t, text)
		require.NoError(t, os.WriteFile(path+".minisig", []byte(acme.sign(t, text, "x")), 0o600))
		return path
	}
	for step, newer := range map[string]bool{
		"fetched": false, "introduced": false, "kept": false,
		"committed": true, "signature": true, "exchanged": true, "locked": true, "done": true,
	} {
		t.Run(step, func(t *testing.T) {
			f := newFolder(t)
			_, err := f.tryInstall(source(one), func(o *InstallOptions) { o.Keys = acme.keys() })
			require.NoError(t, err)
			f.kill(step, source(two), acme.public.String())

			verify := f.Verify(PolicyLocked, acme.keys())
			trust, err := verify(t.Context(), f.binary("acme", ""))
			require.NoError(t, err, "whatever lies there can be run")
			require.Equal(t, pluginhost.Trust("locked, signed"), trust)

			// What a host does when it starts.
			_, err = Verifier(t.Context(), f.path, "", PolicyLocked, nil, nil)
			require.NoError(t, err)
			want, version := one, "1"
			if newer {
				want, version = two, "2"
			}
			require.Equal(t, want, f.text(acmeFile))
			require.Equal(t, version, f.entries()[0].Version)
			require.NoFileExists(t, f.pending())
			_, err = f.judge(PolicyLocked, acme.keys(), "acme", "")
			require.NoError(t, err)

			// And the next command works, and clears away what was left.
			_, err = f.tryInstall(source(program("acme", "3")), func(o *InstallOptions) { o.Keys = acme.keys() })
			require.NoError(t, err)
			f.clean()
			require.Len(t, f.keptFiles(), 2, "the former version and its signature")
			_, err = f.Rollback(t.Context(), "acme", acme.keys())
			require.NoError(t, err)
			require.Equal(t, want, f.text(acmeFile))
		})
	}
}

func TestAKillAtAnyMomentOfARollbackLeavesTheOldOrTheNewPlugin(t *testing.T) {
	for step, back := range map[string]bool{"kept": false, "committed": true, "signature": true, "exchanged": true, "locked": true, "done": true} {
		t.Run(step, func(t *testing.T) {
			f := newFolder(t)
			f.install(program("acme", "1"))
			f.install(program("acme", "2"))
			f.kill(step, "", "")
			_, err := f.judge(PolicyLocked, nil, "acme", "")
			require.NoError(t, err)
			// The next command mends it, whatever it is.
			require.Equal(t, map[string]string{"acme": Unchanged}, what(f.lockAll()))
			now, other := "2", "1"
			if back {
				now, other = "1", "2"
			}
			require.Equal(t, now, f.entries()[0].Version)
			_, err = f.Rollback(t.Context(), "acme", nil)
			require.NoError(t, err)
			require.Equal(t, program("acme", other), f.text(acmeFile))
		})
	}
}

func TestAnExchangeByHandAfterAKillIsNotUndone(t *testing.T) {
	f := newFolder(t)
	f.install(program("acme", "1"))
	f.kill("committed", put(t, program("acme", "2")), "")
	f.place(acmeFile, program("acme", "9"))
	require.NoError(t, f.Recover(t.Context()))
	require.Equal(t, program("acme", "9"), f.text(acmeFile))
	_, err := f.judge(PolicyAny, nil, "acme", "")
	var differs *DiffersError
	require.ErrorAs(t, err, &differs)
}

func TestADamagedNoteOfAnExchangeIsNeitherFollowedNorIgnored(t *testing.T) {
	for _, text := range []string{
		"{", `{"kind":"pusher","name":"../../etc/passwd"}`, `{"kind":"pusher","name":"acme","to":{"sha256":"../x"}}`,
		`{"kind":"pusher","name":"acme","to":{"sha256":"` + hashA + `","entry":{"kind":"pusher","name":"other","sha256":"` + hashA + `"}}}`,
	} {
		f := newFolder(t)
		f.install(program("acme", "1"))
		require.NoError(t, os.WriteFile(f.pending(), []byte(text), 0o600))
		require.ErrorContains(t, f.Recover(t.Context()), f.pending())
		_, err := f.judge(PolicyAny, nil, "acme", "")
		require.ErrorContains(t, err, f.pending())
		require.Equal(t, program("acme", "1"), f.text(acmeFile))
	}
}
