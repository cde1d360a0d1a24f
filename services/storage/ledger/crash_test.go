package ledger_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database/databasetest"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

// The process that is killed is this test binary again.
const (
	crashPath = "LEDGER_CRASH_PATH"
	crashURL  = "LEDGER_CRASH_URL"
)

// TestAKilledProcessLeavesExactBooks kills one with SIGKILL in the middle of many uploads, several times.
func TestAKilledProcessLeavesExactBooks(t *testing.T) {
	if os.Getenv(crashPath)+os.Getenv(crashURL) != "" {
		upload(t)
		return
	}
	databasetest.EachPlace(t, func(t *testing.T, place databasetest.Place) {
		for round := range 3 {
			killed(t, place, 20+round*37)
		}
	})
}

// killed runs uploads in another process, kills it after some lines of its output, and looks at what it left.
func killed(t *testing.T, place databasetest.Place, lines int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAKilledProcessLeavesExactBooks$", "-test.v")
	cmd.Env = append(os.Environ(), crashPath+"="+place.Path, crashURL+"="+place.URL)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	committed := map[string]bool{} // what the process was told is committed
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		if name, ok := strings.CutPrefix(scanner.Text(), "committed "); ok {
			committed[name] = true
		}
		if len(committed) == lines {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	require.Error(t, cmd.Wait())
	require.GreaterOrEqual(t, len(committed), lines)

	db, err := place.Open(t.Context())
	require.NoError(t, err)
	defer db.Close()
	l, err := ledger.Open(t.Context(), db, ledger.Options{DefaultLimit: limit, Host: "host"})
	require.NoError(t, err)
	defer l.Close()
	before, err := l.Usage(t.Context(), 1)
	require.NoError(t, err)
	wrong, err := l.Differences(t.Context(), 1)
	require.NoError(t, err)
	require.Empty(t, wrong, "exact before anything is swept, too")
	for {
		n, err := l.Sweep(t.Context(), 10)
		require.NoError(t, err)
		if n == 0 {
			break
		}
	}
	after, err := l.Usage(t.Context(), 1)
	require.NoError(t, err)
	t.Logf("killed after %d commits: %d bytes used, %d reserved", len(committed), before.Used, before.Reserved)
	require.Equal(t, before.Used, after.Used)
	require.Zero(t, after.Reserved)
	for name := range committed {
		_, err := l.Find(t.Context(), 1, name)
		require.NoError(t, err, "what was committed stays: %s", name)
		_, err = l.Delete(t.Context(), 1, name)
		require.NoError(t, err)
	}
	// The objects do not matter here: an empty backend has none of what is left.
	report, err := l.Reconcile(t.Context(), storagetest.NewDir(t.TempDir()), ledger.ReconcileOptions{Fix: true})
	require.NoError(t, err)
	require.Empty(t, report.Books)
	report, err = l.Reconcile(t.Context(), storagetest.NewDir(t.TempDir()), ledger.ReconcileOptions{})
	require.NoError(t, err)
	require.True(t, report.Empty(), "%+v", report)
}

// upload reserves and commits until it is killed.
func upload(t *testing.T) {
	place := databasetest.Place{Path: os.Getenv(crashPath), URL: os.Getenv(crashURL)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	db, err := place.Open(ctx)
	require.NoError(t, err)
	l, err := ledger.Open(ctx, db, ledger.Options{DefaultLimit: ledger.Unlimited, Host: "host"})
	require.NoError(t, err)
	run := time.Now().UnixNano()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				name := fmt.Sprintf("%d/%d/%d", run, i, j)
				h, err := l.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name, Kind: ledger.KindFile, Bytes: 7})
				if err != nil {
					return
				}
				if err := h.Grow(ctx, 3); err != nil {
					return
				}
				if _, _, err := h.Commit(ctx, ledger.File{Size: 10}, ledger.Create); err == nil {
					fmt.Println("committed " + name)
				}
			}
		})
	}
	all.Wait()
}
