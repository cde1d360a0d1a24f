package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// tmpfsMagic is the type that statfs(2) gives for tmpfs; ramfsMagic that for ramfs.
const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6
)

// scratchDir makes a folder for the data of this run and refuses one whose disk cannot be slow.
func scratchDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "rgbench")
	if err != nil {
		return "", fmt.Errorf("make the scratch folder: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "", fmt.Errorf("look at the scratch folder's disk: %w", err)
	}
	if fs.Type == tmpfsMagic || fs.Type == ramfsMagic {
		return "", fmt.Errorf("%s is kept in memory, so durability would cost nothing: name a folder on a disk with --dir", dir)
	}
	return dir, nil
}

// floor is the latency of a bare 4 KiB append with fdatasync.
type floor struct{ p50, p99, max time.Duration }

// fdatasync measures it for d.
func (b *bench) fdatasync(ctx context.Context, d time.Duration) (floor, error) {
	path := filepath.Join(b.dir, "fdatasync")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return floor{}, err
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, 4<<10)
	var all []time.Duration
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return floor{}, fmt.Errorf("append: %w", err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return floor{}, fmt.Errorf("fdatasync: %w", err)
		}
		all = append(all, time.Since(start))
	}
	if err := ctx.Err(); err != nil {
		return floor{}, err
	}
	slices.Sort(all)
	return floor{quantile(all, 0.5), quantile(all, 0.99), all[len(all)-1]}, nil
}

// disk prints the floor by itself.
func (b *bench) disk(ctx context.Context) error {
	var p50, p99 series
	for range b.rounds {
		f, err := b.fdatasync(ctx, b.long/2)
		if err != nil {
			return err
		}
		b.say("4 KiB append + fdatasync: p50 %.2f ms, p99 %.2f ms, max %.1f ms", ms(f.p50), ms(f.p99), ms(f.max))
		p50, p99 = append(p50, ms(f.p50)), append(p99, ms(f.p99))
	}
	b.report.add(figure{Name: "bare 4 KiB append + fdatasync, p50", Unit: "ms", Runs: p50})
	b.report.add(figure{Name: "bare 4 KiB append + fdatasync, p99", Unit: "ms", Runs: p99})
	return nil
}
