package scaffold

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// ErrNoPython: there is no Python to build a plugin with.
var ErrNoPython = errors.New("there is no python3 with venv in PATH")

// pythonHint says how to get one.
const pythonHint = "install Python 3.10 or later with its venv module (apt-get install python3 python3-venv)"

// findPython is a python3 that can make environments.
func findPython(ctx context.Context) (string, error) {
	tool, err := exec.LookPath("python3")
	if err == nil {
		err = exec.CommandContext(ctx, tool, "-c", "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))").Run() // #nosec G204 -- from the user's PATH
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s", ErrNoPython, pythonHint)
	}
	return tool, nil
}

// pythonSteps do what make does in the repository, step by step.
func (r *Repository) pythonSteps(ctx context.Context, v Verification) ([]proof, error) {
	if _, err := findPython(ctx); err != nil {
		return nil, fmt.Errorf("%w, or write the repository with --skip-verify", err)
	}
	tool, err := exec.LookPath("make")
	if err != nil {
		return nil, fmt.Errorf("there is no make in PATH: install it, or write the repository with --skip-verify: %w", err)
	}
	run := func(target string) func() (string, error) {
		return func() (string, error) { return v.command(ctx, r.Dir, tool, "--no-print-directory", target) }
	}
	return []proof{
		{"requirements", run(".venv/.complete")},
		{"build", run("build")},
		{"types", run("lint")},
		{"tests", run("test")},
		{"conformance", func() (string, error) { return v.conform(ctx, filepath.Join(r.Dir, "bin", r.Binary)) }},
	}, nil
}
