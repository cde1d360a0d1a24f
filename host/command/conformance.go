package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/sdk/plugintest/conformance"
)

// conformanceFlags are the choices of one run of the command.
type conformanceFlags struct {
	settings   []string
	configFile string
	junit      string
	rules      []string
	passEnv    []string
	trigger    string
	timeout    time.Duration
	list       bool
	verbose    bool
}

func (c *cli) conformanceCommand() *cobra.Command {
	f := &conformanceFlags{}
	cmd := &cobra.Command{
		Use:   "conformance BINARY",
		Short: "Check whether a plugin binary keeps the plugin contract",
		Long: `Run a plugin binary, written in any language, as the host would, and tell for each rule of the plugin contract whether
it is kept, with what to change where it is not. The plugin delivers rows: give it, with --config, a destination that may get
them. The rows carry uuids that start with "conformance-", and some are odd on purpose. A command line can be read by others:
secrets go into the file of --config-file.

Exit codes:
  0  every rule that could be judged is kept
  1  a rule is broken
  2  the command line or the configuration is wrong; nothing was judged`,
		Example: `  rivergate conformance bin/plugins/rivergate-pusher-acme --config url=http://127.0.0.1:9999/in --config flush=1s
  rivergate conformance ./acme --rule restart --rule overlap
  rivergate conformance ./acme --junit conformance.xml
  rivergate conformance --list`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.list {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.list {
				return c.listRules()
			}
			return c.conformance(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.settings, "config", nil, "a setting of the plugin, `KEY=VALUE` as in its variables; again for more")
	flags.StringVar(&f.configFile, "config-file", "", "a `FILE` with the plugin's configuration as a JSON object; --config wins over it")
	flags.StringVar(&f.junit, "junit", "", "also write the report as JUnit XML to `FILE`")
	flags.StringArrayVar(&f.rules, "rule", nil, "check only the rule `ID` and what it needs; again for more")
	flags.StringArrayVar(&f.passEnv, "pass-env", nil, "hand the variable `NAME` to the plugin; again for more")
	flags.StringVar(&f.trigger, "trigger", "", "a `FILE` with the JSON object that rows carry as their trigger, for a plugin that needs it; default: a plain one")
	flags.DurationVar(&f.timeout, "timeout", conformance.DefaultTimeout, "what the plugin gets for a start, an answer or an acknowledgement")
	flags.BoolVar(&f.list, "list", false, "list the rules and end")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show what the plugin logs, on standard error")
	return cmd
}

func (c *cli) listRules() error {
	rules := conformance.Rules()
	if c.json {
		return c.printJSON(map[string]any{"rules": rules})
	}
	for _, r := range rules {
		fmt.Fprintf(c.Stdout, "%-18s %s\n", r.ID, r.Contract)
	}
	return nil
}

func (c *cli) conformance(ctx context.Context, binary string, f *conformanceFlags) error {
	opts, err := c.conformanceOptions(binary, f)
	if err != nil {
		return err
	}
	if !c.json {
		line := newProgress(c.Stderr, 0)
		opts.Starting = func(r conformance.Rule) { line.draw(r.ID + " …") }
		opts.Done = func(r conformance.Result) {
			line.end()
			fmt.Fprint(c.Stdout, c.paint(r))
		}
	}
	report, err := conformance.Run(ctx, opts)
	var wrong *conformance.Mistake
	if errors.As(err, &wrong) {
		hint := ""
		if len(wrong.Problems) > 0 {
			hint = "Give the plugin's settings with --config KEY=VALUE or --config-file FILE."
		}
		return &exitError{code: exitMistake, err: wrong, hint: hint}
	}
	if err != nil {
		return err
	}
	if f.junit != "" {
		if err := writeFile(f.junit, report.WriteJUnit); err != nil {
			return fmt.Errorf("write the JUnit report: %w", err)
		}
	}
	if c.json {
		if err := report.WriteJSON(c.Stdout); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	} else {
		fmt.Fprint(c.Stdout, report.Summary())
	}
	if len(report.Failed()) > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

func (c *cli) conformanceOptions(binary string, f *conformanceFlags) (conformance.Options, error) {
	opts := conformance.Options{Path: binary, Rules: f.rules, Timeout: f.timeout, Settings: map[string]string{}}
	if f.timeout <= 0 {
		return opts, mistake("--timeout must be more than 0")
	}
	if !strings.ContainsRune(binary, filepath.Separator) {
		// A bare name is a file here, or else a program on the PATH.
		if _, err := os.Stat(binary); err != nil {
			if found, err := exec.LookPath(binary); err == nil {
				opts.Path = found
			}
		}
	}
	for _, setting := range f.settings {
		key, value, ok := strings.Cut(setting, "=")
		if !ok || key == "" {
			return opts, mistake("--config %s: KEY=VALUE is wanted, such as --config url=http://127.0.0.1:9999", key)
		}
		opts.Settings[key] = value
	}
	if f.configFile != "" {
		config, err := readConfigFile(f.configFile)
		if err != nil {
			return opts, err
		}
		opts.Config = config
	}
	if f.trigger != "" {
		document, err := os.ReadFile(f.trigger)
		if err != nil {
			return opts, mistake("--trigger: %v", err)
		}
		opts.Trigger = document
	}
	for _, name := range f.passEnv {
		if strings.ContainsRune(name, '=') {
			return opts, mistake("--pass-env takes the name of a variable, whose value is that of this process")
		}
		opts.Env = append(opts.Env, name+"="+c.env(name))
	}
	if f.verbose {
		opts.Log = c.Stderr
	}
	return opts, nil
}

// readConfigFile never quotes the file: it may hold secrets.
func readConfigFile(path string) (map[string]any, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, mistake("--config-file: %w", err)
	}
	defer func() { _ = file.Close() }()
	decoder := json.NewDecoder(file)
	decoder.UseNumber() // every digit as it stands there
	var config map[string]any
	if err := decoder.Decode(&config); err != nil || config == nil {
		return nil, mistake("--config-file %s is not a JSON object", path)
	}
	return config, nil
}

// paint colours the verdict, where there are colours.
func (c *cli) paint(r conformance.Result) string {
	text := r.Text()
	if !c.colour(c.Stdout) {
		return text
	}
	tones := map[conformance.Status]tone{conformance.Pass: good, conformance.Fail: bad, conformance.Skipped: faint}
	word := strings.ToUpper(string(r.Status))
	return escapes[tones[r.Status]] + word + "\x1b[0m" + strings.TrimPrefix(text, word)
}

// writeFile writes beside and renames, so that a build server never reads half a report.
func writeFile(path string, write func(io.Writer) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err := errors.Join(write(file), file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
