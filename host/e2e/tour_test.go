package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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

// tour returns the README's tour. It is run by TestTheReadmeTourWorksCopyPasted.
func tour(t *testing.T) []string {
	t.Helper()
	root, err := rig.Root(t.Context())
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	blocks := tourBlocks(string(raw))
	require.NotEmpty(t, blocks, "README.md has no tour")
	return blocks
}
