package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// tourBlocks returns the ```sh blocks of a Markdown text that stand under a heading with the word "tour", up to the next
// heading of the same level or above.
func tourBlocks(markdown string) []string {
	var blocks []string
	var block *strings.Builder
	heading := regexp.MustCompile(`^(#+)\s+(.*)$`)
	level, inFence := 0, false
	for line := range strings.Lines(markdown) {
		text := strings.TrimRight(line, "\r\n")
		if fence, ok := strings.CutPrefix(text, "```"); ok {
			switch {
			case block != nil:
				blocks = append(blocks, block.String())
				block = nil
			case !inFence && level > 0 && strings.TrimSpace(fence) == "sh":
				block = new(strings.Builder)
			}
			inFence = !inFence
			continue
		}
		if block != nil {
			block.WriteString(line)
			continue
		}
		if m := heading.FindStringSubmatch(text); m != nil && !inFence {
			switch depth := len(m[1]); {
			case strings.Contains(strings.ToLower(m[2]), "tour"):
				level = depth
			case depth <= level:
				level = 0
			}
		}
	}
	return blocks
}

func TestTourBlocksAreTheShellBlocksUnderTheTour(t *testing.T) {
	got := tourBlocks("# X\n```sh\nno\n```\n## A two-minute tour\n```sh\none\n```\n```json\n# not a heading\n```\n### Deeper\n```sh\ntwo\n2\n```\n## Next\n```sh\nno\n```\n")
	require.Equal(t, []string{"one\n", "two\n2\n"}, got)
}

// TestTheReadmeTourWorksCopyPasted runs the tour's blocks one after the other in a copy of the tree, as a reader would. A
// block with `make run` stands for a terminal of its own: it goes on while the others run, and ends when the next such
// block begins. Only the address is another one, so that a gateway of the developer's own is left alone.
func TestTheReadmeTourWorksCopyPasted(t *testing.T) {
	if built.skip != "" {
		t.Skip(built.skip)
	}
	root, err := rig.Root(t.Context())
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	blocks := tourBlocks(string(raw))
	require.NotEmpty(t, blocks, "README.md has no tour")

	const published = "127.0.0.1:8080"
	addr, err := rig.FreeAddr(t.Context())
	require.NoError(t, err)
	dir := copyTree(t, root)
	w := &terminals{t: t, dir: dir, addr: addr, env: append(ownless(os.Environ()), "RIVERGATE_LISTEN="+addr)}
	t.Cleanup(w.endServer)
	for i, block := range blocks {
		require.NotRegexp(t, `\b(pkill|killall)\b`, block, "a reader may run other programs of that name")
		block = strings.NewReplacer(published, addr, "localhost:8080", addr).Replace(block)
		t.Logf("block %d:\n%s", i+1, block)
		if regexp.MustCompile(`(?m)^[^#]*\bmake run\b`).MatchString(block) {
			w.serve(block)
			continue
		}
		w.run(block)
	}
}

// ownless is the environment without our variables: the reader has set none.
func ownless(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		return strings.HasPrefix(v, "RIVERGATE_") || strings.HasPrefix(v, "PLUGIN_")
	})
}

// terminals are the reader's two windows.
type terminals struct {
	t      *testing.T
	dir    string
	addr   string
	env    []string
	server *rig.Process
}

const tourDeadline = 8 * time.Minute // the first build of a clone compiles everything

// serve starts a block in the first window and waits until the gateway is ready.
func (w *terminals) serve(block string) {
	w.t.Helper()
	w.endServer()
	log, err := os.Create(filepath.Join(w.dir, "terminal.log"))
	require.NoError(w.t, err)
	defer log.Close() // the child has its own descriptor
	w.server, err = rig.Spawn("/bin/bash", []string{"-euo", "pipefail", "-c", block}, w.env, w.dir, nil, nil, log)
	require.NoError(w.t, err)
	client := rig.NewClient("http://" + w.addr)
	defer client.Forget()
	eventually(w.t, tourDeadline, "a gateway that is ready", func(ctx context.Context) bool {
		select {
		case <-w.server.Done():
			w.t.Fatalf("the block ended with %d:\n%s", w.server.ExitCode(), rig.Tail(log.Name(), 8<<10))
		default:
		}
		a, err := client.Do(ctx, http.MethodGet, "/ready", nil, nil)
		return err == nil && a.Status == http.StatusOK
	})
}

// run runs a block in the second window; it must end with 0.
func (w *terminals) run(block string) {
	w.t.Helper()
	var out limited
	p, err := rig.Spawn("/bin/bash", []string{"-euo", "pipefail", "-c", block}, w.env, w.dir, nil, nil, &out)
	require.NoError(w.t, err)
	timer := time.NewTimer(tourDeadline)
	defer timer.Stop()
	select {
	case <-p.Done():
	case <-timer.C:
		p.KillGroup()
		w.t.Fatalf("the block does not end; it printed:\n%s", out.raw)
	}
	w.t.Logf("it printed:\n%s", out.raw)
	require.Zero(w.t, p.ExitCode(), "exit code of the block")
}

func (w *terminals) endServer() {
	if w.server != nil {
		_ = w.server.Signal(syscall.SIGINT) // what Ctrl-C does; one that is gone needs none
		w.server.KillGroup()
		w.server = nil
	}
}

// copyTree copies what git would keep of the working tree: a fresh clone, with what is not committed yet.
func copyTree(t *testing.T, root string) string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		cannot(t, "the tree is not a git repository: "+err.Error())
	}
	dir, err := os.MkdirTemp("", "rgtour")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		require.NoError(t, err)
		if !info.Mode().IsRegular() {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), raw, info.Mode().Perm()))
	}
	return dir
}
