package conformance

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestEachMisbehavingStorageFailsExactlyTheRuleThatItBreaks(t *testing.T) {
	lies := []struct{ lie, breaks, says string }{
		{"", "", ""},
		{"swaps", "put", "others, from byte 0 on"},
		{"off-by-one", "ranges", "others, from byte 0 on"},
		{"folds", "keys", "bytes that were put as"},
		{"skips", "list", "in the place of"},
		{"careless", "only-new", "two"},
		{"in-place", "overwrite", "not all of one version"},
		{"truncates", "body", "5000 bytes"},
		{"copies-nothing", "copy", "0 bytes"},
		{"salvages", "killed", "kill -9"},
		{"hoards", "large", "MiB more"},
		{"sweeps", "two", "a second process began beside it"},
	}
	binary := build(t, "lyingstore")
	reports := make([]*Report, len(lies))
	var running errgroup.Group
	running.SetLimit(2)
	for i, l := range lies {
		opts := Options{
			Path: binary, Config: map[string]any{"path": filepath.Join(t.TempDir(), "objects")}, Env: []string{"LIE=" + l.lie}, Timeout: time.Minute,
		}
		if l.lie != "" && l.breaks != "large" {
			opts.large = 24 << 20 // enough for what is no matter of memory
		}
		running.Go(func() (err error) {
			reports[i], err = Run(t.Context(), opts)
			return err
		})
	}
	require.NoError(t, running.Wait())
	for i, l := range lies {
		t.Run("lie "+l.lie, func(t *testing.T) {
			var text bytes.Buffer
			require.NoError(t, reports[i].WriteText(&text))
			var failed []string
			for _, r := range reports[i].Failed() {
				failed = append(failed, r.Rule)
				require.Contains(t, r.Detail, l.says)
				require.NotEmpty(t, r.Change)
			}
			require.Equal(t, l.breaks, strings.Join(failed, " "), "%s", text.String())
		})
	}
	require.False(t, slices.ContainsFunc(reports[0].Results, func(r Result) bool { return r.Rule == "outcomes" }), "rules of pushers are not for storages")
}

func TestARuleOfAnotherKindIsNotJudged(t *testing.T) {
	report, err := Run(t.Context(), Options{
		Path: build(t, "lyingstore"), Config: map[string]any{"path": t.TempDir()}, Rules: []string{"order", "ranges"},
	})
	require.NoError(t, err)
	i := slices.IndexFunc(report.Results, func(r Result) bool { return r.Rule == "order" })
	require.Equal(t, Skipped, report.Results[i].Status)
	require.Contains(t, report.Results[i].Detail, string(protocol.KindPusher))
	require.Empty(t, report.Failed())
}
