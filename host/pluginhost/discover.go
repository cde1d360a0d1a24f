package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Found is a file of the plugin folder that bears a plugin's name, or tries to.
type Found struct {
	Kind   protocol.Kind `json:"kind,omitempty"`
	Name   string        `json:"name"`
	Path   string        `json:"path"`
	Size   int64         `json:"size"`
	SHA256 string        `json:"sha256,omitempty"`
	// Version is what the plugin says of itself; empty before Introduce.
	Version string `json:"version,omitempty"`
	// Says is the name that the plugin gives itself; empty before Introduce. Its file may be called otherwise.
	Says string `json:"says,omitempty"`
	// Other is the kind that the plugin says it is when its file name says another one, which is a Problem.
	Other protocol.Kind `json:"-"`
	// Pin is the hash that the operator has pinned, for Introduce; empty: none.
	Pin string `json:"-"`
	// Problem says why the file cannot be run; empty: it can.
	Problem string `json:"problem,omitempty"`
}

// Discover lists every rivergate-… file of the plugin folder, sorted by name. A folder that does not exist is an empty one.
func (h *Host) Discover() ([]Found, error) {
	entries, err := os.ReadDir(h.opts.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read plugin folder: %w", err)
	}
	var found []Found
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "rivergate-") && !isSignature(e.Name()) {
			found = append(found, h.inspect(filepath.Join(h.opts.Dir, e.Name())))
		}
	}
	return found, nil
}

// Introduce asks each plugin that can be run for its version, in parallel: it is started for a moment, without configuration. One
// that does not introduce itself gets a Problem.
func (h *Host) Introduce(ctx context.Context, found []Found) error {
	ctx, leave, err := h.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	var all errgroup.Group
	for i := range found {
		if f := &found[i]; f.Problem == "" && (f.Kind == protocol.KindPusher || f.Kind == protocol.KindStorage) {
			all.Go(func() error {
				h.introduce(ctx, f)
				return nil
			})
		}
	}
	return all.Wait()
}

func (h *Host) introduce(ctx context.Context, f *Found) {
	ctx, cancel := context.WithTimeout(ctx, h.opts.StartTimeout)
	defer cancel()
	in := Instance{Name: InstanceName(f.Kind, f.Name), Plugin: f.Name, Kind: f.Kind, SHA256: f.Pin, Prefix: VariablePrefix(f.Kind, f.Name)}.withDefaults()
	r, err := h.connect(ctx, in, newPluginLog(h.log.Named(in.Name)))
	if err != nil {
		f.Problem = err.Error()
		if other := (*kindError)(nil); errors.As(err, &other) {
			f.Other = other.says
		}
		return
	}
	defer r.destroy("it has introduced itself")
	r.expectEnd()
	if r.sha256 != f.SHA256 {
		f.Problem = "it was exchanged while it was looked at: look again"
		return
	}
	f.Version, f.Says = r.desc.Version, r.desc.Name
}

func (h *Host) inspect(path string) Found {
	file := filepath.Base(path)
	f := Found{Name: strings.TrimPrefix(file, "rivergate-"), Path: path}
	kind, name, ok := parseBinaryName(file)
	if !ok {
		f.Problem = "not named rivergate-<kind>-<name> with kind pusher, connector, storage or engine"
		return f
	}
	f.Kind, f.Name = kind, name
	if err := CheckName(name); err != nil {
		f.Problem = err.Error()
		return f
	}
	b, err := openBinary(path)
	if err != nil {
		f.Problem = err.Error()
		return f
	}
	defer func() { _ = b.Close() }()
	f.Size = b.size
	if f.SHA256, err = h.copies.digest(b); err != nil {
		f.Problem = err.Error()
	}
	return f
}
