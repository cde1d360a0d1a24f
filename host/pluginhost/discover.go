package pluginhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Found is a file of the plugin folder that bears a plugin's name, or tries to.
type Found struct {
	Kind   protocol.Kind `json:"kind,omitempty"`
	Name   string        `json:"name"`
	Path   string        `json:"path"`
	Size   int64         `json:"size"`
	SHA256 string        `json:"sha256,omitempty"`
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
		if strings.HasPrefix(e.Name(), "rivergate-") {
			found = append(found, h.inspect(filepath.Join(h.opts.Dir, e.Name())))
		}
	}
	return found, nil
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
