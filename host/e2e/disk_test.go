package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAFullDiskAnswers503AndIntakeResumesByItselfWithNothingLost(t *testing.T) {
	// On so small a disk, the copy of another plugin's binary takes the room of the rows: the gateway alone.
	w := newWorld(t, map[string]string{"RIVERGATE_JOURNAL_SEGMENT_BYTES": "1MiB", "RIVERGATE_TARGETS": "gateway"}).withFile("file")
	w.opts.DataDir = w.mount("24m")
	w.start()

	// The ledger begins before the disk is full, goes on while it is, and ends after.
	l := startLoad(t, w.host.URL, loadOptions{clients: 4, rows: 10, pause: time.Millisecond})
	l.reaches(t, 500, 20*time.Second)

	for round := 1; round <= 2; round++ {
		ballast := filepath.Join(w.opts.DataDir, "ballast")
		before := l.answers(503)
		eventually(t, 30*time.Second, "answers with 503 while the disk is full", func(context.Context) bool {
			fill(t, ballast) // again and again: the journal may let a segment go and take its space
			return l.answers(503) >= before+20
		})
		a, err := w.host.Post(t.Context(), "/data", []byte(`{"uuid":"full","row":{"data":{"seq":0}}}`))
		require.NoError(t, err)
		if a.Status != 202 { // a segment may have been let go this very moment
			require.Equal(t, 503, a.Status)
			require.NotEmpty(t, a.Header.Get("Retry-After"))
			require.Contains(t, string(a.Body), "SERVICE_UNAVAILABLE")
		}
		require.NoError(t, os.Remove(ballast))
		l.reaches(t, 500, 20*time.Second)
	}
	l.stop()
	w.caughtUp(60*time.Second, "file")

	// What was accepted with a full disk survives as well.
	w.host.Kill()
	w.start()
	w.caughtUp(60*time.Second, "file")
	var mine []arrival
	for _, a := range arrivals(t, w.out("file")) {
		if a.UUID != "full" {
			mine = append(mine, a)
		}
	}
	l.settle(t, "file", mine, nil)
}

// mount makes a small file system in memory for the data folder.
func (w *world) mount(size string) string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "small")
	require.NoError(w.t, os.Mkdir(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
		cannot(w.t, "a tmpfs cannot be mounted here ("+err.Error()+"); it needs root")
	}
	w.t.Cleanup(func() {
		w.host.KillGroup()
		// Lazily: a plugin of the killed host may hold the folder for another moment.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			w.t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill appends to the file until the file system has no byte left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
			continue
		} else if err != nil {
			require.NoError(t, err)
		}
	}
}
