package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestAFullDiskLeavesNoHalfLineAndIsRetried(t *testing.T) {
	dir := t.TempDir()
	h, f := start(t, map[string]any{"path": dir + "/{uuid}.jsonl"})
	disk := trouble.NewDisk(300)
	f.files.create = disk.Create
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	outcomes := h.Deliver(plugintest.FrameAt(2, "a", `{}`), plugintest.FrameAt(3, "b", `{}`, `{}`, `{}`))
	require.Len(t, outcomes, 4, "all or nothing")
	for _, o := range outcomes {
		require.Equal(t, sdk.Retry, o.Class)
		require.Equal(t, "disk_full", o.Code)
	}
	require.Equal(t, map[uint64]int{1: 1}, read(t, dir))
	disk.Set(1<<20, nil)
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{}`), plugintest.FrameAt(3, "b", `{}`, `{}`, `{}`)))
	requireOnce(t, read(t, dir), 1, 5)
}

func TestASyncThatFailsTakesTheRowsBack(t *testing.T) {
	dir := t.TempDir()
	h, f := start(t, map[string]any{"path": dir + "/x.jsonl"})
	disk := trouble.NewDisk(1 << 20)
	f.files.create = disk.Create
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	disk.Set(1<<20, errors.New("input/output error"))
	outcomes := h.Deliver(plugintest.FrameAt(2, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, map[uint64]int{1: 1}, read(t, dir))
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{}`)))
	requireOnce(t, read(t, dir), 1, 2)
}

// The same on a real file system that is full: the ledger lies on it, too.
func TestAFullFileSystemIsSurvived(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("rivergate-test", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs the right to mount a tmpfs of 256 KiB (root): %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	config := map[string]any{"path": dir + "/{uuid}.jsonl"}
	h, f := start(t, config)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	ballast := dir + "/ballast"
	require.ErrorIs(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o640), syscall.ENOSPC)
	rows := make([]string, 100)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"n":%d,"text":"0123456789012345678901234567890123456789"}`, i)
	}
	for range 3 {
		outcomes := h.Deliver(plugintest.FrameAt(2, "b", rows...))
		require.Len(t, outcomes, len(rows))
		require.Equal(t, "disk_full", outcomes[0].Code)
	}
	crash(t, f)
	require.NoError(t, os.Remove(ballast))
	h, _ = start(t, config)
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "b", rows...)))
	requireOnce(t, read(t, dir), 1, 101)
	h.Drain()
}

// One file handle is left, and the new ledger takes it: its folder is to be synced all the same.
func TestTouchesGoToTheLedgerThatTookTheName(t *testing.T) {
	path := t.TempDir() + "/ledger"
	l, err := openLedger(path)
	require.NoError(t, err)
	require.NoError(t, l.recover(func(string, ...any) {}))
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	few := limit
	few.Cur = 64
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	var held []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			require.ErrorIs(t, err, syscall.EMFILE)
			break
		}
		held = append(held, file)
	}
	require.NoError(t, held[0].Close())
	checkpoint := l.checkpoint()
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	for _, file := range held[1:] {
		require.NoError(t, file.Close())
	}
	require.NoError(t, checkpoint)

	require.NoError(t, l.touch(map[string]int64{"x.jsonl": 5}))
	require.NoError(t, l.release())
	l, err = openLedger(path)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"x.jsonl": 5}, l.touched)
	require.NoError(t, l.release())
}
