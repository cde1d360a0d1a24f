package pluginstore

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/pluginhost"
)

// publisher signs plugins.
type publisher struct {
	Key
	private minisign.PrivateKey
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	require.NoError(t, err)
	return &publisher{Key: Key{public: public}, private: private}
}

func (p *publisher) keys() Keys { return Keys{p.Key} }

func (p *publisher) sign(t *testing.T, text, comment string) string {
	t.Helper()
	r := minisign.NewReader(strings.NewReader(text))
	_, err := new(bytes.Buffer).ReadFrom(r)
	require.NoError(t, err)
	return string(r.SignWithComments(p.private, comment, "whatever"))
}

func TestAPluginNeedsASignatureOfAKnownKey(t *testing.T) {
	acme, stranger := newPublisher(t), newPublisher(t)
	text := program("acme", "1")
	good := acme.sign(t, text, "acme 1.0, released today")
	for _, c := range []struct{ name, signature, want string }{
		{"none", "", "rivergate-pusher-acme.minisig"},
		{"not a signature", "hello", "no minisign signature"},
		{"half of one", good[:len(good)/2], "no minisign signature"},
		{"of another key", stranger.sign(t, text, "x"), "made with the key " + stranger.ID() + ", which is not in RIVERGATE_PLUGIN_KEYS: that has " + acme.ID()},
		{"of other bytes", acme.sign(t, program("acme", "2"), "x"), "does not fit the file"},
		{"with another comment", strings.Replace(good, "today", "2019!", 1), "does not fit the file"},
		{"legacy form", string(minisign.Sign(acme.private, []byte(text))), "legacy form"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFolder(t)
			f.place("rivergate-pusher-acme", text)
			if c.signature != "" {
				f.place("rivergate-pusher-acme.minisig", c.signature)
			}
			_, err := f.judge(PolicyAny, acme.keys(), "acme", "")
			require.ErrorContains(t, err, c.want)
		})
	}

	f := newFolder(t)
	f.place("rivergate-pusher-acme", text)
	f.place("rivergate-pusher-acme.minisig", good)
	keys := Keys{stranger.Key, acme.Key}
	trust, err := f.judge(PolicyAny, keys, "acme", "")
	require.NoError(t, err)
	require.Equal(t, pluginhost.Trust("signed"), trust)
	_, err = f.judge(PolicyLocked, keys, "acme", "")
	require.ErrorContains(t, err, "rivergate plugins lock", "a signature does not stand in for the lock file")
	f.lockAll(func(o *LockOptions) { o.Keys = keys })
	trust, err = f.judge(PolicyLocked, keys, "acme", "")
	require.NoError(t, err)
	require.Equal(t, pluginhost.Trust("locked, signed"), trust)

	found, err := introduce(t.Context(), f.path, nil, func(pluginhost.Found) bool { return false })
	require.NoError(t, err)
	states, err := f.States(found, keys)
	require.NoError(t, err)
	require.Equal(t, &Signer{Key: acme.ID(), Comment: "acme 1.0, released today"}, states[found[0].Path].Signer)
}

func TestASignatureThatWasExchangedCountsAtTheNextStart(t *testing.T) {
	acme := newPublisher(t)
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1"))
	f.place("rivergate-pusher-acme.minisig", acme.sign(t, program("acme", "1"), "x"))
	verify := f.Verify(PolicyAny, acme.keys())
	for range 2 { // the second time what was verified is remembered
		_, err := verify(t.Context(), f.binary("acme", ""))
		require.NoError(t, err)
	}
	f.place("rivergate-pusher-acme", program("acme", "2"))
	_, err := verify(t.Context(), f.binary("acme", ""))
	require.ErrorContains(t, err, "does not fit", "the signature was right, for other bytes")
	f.place("rivergate-pusher-acme", program("acme", "1"))
	f.place("rivergate-pusher-acme.minisig", acme.sign(t, program("acme", "2"), "x"))
	_, err = verify(t.Context(), f.binary("acme", ""))
	require.ErrorContains(t, err, "does not fit")
	f.place("rivergate-pusher-acme", program("acme", "2"))
	_, err = verify(t.Context(), f.binary("acme", ""))
	require.NoError(t, err)
}

