package scaffold

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// Wrapping says which folder of a former gateway becomes a plugin, and how.
type Wrapping struct {
	Folder    string   // with pusher.py
	Name      string   // of the plugin; empty: the folder's, with - for _
	Output    string   // the file; empty: bin/plugins/rivergate-pusher-<name>
	Version   string   // of the plugin
	Variables []string // that the code reads, beside those whose names stand in it
	Include   []string // what it imports from outside its folder
	SDK       SDK
}

// Wrapped is a plugin that was made of a folder.
type Wrapped struct {
	Name   string `json:"name"`
	Output string `json:"output"` // absolute
	Said   string `json:"-"`      // by the builder
}

// Wrap makes a plugin file of a folder with a former in-process pusher.
func Wrap(ctx context.Context, w Wrapping) (*Wrapped, error) {
	folder, err := filepath.Abs(w.Folder)
	if err != nil {
		return nil, fmt.Errorf("find the folder: %w", err)
	}
	if info, err := os.Stat(filepath.Join(folder, "pusher.py")); err != nil || !info.Mode().IsRegular() {
		return nil, mistake("there is no pusher.py in %s: the folder of one former plugin is wanted", folder)
	}
	if w.Name == "" {
		w.Name = strings.ReplaceAll(filepath.Base(folder), "_", "-")
	}
	if err := pluginhost.CheckName(w.Name); err != nil {
		return nil, mistake("%v: name the plugin with --name", err)
	}
	if w.Output == "" {
		w.Output = filepath.Join("bin", "plugins", pluginhost.BinaryName(protocol.KindPusher, w.Name))
	}
	if w.Output, err = filepath.Abs(w.Output); err != nil {
		return nil, fmt.Errorf("find the place of the file: %w", err)
	}
	python, err := w.SDK.python(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{"-m", "rivergate_sdk.wrap", folder, "--output", w.Output, "--name", w.Name, "--version", w.Version}
	for _, variable := range w.Variables {
		args = append(args, "--variable", variable)
	}
	for _, path := range w.Include {
		args = append(args, "--include", path)
	}
	out, err := exec.CommandContext(ctx, python, args...).CombinedOutput() // #nosec G204 -- of an environment that python made
	said := strings.TrimSpace(string(out))
	if err != nil {
		return nil, &StepError{Step: "build", Output: said, Err: err}
	}
	return &Wrapped{Name: w.Name, Output: w.Output, Said: said}, nil
}

// python is the interpreter of an environment with the Python SDK and what it builds with: that of the source checkout, or
// one of the release, made once below the user's cache.
func (s SDK) python(ctx context.Context) (string, error) {
	tool, err := findPython(ctx)
	if err != nil {
		return "", err
	}
	if s.Folder != "" {
		var said strings.Builder
		cmd := exec.CommandContext(ctx, filepath.Join(s.Folder, "deploy", "python")) // #nosec G204 -- of the checkout that the user named
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return "", &StepError{Step: "Python environment", Output: strings.TrimSpace(said.String()), Err: err}
		}
		return filepath.Join(strings.TrimSpace(string(out)), "bin", "python"), nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the Python environment: %w", err)
	}
	wanted := "rivergate-sdk[build]==" + strings.TrimPrefix(s.Version, "v")
	key := sha256.Sum256([]byte(wanted + tool))
	environment := filepath.Join(cache, "rivergate", "python-"+hex.EncodeToString(key[:8]))
	python, complete := filepath.Join(environment, "bin", "python"), filepath.Join(environment, ".complete")
	if _, err := os.Stat(complete); err == nil {
		return python, nil
	}
	for _, command := range [][]string{
		{tool, "-m", "venv", "--clear", environment},
		{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted},
	} {
		if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil { // #nosec G204 -- see above
			return "", errors.Join(&StepError{Step: "Python environment", Output: strings.TrimSpace(string(out)), Err: err}, os.RemoveAll(environment))
		}
	}
	if err := os.WriteFile(complete, nil, 0o600); err != nil {
		return "", fmt.Errorf("finish the Python environment: %w", err)
	}
	return python, nil
}
