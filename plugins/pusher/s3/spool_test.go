package main

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
)

// down is a configuration under which nothing leaves the spool.
func down(more map[string]any) map[string]any {
	config := map[string]any{"url": "http://127.0.0.1:1", "roll_interval": "1h"}
	for name, value := range more {
		config[name] = value
	}
	return config
}

// left is a segment as a killed process leaves it: not sealed. It returns its path.
func (s *store) left(positions ...uint64) string {
	s.t.Helper()
	p := s.instance(down(nil))
	for _, position := range positions {
		require.Empty(s.t, p.Deliver(plugintest.FrameAt(position, "a", `{"n":1}`)))
	}
	p.abandon()
	require.Len(s.t, s.segments(), 1)
	return s.segments()[0]
}

// flush starts the plugin, waits until nothing is in the spool any more, and stops it.
func (s *store) flush(more map[string]any) {
	s.t.Helper()
	h := s.start(more)
	s.emptied()
	h.Drain()
}

// running is the plugin in this process with its insides.
type running struct {
	*plugintest.Harness
	*keeper
	plugin *S3
}

func (s *store) instance(more map[string]any) running {
	s.t.Helper()
	p := new(S3)
	made := plugin
	made.Pusher = func() sdk.Pusher { return p }
	h := plugintest.Start(s.t, made, s.config(more))
	return running{h, p.keeper, p}
}

// abandon leaves everything as a killed process does: nothing is sealed, the lock is gone.
func (r running) abandon() {
	<-r.ready
	r.keeper.stop()
	r.ended.Wait()
	_ = r.spool.release() // only closes
	r.bucket.close()
	r.plugin.keeper = nil
}

func TestATornEndIsCutAtEveryByte(t *testing.T) {
	s := newStore(t)
	path := s.left(1)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	sum, _, err := parseHeader(whole)
	require.NoError(t, err)
	frame := plugintest.FrameAt(2, "a", `{"n":2}`)
	more := appendRecord(nil, sum, &frame, 0, 1)
	for cut := range more {
		require.NoError(t, os.WriteFile(path, append(whole[:len(whole):len(whole)], more[:cut]...), 0o640))
		p := s.instance(down(nil))
		require.Empty(t, p.Deliver(frame), "cut at %d", cut)
		plugintest.RequireAll(t, p.Deliver(plugintest.FrameAt(1, "a", `{"n":1}`), frame), 2, sdk.Duplicate, "duplicate")
		require.NoError(t, p.spool.damage())
		p.abandon()
	}
	s.flush(nil)
	s.requireOnce(1, 2)
}

func TestDamageIsSaidAndTheRestArrives(t *testing.T) {
	s := newStore(t)
	path := s.left(1, 2, 3)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	text[headerSize+recordHeadSize+20] ^= 1 // of the first row
	require.NoError(t, os.WriteFile(path, text, 0o640))
	h := s.start(nil)
	s.emptied()
	require.Equal(t, map[uint64]int{2: 1, 3: 1}, s.counts())
	aside := strings.TrimSuffix(path, segmentSuffix) + damagedSuffix
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	require.ErrorContains(t, h.Health(), aside)
	kept, err := os.ReadFile(aside)
	require.NoError(t, err)
	require.Equal(t, text, kept)
	h.Drain()
	h = s.start(nil)
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond, "also after a restart")
	require.NoError(t, os.Remove(aside))
	require.Eventually(t, func() bool { return h.Health() == nil }, plugintest.Timeout, 5*time.Millisecond)
	require.Empty(t, h.Deliver(plugintest.FrameAt(4, "a", `{}`)), "life goes on")
}

