package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

const (
	gibibyte  = 1 << 30
	pageBytes = 4 << 10
	leftAlone = 2 * gibibyte // of what is free
)

// touchMemory uses all free memory once and gives it back. A virtual machine may get its memory page by page when it is first used: on
// one that had just started, 4 s per GiB, more than anything that is measured here does with a GiB.
func touchMemory(ctx context.Context) (gib int, took time.Duration, err error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the free memory: %w", err)
	}
	var free int64
	for line := range strings.Lines(string(raw)) {
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &free); err == nil {
			break
		}
	}
	begun := time.Now()
	var held [][]byte
	for left := free<<10 - leftAlone; left >= gibibyte && ctx.Err() == nil; left -= gibibyte {
		b := make([]byte, gibibyte)
		for at := 0; at < len(b); at += pageBytes {
			b[at] = 1
		}
		held = append(held, b)
	}
	gib = len(held)
	clear(held)
	debug.FreeOSMemory()
	return gib, time.Since(begun), ctx.Err()
}
