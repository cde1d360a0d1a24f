package scaffold

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkout is the source tree that these tests lie in.
func checkout(t *testing.T) SDK {
	t.Helper()
	here, err := os.Getwd()
	require.NoError(t, err)
	sdk, err := FindSDK("", "dev", here)
	require.NoError(t, err)
	return sdk
}

func write(t *testing.T, o Options) *Repository {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "repository")
	}
	if o.SDK == (SDK{}) {
		o.SDK = checkout(t)
	}
	r, err := Write(o)
	require.NoError(t, err)
	return r
}

func read(t *testing.T, r *Repository, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.Dir, name))
	require.NoError(t, err)
	return string(text)
}

func TestANewRepositoryBuildsAndPassesItsOwnChecks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a plugin")
	}
	r := write(t, Options{Name: "acme-lab", Module: "example.com/acme"})
	var steps []string
	var conformed string
	err := r.Verify(t.Context(), Verification{
		Conform: func(ctx context.Context, binary string, config map[string]any) (string, error) {
			said, err := exec.CommandContext(ctx, binary, "--describe").Output()
			require.NoError(t, err)
			require.Contains(t, string(said), "acme-lab")
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, config["url"].(string), strings.NewReader("{}"))
			require.NoError(t, err)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			defer http.DefaultClient.CloseIdleConnections()
			require.Equal(t, http.StatusNoContent, resp.StatusCode, "the destination takes everything")
			conformed = binary
			return "", nil
		},
		End: func(s Step) { steps = append(steps, s.Name) },
	})
	var step *StepError
	if errors.As(err, &step) {
		t.Fatalf("%v\n%s", step, step.Output)
	}
	require.NoError(t, err)
	require.Equal(t, filepath.Join(r.Dir, "bin", "rivergate-pusher-acme-lab"), conformed)
	require.Equal(t, []string{"go mod tidy", "go build", "go vet", "gofmt", "go test", "conformance"}, steps)
	require.FileExists(t, filepath.Join(r.Dir, "acme-lab.go"))
	require.Contains(t, read(t, r, "go.mod"), "module example.com/acme\n")

	// The version comes from one place.
	require.NoError(t, os.WriteFile(filepath.Join(r.Dir, "VERSION"), []byte("3.2.1\n"), 0o600))
	make := exec.CommandContext(t.Context(), "make", "-C", r.Dir, "dist", "PLATFORMS=linux/amd64")
	make.Env = append(os.Environ(), "GOWORK=off")
	out, err := make.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, read(t, r, "dist/3.2.1/SHA256SUMS"), "linux-amd64/rivergate-pusher-acme-lab")

	// A table that does not tell of every setting is noticed, and written again.
	readme := read(t, r, "README.md")
	require.NoError(t, os.WriteFile(filepath.Join(r.Dir, "README.md"), []byte(strings.Replace(readme, "| `10s` |", "| `9s` |", 1)), 0o600))
	checkTable := exec.CommandContext(t.Context(), "go", "test", "-run", "TestTheReadmeListsEverySetting", ".")
	checkTable.Dir, checkTable.Env = r.Dir, make.Env
	out, err = checkTable.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "does not hold the table of the settings")
	docs := exec.CommandContext(t.Context(), "make", "-C", r.Dir, "docs")
	docs.Env = make.Env
	out, err = docs.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, readme, read(t, r, "README.md"))
}

func TestAStepThatFailsIsNamedWithItsOutputAndTheRepositoryStays(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a plugin")
	}
	r := write(t, Options{Name: "acme"})
	require.NoError(t, os.WriteFile(filepath.Join(r.Dir, "broken.go"), []byte("package main\n\nvar x int = \"text\"\n"), 0o600))
	var failed []Step
	err := r.Verify(t.Context(), Verification{End: func(s Step) {
		if s.Failed {
			failed = append(failed, s)
		}
	}})
	var step *StepError
	require.ErrorAs(t, err, &step)
	require.Equal(t, "go build", step.Step)
	require.Contains(t, step.Output, "broken.go:3")
	require.Len(t, failed, 1)
	require.FileExists(t, filepath.Join(r.Dir, "acme.go"))
}

func TestWithoutGoTheMessageSaysWhatToInstall(t *testing.T) {
	r := write(t, Options{Name: "acme"})
	t.Setenv("PATH", t.TempDir())
	err := r.Verify(t.Context(), Verification{})
	require.ErrorIs(t, err, ErrNoGo)
	require.ErrorContains(t, err, "install Go "+goVersion)
}

func TestWhatCannotBeMadeIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	full := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "mine"), nil, 0o600))
	here, err := os.Getwd()
	require.NoError(t, err)
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"a reserved name":       {Options{Name: "storage"}, "reserved"},
		"a name in upper case":  {Options{Name: "Acme"}, "lower-case"},
		"no name":               {Options{}, "not allowed"},
		"another language":      {Options{Name: "acme", Lang: "cobol"}, "only in go or python"},
		"a module in Python":    {Options{Name: "acme", Lang: Python, Module: "x"}, "--module"},
		"another kind":          {Options{Name: "acme", Kind: protocol.KindStorage}, "only pushers can be written in this version"},
		"a module that is none": {Options{Name: "acme", Module: "two words"}, "--module"},
		"a folder in use":       {Options{Name: "acme", Dir: full}, "is not empty"},
		"a file for a folder":   {Options{Name: "acme", Dir: filepath.Join(full, "mine")}, "--dir"},
		"inside Rivergate":      {Options{Name: "acme", Dir: filepath.Join(here, "inside")}, "a repository of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.o.Dir == "" {
				c.o.Dir = filepath.Join(t.TempDir(), "new")
			}
			_, err := Write(c.o)
			var mistake *Mistake
			require.ErrorAs(t, err, &mistake)
			require.ErrorContains(t, err, c.want)
			require.NoDirExists(t, filepath.Join(full, "new"))
		})
	}
	entries, err := os.ReadDir(full)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.NoDirExists(t, filepath.Join(here, "inside"))
}

func TestAFolderInsideAnotherModuleOrWorkspaceIsTold(t *testing.T) {
	parent := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(parent, "go.mod"), []byte("module \"example.com/other\"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(parent, "go.work"), []byte("go 1.26\n"), 0o600))
	r := write(t, Options{Name: "acme", Dir: filepath.Join(parent, "deep", "acme")})
	require.Len(t, r.Warnings, 2)
	require.Contains(t, r.Warnings[0], "example.com/other")
	require.Contains(t, r.Warnings[1], "GOWORK=off")
	require.Empty(t, write(t, Options{Name: "acme"}).Warnings)
}

func TestNamesThatTheTemplatesUseThemselvesGetAFileOfTheirOwn(t *testing.T) {
	for _, name := range taken {
		r := write(t, Options{Name: name})
		require.Contains(t, read(t, r, "main.go"), "func main()")
		require.Contains(t, read(t, r, "pusher.go"), "type "+typeName(name)+" struct")
	}
	require.Equal(t, "AcmeLab2", typeName("acme--lab-2-"))
}

func TestTheSDKIsTheReleaseTheCheckoutOrWhatIsWished(t *testing.T) {
	here, err := os.Getwd()
	require.NoError(t, err)
	root := filepath.Dir(filepath.Dir(here))
	nowhere := t.TempDir()
	for _, c := range []struct {
		wish, release string
		places        []string
		want          SDK
	}{
		{"", "v1.2.3", []string{here}, SDK{Version: "v1.2.3"}},
		{"", "v1.2.3-rc.1", nil, SDK{Version: "v1.2.3-rc.1"}},
		{"", "v1.2.3-5-gabcdef", []string{nowhere, here}, SDK{Folder: root}},
		{"", "dev", []string{"", here}, SDK{Folder: root}},
		{"v0.9.0", "v1.2.3", nil, SDK{Version: "v0.9.0"}},
		{root, "v1.2.3", nil, SDK{Folder: root}},
		{filepath.Join(root, "sdk"), "", nil, SDK{Folder: root}},
	} {
		got, err := FindSDK(c.wish, c.release, c.places...)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	for _, wish := range []string{"", nowhere, "1.2", filepath.Join(nowhere, "none")} {
		_, err := FindSDK(wish, "dev", nowhere)
		var mistake *Mistake
		require.ErrorAs(t, err, &mistake)
		require.ErrorContains(t, err, "--sdk")
	}
}

func TestARepositoryForAReleaseNamesItAndNothingElse(t *testing.T) {
	r := write(t, Options{Name: "acme", SDK: SDK{Version: "v1.2.3"}})
	require.Equal(t, "module example.com/rivergate-pusher-acme\n\ngo "+goVersion+"\n\nrequire "+sdkModule+" v1.2.3\n", read(t, r, "go.mod"))
	require.NotContains(t, read(t, r, "README.md"), "source checkout")
	require.NotContains(t, r.Files, "go.sum")
}

func TestWhatTheTemplatesRepeatIsWhatTheRepositorySays(t *testing.T) {
	root := checkout(t).Folder
	licence, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	require.NoError(t, err)
	require.Equal(t, string(licence), read(t, write(t, Options{Name: "acme"}), "LICENSE"))
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	require.Contains(t, string(mod), "\ngo "+goVersion+"\n")
}

// environment is the Python environment of the checkout.
func environment(t *testing.T) string {
	t.Helper()
	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), filepath.Join(checkout(t).Folder, "deploy", "python"))
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil && os.Getenv("CI") != "true" {
		t.Skipf("no Python environment: %v\n%s", err, said.String())
	}
	require.NoError(t, err, said.String())
	return strings.TrimSpace(string(out))
}