func TestDamageOfASealedSegmentIsSaidAndDoesNotShrinkAnObjectThatIsThere(t *testing.T) {
	s := newStore(t)
	p := s.instance(down(nil))
	require.Empty(t, p.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Empty(t, p.Deliver(plugintest.FrameAt(2, "a", `{}`)))
	p.Drain()
	path := s.segments()[0]
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	cutPath := strings.TrimSuffix(path, segmentSuffix) + cutSuffix
	cutText, err := os.ReadFile(cutPath)
	require.NoError(t, err)
	s.flush(nil)
	s.requireOnce(1, 2)
	// As if the process had been killed after the PUT, and the disk had hurt the segment then.
	text[headerSize+recordHeadSize+20] ^= 1
	require.NoError(t, os.WriteFile(path, text, 0o640))
	require.NoError(t, os.WriteFile(cutPath, cutText, 0o640))
	h := s.start(nil)
	s.emptied()
	require.Eventually(t, func() bool { return h.Health() != nil }, plugintest.Timeout, 5*time.Millisecond)
	s.requireOnce(1, 2)
}

// Killed between any two steps of settling a segment: nothing is put under another key, and nothing is known no more.
func TestASegmentMayBeSettledTwice(t *testing.T) {
	s := newStore(t)
	p := s.instance(down(map[string]any{"path": "old"}))
	require.Empty(t, p.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	p.Drain()
	path := s.segments()[0]
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	cutPath := strings.TrimSuffix(path, segmentSuffix) + cutSuffix
	cutText, err := os.ReadFile(cutPath)
	require.NoError(t, err)
	s.flush(nil)
	// The positions were written, the segment not removed yet.
	require.NoError(t, os.WriteFile(path, text, 0o640))
	require.NoError(t, os.WriteFile(cutPath, cutText, 0o640))
	s.flush(map[string]any{"path": "new"})
	require.Len(t, s.keys(), 1)
	s.requireOnce(1, 1)
	// The segment was removed, its cut not yet.
	require.NoError(t, os.WriteFile(cutPath, cutText, 0o640))
	h := s.start(nil)
	plugintest.RequireAll(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)), 1, sdk.Duplicate, "duplicate")
	require.NoFileExists(t, cutPath)
}

func TestASpoolWhosePositionsAreDamagedPutsNothingTwice(t *testing.T) {
	s := newStore(t)
	h := s.start(nil)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	s.emptied()
	h.Drain()
	path := s.dir + "/" + plugintest.Instance + "/positions"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	text[len(positionsTitle)] ^= 1
	require.NoError(t, os.WriteFile(path, text, 0o640))
	h = s.start(nil)
	o := plugintest.RequireAll(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)), 1, sdk.Retry, "spool")
	require.Contains(t, o.Message, "positions")
	require.Error(t, h.Health())
	text[len(positionsTitle)] ^= 1
	require.NoError(t, os.WriteFile(path, text, 0o640))
	require.Eventually(t, func() bool { return h.Health() == nil }, plugintest.Timeout, 5*time.Millisecond)
	plugintest.RequireAll(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)), 1, sdk.Duplicate, "duplicate")
}

func TestAFullDiskAndAFailedSyncTakeTheWholeBatchBack(t *testing.T) {
	s := newStore(t)
	p := s.instance(map[string]any{"roll_interval": "1h"})
	<-p.ready
	disk := trouble.NewDisk(1 << 20)
	p.spool.opts.create = disk.Create
	require.Empty(t, p.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	disk.Set(100, nil)
	o := plugintest.RequireAll(t, p.Deliver(plugintest.FrameAt(2, "a", `{}`), plugintest.FrameAt(3, "b", `{"text":"`+strings.Repeat("x", 200)+`"}`)), 2, sdk.Retry, "disk_full")
	require.Contains(t, o.Message, "SPOOL_DIR")
	disk.Set(1<<20, errors.New("input/output error"))
	plugintest.RequireAll(t, p.Deliver(plugintest.FrameAt(2, "a", `{}`)), 1, sdk.Retry, "spool")
	disk.Set(1<<20, nil)
	require.Empty(t, p.Deliver(plugintest.FrameAt(2, "a", `{}`), plugintest.FrameAt(3, "b", `{}`)))
	p.Drain()
	s.requireOnce(1, 3)
}

// The same on a real file system that is full: the spool lies on it with all that belongs to it.
func TestAFullFileSystemIsSurvived(t *testing.T) {
	s := newStore(t)
	if err := syscall.Mount("rivergate-test", s.dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs the right to mount a tmpfs of 256 KiB (root): %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(s.dir, 0)) })
	h := s.start(map[string]any{"roll_size": "1KiB", "roll_interval": "1h"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	ballast := s.dir + "/ballast"
	require.ErrorIs(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o640), syscall.ENOSPC)
	rows := make([]string, 100)
	for i := range rows {
		rows[i] = `{"text":"` + strings.Repeat("x", 100) + `"}`
	}
	for range 3 {
		require.Len(t, h.Deliver(plugintest.FrameAt(2, "b", rows...)), len(rows))
	}
	require.NoError(t, os.Remove(ballast))
	require.Eventually(t, func() bool { return len(h.Deliver(plugintest.FrameAt(2, "b", rows...))) == 0 }, plugintest.Timeout, 5*time.Millisecond)
	h.Drain()
	s.emptied()
	s.requireOnce(1, 101)
}
