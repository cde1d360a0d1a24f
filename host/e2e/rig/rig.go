// Package rig builds the binaries, runs a host as its own process and talks to it, for the end-to-end tests and the
// benchmarks. It knows the host by its command line, its variables and its HTTP contract only: nothing of it is linked in.
package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binaries are programs built from the tree.
type Binaries struct {
	Host    string // path of the host's binary
	Plugins string // folder with the plugin binaries
}

// Root is the folder that holds go.mod.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("find the module: not inside it")
	}
	return filepath.Dir(mod), nil
}

// Build compiles the host and the plugins whose folders are given (relative to the module, "plugins/pusher/file") into dir. A
// folder's last element is the plugin's name; what is not below plugins/storage is a pusher.
func Build(ctx context.Context, dir string, plugins ...string) (Binaries, error) {
	root, err := Root(ctx)
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{Host: filepath.Join(dir, "rivergate"), Plugins: filepath.Join(dir, "plugins")}
	if err := compile(ctx, root, b.Host, "./host"); err != nil {
		return Binaries{}, err
	}
	for _, p := range plugins {
		out := b.Pusher(filepath.Base(p))
		if strings.HasPrefix(p, "plugins/storage/") {
			out = b.Storage(filepath.Base(p))
		}
		if err := compile(ctx, root, out, "./"+p); err != nil {
			return Binaries{}, err
		}
	}
	return b, nil
}

// Pusher is the path of the binary of the pusher called name.
func (b Binaries) Pusher(name string) string {
	return filepath.Join(b.Plugins, "rivergate-pusher-"+name)
}

// Storage is the path of the binary of the storage plugin called name.
func (b Binaries) Storage(name string) string {
	return filepath.Join(b.Plugins, "rivergate-storage-"+name)
}

func compile(ctx context.Context, root, out, pkg string) error {
	// As `make build` does: a larger binary would start later than the one that is shipped.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, said)
	}
	return nil
}
