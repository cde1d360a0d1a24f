// Package command is the command line of the one binary, rivergate. Each group of commands has a file; what they share is
// here (exit codes, errors), in output.go (tables, JSON) and in client.go (speaking to a running host).
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitDone    = 0
	exitFailed  = 1 // it was tried and did not work, or not all of it
	exitMistake = 2 // the command line or the configuration is wrong; nothing was tried
)

const exitCodesHelp = `Exit codes:
  0  done
  1  it did not work: the host cannot be reached, refused, or took not everything
  2  the command line or the configuration is wrong; nothing was done`

// Program is what the commands get from the process.
type Program struct {
	Version, Commit string
	Args            []string // without the program's name
	Environ         []string // "NAME=value"
	Stdin           io.Reader
	Stdout, Stderr  io.Writer

	// HTTP makes requests to a running host; nil: a client of its own. Wait passes time between retries; nil: a timer.
	HTTP *http.Client
	Wait func(ctx context.Context, d time.Duration) error
}

// Run executes one command and returns the exit code. ctx ends at the first SIGINT or SIGTERM.
func (p Program) Run(ctx context.Context) int {
	if p.Wait == nil {
		p.Wait = wait
	}
	c := &cli{Program: p}
	root := c.root()
	root.SetArgs(p.Args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	return c.explain(err, cmd)
}

// cli is one run of the program.
type cli struct {
	Program
	json    bool
	url     string
	org     uint64
	user    uint64
	started bool // the command line was understood
}

func (c *cli) root() *cobra.Command {
	var envFile string
	root := &cobra.Command{
		Use:   "rivergate",
		Short: "Keeps rows safe and forwards them to destinations through plugin processes",
		Long: `Rivergate takes rows over HTTP, keeps them safe on disk, and forwards them to any number of destinations, each
through a plugin process of its own. Configuration comes from the environment (RIVERGATE_…, PLUGIN_<NAME>_…).

` + exitCodesHelp,
		Example: `  PLUGIN_FILE_ENABLED=true rivergate serve     start the gateway, rows go to files
  rivergate check                              is the configuration right?
  rivergate pushers list                       how far is each destination?
  rivergate send --uuid 9f86d081884c7d65 rows.jsonl`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRun: func(*cobra.Command, []string) {
			c.started = true
			if envFile != "" {
				c.Environ = append(slices.Clone(c.Environ), "RIVERGATE_ENV_FILE="+envFile)
			}
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON, for programs")
	root.PersistentFlags().StringVar(&envFile, "env-file", "", "file with NAME=value lines, read below the environment (default $RIVERGATE_ENV_FILE)")
	root.AddCommand(
		c.serveCommand(), c.checkCommand(), c.reloadCommand(), c.pluginsCommand(), c.pluginCommand(), c.conformanceCommand(),
		c.pushersCommand(), c.deadLettersCommand(), c.sendCommand(),
		c.filesCommand(), c.modelsCommand(), c.orgsCommand(), c.storageCommand(),
		c.versionCommand(), c.configTableCommand(),
	)
	return root
}

// group makes a command that only holds others. Without a subcommand it prints its help and counts as a mistake.
func group(use, short, long string, subcommands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return &exitError{code: exitMistake}
		},
	}
	g.AddCommand(subcommands...)
	return g
}

// exitError ends the program with a code of its own. Without Err everything has been said already.
type exitError struct {
	code int
	err  error
	hint string // what to do about it
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// mistake is an error of the command line.
func mistake(format string, args ...any) error {
	return &exitError{code: exitMistake, err: fmt.Errorf(format, args...)}
}

// explain prints what went wrong and what to do, and returns the exit code.
func (c *cli) explain(err error, cmd *cobra.Command) int {
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{code: exitFailed, err: err}
		if !c.started {
			exit.code, exit.hint = exitMistake, fmt.Sprintf("Usage: %s. More: %s --help", cmd.UseLine(), cmd.CommandPath())
		}
	}
	if exit.err == nil {
		return exit.code
	}
	var unreachable *unreachableError
	var refused *apiError
	switch {
	case exit.hint != "":
	case errors.As(err, &unreachable):
		exit.hint = "Is the host running (rivergate serve)? Another address: --url, or RIVERGATE_URL."
	case errors.As(err, &refused):
		exit.hint = refused.hint()
	case errors.Is(err, context.Canceled):
		exit.err = errors.New("interrupted")
	}
	fmt.Fprintf(c.Stderr, "rivergate: %v\n", exit.err)
	if exit.hint != "" {
		fmt.Fprintf(c.Stderr, "  %s\n", exit.hint)
	}
	return exit.code
}

// wait passes d, or returns the error of ctx when that ends first.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