func TestANewPythonRepositoryBuildsAndPassesItsOwnChecks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a plugin")
	}
	r := write(t, Options{Name: "acme-lab", Lang: Python})
	require.Empty(t, r.Module)
	require.Contains(t, read(t, r, "requirements-dev.txt"), "rivergate-sdk[build] @ file://"+filepath.Join(checkout(t).Folder, "sdk", "python"))
	// The environment is the one that all tests share; its requirements count as installed.
	require.NoError(t, os.Symlink(environment(t), filepath.Join(r.Dir, ".venv")))
	for _, file := range []string{"requirements.txt", "requirements-dev.txt"} {
		require.NoError(t, os.Chtimes(filepath.Join(r.Dir, file), time.Unix(1, 0), time.Unix(1, 0)))
	}
	var steps []string
	err := r.Verify(t.Context(), Verification{
		Conform: func(ctx context.Context, binary string, config map[string]any) (string, error) {
			said, err := exec.CommandContext(ctx, binary, "--describe").Output()
			require.NoError(t, err)
			require.Contains(t, string(said), "acme-lab")
			require.Contains(t, config["url"], "http://127.0.0.1:")
			return "", nil
		},
		End: func(s Step) { steps = append(steps, s.Name) },
	})
	var step *StepError
	if errors.As(err, &step) {
		t.Fatalf("%v\n%s", step, step.Output)
	}
	require.NoError(t, err)
	require.Equal(t, []string{"requirements", "build", "types", "tests", "conformance"}, steps)
}

func TestWithoutPythonTheMessageSaysWhatToInstall(t *testing.T) {
	r := write(t, Options{Name: "acme", Lang: Python})
	t.Setenv("PATH", t.TempDir())
	err := r.Verify(t.Context(), Verification{})
	require.ErrorIs(t, err, ErrNoPython)
	require.ErrorContains(t, err, "apt-get install python3 python3-venv")
	_, err = Wrap(t.Context(), Wrapping{Folder: former(t), SDK: checkout(t)})
	require.ErrorIs(t, err, ErrNoPython)
}

// former is the folder of a pusher as the former gateway had them.
func former(t *testing.T) string {
	t.Helper()
	return filepath.Join(checkout(t).Folder, "plugins", "testdata", "pyformer", "plugins", "former")
}

func TestAFolderOfTheFormerGatewayBecomesAPlugin(t *testing.T) {
	environment(t)
	output := filepath.Join(t.TempDir(), "rivergate-pusher-former")
	wrapped, err := Wrap(t.Context(), Wrapping{Folder: former(t), Output: output, Version: "1.2.3", Variables: []string{"PLUGIN_FORMER_MORE"}, SDK: checkout(t)})
	require.NoError(t, err)
	require.Equal(t, "former", wrapped.Name)
	require.Contains(t, wrapped.Said, "PLUGIN_FORMER_API_KEY, PLUGIN_FORMER_FILE, PLUGIN_FORMER_MORE")
	said, err := exec.CommandContext(t.Context(), output, "--version").CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Contains(t, string(said), "rivergate-pusher-former 1.2.3")
}

func TestWhatIsNoFolderOfTheFormerGatewayIsRefused(t *testing.T) {
	empty := t.TempDir()
	_, err := Wrap(t.Context(), Wrapping{Folder: empty, SDK: checkout(t)})
	require.ErrorContains(t, err, "there is no pusher.py in "+empty)

	environment(t)
	folder := filepath.Join(empty, "lab")
	require.NoError(t, os.Mkdir(folder, 0o700))
	for text, want := range map[string]string{"class Other: pass\n": "has no class Pusher", "print 1\n": "is no Python of this version"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "pusher.py"), []byte(text), 0o600))
		_, err = Wrap(t.Context(), Wrapping{Folder: folder, Output: filepath.Join(empty, "out"), Version: "1.0.0", SDK: checkout(t)})
		var step *StepError
		require.ErrorAs(t, err, &step)
		require.Contains(t, step.Output, want)
	}
}