func TestAnUnsignedPluginIsNeitherStartedNorLocked(t *testing.T) {
	acme := newPublisher(t)
	f := newFolder(t)
	f.place("rivergate-pusher-acme", program("acme", "1"))
	list := f.lockAll(func(o *LockOptions) { o.Keys = acme.keys() })
	require.Equal(t, map[string]string{"acme": Refused}, what(list))
	require.Contains(t, list[0].Problem, "needs a signature")
	require.Empty(t, f.entries())
}

func TestKeysAreGivenThemselvesOrInAFile(t *testing.T) {
	acme := newPublisher(t)
	text, err := acme.public.MarshalText()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "acme.pub")
	require.NoError(t, os.WriteFile(file, append(text, '\n'), 0o600))
	keys, err := ParseKeys([]string{acme.public.String(), file})
	require.NoError(t, err)
	require.Len(t, keys, 2)
	for _, k := range keys {
		require.True(t, k.public.Equal(acme.public))
	}
	require.Equal(t, acme.ID()+", "+acme.ID()+" ("+file+")", keys.String())

	secret := filepath.Join(t.TempDir(), "acme.key")
	require.NoError(t, os.WriteFile(secret, []byte("untrusted comment: minisign encrypted secret key\nRWRTY0IyVERYSECRET\n"), 0o600))
	for text, want := range map[string]string{
		"/nowhere/acme.pub":          "neither a file nor a minisign public key",
		secret:                       "holds a secret key",
		t.TempDir():                  "is a directory",
		acme.public.String()[:50]:    "neither a file nor",
		"RWQf6LRCGA9i53mlYecO4IzT51": "neither a file nor",
	} {
		_, err := ParseKeys([]string{text})
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "VERYSECRET")
	}
}

// What the tool minisign 0.11 wrote, with a key made for this test: the form must not depend on the library that reads it.
func TestASignatureOfTheToolMinisignIsAccepted(t *testing.T) {
	keys, err := ParseKeys([]string{"testdata/minisign.pub"})
	require.NoError(t, err)
	signer, err := keys.verifyFile("testdata/signed.txt", "testdata/signed.txt.minisig", "")
	require.NoError(t, err)
	require.Equal(t, "acme 1.2.0", signer.Comment)
	_, err = keys.verifyFile("testdata/signed.txt", "testdata/signed.txt.legacy", "")
	require.ErrorContains(t, err, "legacy form")
	_, err = keys.verifyFile("testdata/minisign.pub", "testdata/signed.txt.minisig", "")
	require.ErrorContains(t, err, "does not fit")
}

func TestTheToolMinisignAndThisPackageUnderstandEachOther(t *testing.T) {
	tool, err := exec.LookPath("minisign")
	if err != nil {
		const why = "the tool minisign is not on this machine; committed signatures of it are tested in any case"
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true lets nothing be skipped: " + why)
		}
		t.Skip(why)
	}
	dir := t.TempDir()
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	plugin := filepath.Join(dir, "plugin")
	require.NoError(t, os.WriteFile(plugin, []byte(strings.Repeat(program("acme", "1"), 100_000)), 0o600))
	run("-G", "-W", "-p", "key.pub", "-s", "key.sec")
	run("-S", "-s", "key.sec", "-m", plugin, "-t", "acme 3")
	keys, err := ParseKeys([]string{filepath.Join(dir, "key.pub")})
	require.NoError(t, err)
	signer, err := keys.verifyFile(plugin, plugin+".minisig", "")
	require.NoError(t, err)
	require.Equal(t, "acme 3", signer.Comment)
	run("-S", "-l", "-s", "key.sec", "-m", plugin)
	_, err = keys.verifyFile(plugin, plugin+".minisig", "")
	require.ErrorContains(t, err, "legacy form")

	acme := newPublisher(t)
	text, err := os.ReadFile(plugin)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(plugin+".minisig", []byte(acme.sign(t, string(text), "from here")), 0o600))
	require.Contains(t, run("-V", "-P", acme.public.String(), "-m", plugin), "from here")
}
