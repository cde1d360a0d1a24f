package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/scaffold"
	"github.com/rivergate/rivergate/sdk/protocol"
)

type pluginNewOptions struct {
	kind, lang, module, dir, sdk string
	skipVerify                   bool
}

func (c *cli) pluginNewCommand() *cobra.Command {
	var o pluginNewOptions
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Write the repository of a new plugin, and prove that it builds and passes",
		Long: `Write a complete repository for a new plugin: code, tests, conformance run, Makefile, CI file, README. Then build it, run
its checks and tests, and hold the binary against the plugin contract; it is called done only when all of that passes. What
fails is named with its output, and the folder is left as it is.

` + exitCodesHelp,
		Example: `  rivergate plugin new acme --kind pusher --module github.com/acme/rivergate-pusher-acme
  rivergate plugin new acme --lang python
  rivergate plugin new acme --sdk ~/src/rivergate --dir ~/src/acme`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.pluginNew(cmd.Context(), args[0], o) },
	}
	cmd.Flags().StringVar(&o.kind, "kind", string(protocol.KindPusher), "kind of plugin; this version knows pushers only")
	cmd.Flags().StringVar(&o.lang, "lang", scaffold.Go, "language of the plugin: go or python")
	cmd.Flags().StringVar(&o.module, "module", "", "path of the Go module (default example.com/rivergate-pusher-NAME)")
	cmd.Flags().StringVar(&o.dir, "dir", "", "folder of the repository, which must be empty or not there (default rivergate-pusher-NAME)")
	cmd.Flags().StringVar(&o.sdk, "sdk", "", "version of the SDK, or folder of a source checkout (default: what this binary was built from)")
	cmd.Flags().BoolVar(&o.skipVerify, "skip-verify", false, "only write the files")
	return cmd
}

func (c *cli) pluginNew(ctx context.Context, name string, o pluginNewOptions) error {
	sdk, err := scaffold.FindSDK(o.sdk, c.build().Version, places()...)
	var repository *scaffold.Repository
	if err == nil {
		repository, err = scaffold.Write(scaffold.Options{
			Name: name, Kind: protocol.Kind(o.kind), Lang: o.lang, Module: o.module, Dir: o.dir, SDK: sdk,
		})
	}
	var refused *scaffold.Mistake
	switch {
	case errors.As(err, &refused):
		return mistake("%w", err)
	case err != nil:
		return err
	}
	for _, warning := range repository.Warnings {
		fmt.Fprintln(c.Stderr, "Note:", warning)
	}
	if !c.json {
		fmt.Fprintf(c.Stdout, "Wrote %s to %s\n", some(int64(len(repository.Files)), "file"), repository.Dir)
	}
	var steps []scaffold.Step
	if !o.skipVerify {
		if err := c.verifyPlugin(ctx, repository, &steps); err != nil {
			return err
		}
	}
	if c.json {
		return c.printJSON(map[string]any{"repository": repository, "verified": !o.skipVerify, "steps": notNil(steps)})
	}
	if o.skipVerify {
		first := "go mod tidy && "
		if repository.Lang == scaffold.Python {
			first = ""
		}
		fmt.Fprintf(c.Stdout, "Not verified. To do so: cd %s && %smake lint test\n", repository.Dir, first)
		return nil
	}
	fmt.Fprintf(c.Stdout, "\nThe plugin builds and passes. Next:\n  cd %s\n  make run                     send it rows by hand\n  make test                    after each change\n", repository.Dir)
	fmt.Fprintf(c.Stdout, "  rivergate plugins install bin/%s\n", repository.Binary)
	return nil
}

// verifyPlugin proves a repository, a line for each step.
func (c *cli) verifyPlugin(ctx context.Context, r *scaffold.Repository, steps *[]scaffold.Step) error {
	err := r.Verify(ctx, scaffold.Verification{
		Conform: conform,
		Begin: func(name string) {
			if terminal(c.Stdout) && !c.json {
				fmt.Fprintf(c.Stdout, "  %-8s%s\r", "…", name)
			}
		},
		End: func(s scaffold.Step) {
			*steps = append(*steps, s)
			word := "ok"
			if s.Failed {
				word = "FAILED"
			}
			if !c.json {
				fmt.Fprintf(c.Stdout, "  %-8s%-14s %s\n", word, s.Name, age(max(s.Took, time.Millisecond)))
			}
		},
	})
	var step *scaffold.StepError
	switch {
	case errors.As(err, &step):
		if step.Output != "" {
			fmt.Fprintf(c.Stderr, "%s\n", step.Output)
		}
		return &exitError{code: exitFailed, err: fmt.Errorf("the new plugin does not pass: %w", err), hint: "Its folder is left as it is: " + r.Dir}
	case errors.Is(err, scaffold.ErrNoGo), errors.Is(err, scaffold.ErrNoPython):
		return &exitError{code: exitFailed, err: err, hint: "The files are written, and not verified: " + r.Dir}
	}
	return err
}

// places are where a source checkout may be: around this binary, and around the working folder.
func places() []string {
	var list []string
	if executable, err := os.Executable(); err == nil {
		list = append(list, executable)
	}
	if dir, err := os.Getwd(); err == nil {
		list = append(list, dir)
	}
	return list
}
