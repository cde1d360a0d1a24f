package scaffold

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Step is one thing that was proved, or not.
type Step struct {
	Name   string        `json:"name"`
	Took   time.Duration `json:"took_ns"`
	Failed bool          `json:"failed,omitempty"`
}

// StepError says which step failed and what it printed. The repository is left as it is.
type StepError struct {
	Step   string
	Output string
	Err    error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.Step, e.Err) }
func (e *StepError) Unwrap() error { return e.Err }

// ErrNoGo: there is no Go to build a plugin with.
var ErrNoGo = errors.New("there is no go command in PATH")

// Verification says how a repository is proved.
type Verification struct {
	Environ []string // of the commands; nil: this process's
	// Conform holds a binary against the plugin contract, and returns what a person wants to see of it. An error says that it
	// did not pass.
	Conform func(ctx context.Context, binary string, config map[string]any) (output string, err error)
	Begin   func(name string) // a step begins; nil: nobody wants to know
	End     func(Step)        // and has ended
}

// Verify builds the repository, runs its checks and tests, and holds the binary against the contract. It ends at the first
// step that fails, with a *StepError.
func (r *Repository) Verify(ctx context.Context, v Verification) error {
	if v.Environ == nil {
		v.Environ = os.Environ()
	}
	// It is a repository of its own, whatever workspace lies around it.
	v.Environ = append(slices.Clone(v.Environ), "GOWORK=off")
	steps := r.goSteps
	if r.Lang == Python {
		steps = r.pythonSteps
	}
	proofs, err := steps(ctx, v)
	if err != nil {
		return err
	}
	for _, step := range proofs {
		if v.Begin != nil {
			v.Begin(step.name)
		}
		began := time.Now()
		output, err := step.do()
		if v.End != nil {
			v.End(Step{Name: step.name, Took: time.Since(began), Failed: err != nil})
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return &StepError{Step: step.name, Output: output, Err: err}
		}
	}
	return nil
}

// proof is what one step does.
type proof struct {
	name string
	do   func() (output string, err error)
}

func (r *Repository) goSteps(ctx context.Context, v Verification) ([]proof, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return nil, fmt.Errorf("%w: install Go %s or later (https://go.dev/dl), or write the repository with --skip-verify", ErrNoGo, goVersion)
	}
	binary := filepath.Join(r.Dir, "bin", r.Binary)
	run := func(name string, args ...string) func() (string, error) {
		return func() (string, error) { return v.command(ctx, r.Dir, name, args...) }
	}
	return []proof{
		{"go mod tidy", run(tool, "mod", "tidy")},
		{"go build", run(tool, "build", "-trimpath", "-o", binary, ".")},
		{"go vet", run(tool, "vet", "./...")},
		{"gofmt", func() (string, error) { return v.format(ctx, r.Dir) }},
		{"go test", run(tool, "test", "-short", "./...")},
		{"conformance", func() (string, error) { return v.conform(ctx, binary) }},
	}, nil
}

func (v Verification) command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, v.Environ
	cmd.WaitDelay = 5 * time.Second // what a test left behind may hold the output open
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (v Verification) format(ctx context.Context, dir string) (string, error) {
	tool, err := exec.LookPath("gofmt")
	if err != nil {
		return "", fmt.Errorf("gofmt, which comes with Go: %w", err)
	}
	out, err := v.command(ctx, dir, tool, "-l", ".")
	if err == nil && out != "" {
		err = errors.New("not formatted")
	}
	return out, err
}

// conform gives the plugin a destination of its own that takes everything.
func (v Verification) conform(ctx context.Context, binary string) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("make a destination: %w", err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		ReadHeaderTimeout: 10 * time.Second,
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // returns when the server is closed
	}()
	defer func() {
		_ = server.Close()
		<-served
	}()
	return v.Conform(ctx, binary, map[string]any{"url": "http://" + l.Addr().String()})
}
