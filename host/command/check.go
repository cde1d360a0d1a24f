package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

func (c *cli) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration, without serving",
		Long: `Validate everything that serve validates, with the same code, without serving: the RIVERGATE_… variables, the data
folder, and for each enabled pusher its binary, its pinned hash and its own configuration. Plugins are started for that
and stopped again; nothing is connected to. All problems are reported at once.

` + exitCodesHelp,
		Example: "  PLUGIN_FILE_ENABLED=true rivergate check\n  rivergate check --env-file /etc/rivergate.env --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.check(cmd.Context()) },
	}
}

func (c *cli) check(ctx context.Context) error {
	cfg, problems := config.Load(c.Environ)
	found, err := c.checkPlugins(ctx, cfg, problems)
	if err != nil {
		return err
	}
	problems = append(problems, found...)
	slices.SortStableFunc(problems, func(a, b settings.Problem) int { return strings.Compare(a.Variable, b.Variable) })
	if c.json {
		values, err := cfg.Masked()
		if err != nil {
			return err
		}
		err = c.printJSON(map[string]any{
			"ok": len(problems) == 0, "problems": notNil(problems), "warnings": notNil(cfg.Warnings), "settings": values,
		})
		if err == nil && len(problems) > 0 {
			err = &exitError{code: exitMistake}
		}
		return err
	}
	if len(problems) > 0 {
		return c.refuse(problems, cfg.Warnings)
	}
	printProblems(c.Stderr, "Warnings:", cfg.Warnings)
	fmt.Fprintf(c.Stdout, "The configuration is right.\n  listens on  %s\n  data        %s\n", cfg.Listen, cfg.DataDir)
	for i := range cfg.Instances {
		in := &cfg.Instances[i]
		runs := pluginhost.BinaryName(protocol.KindPusher, in.Plugin())
		if address := cfg.Attached()[in.Name]; address != "" {
			runs = "attached to " + address
		}
		fmt.Fprintf(c.Stdout, "  pusher      %s (%s)\n", in.Name, runs)
	}
	if b := cfg.Backend; b != nil {
		fmt.Fprintf(c.Stdout, "  storage     %s (%s)\n", b.Name, pluginhost.BinaryName(protocol.KindStorage, b.Name))
	}
	if len(cfg.Instances) == 0 {
		fmt.Fprintln(c.Stdout, "  pusher      none: rows are refused until one is enabled, for example PLUGIN_FILE_ENABLED=true")
	}
	return nil
}

// checkPlugins looks at what Load cannot see: the data folder and, by starting them for a moment, the plugins. known are
// the problems that Load found; none of them is told twice.
func (c *cli) checkPlugins(ctx context.Context, cfg *config.Config, known []settings.Problem) (problems []settings.Problem, err error) {
	if cfg.DataDir != "" {
		problems = checkDataDir(cfg.DataDir)
	}
	isKnown := func(variable string) bool {
		return slices.ContainsFunc(known, func(p settings.Problem) bool { return p.Variable == variable })
	}
	list := slices.DeleteFunc(instances(cfg), func(in pluginhost.Instance) bool {
		// There is nothing to start, or nobody knows whether it is the right one.
		return isKnown(in.Prefix+"ENABLED") || isKnown(in.Prefix+"USE") || isKnown(in.Prefix+"SHA256")
	})
	// What cannot be read of an env file may say which plugins are trusted, and as whom they run.
	if len(list) == 0 || isKnown("RIVERGATE_ENV_FILE") {
		return problems, nil
	}
	host, cleanup, err := c.scratchHost(ctx, cfg)
	if err != nil {
		return nil, err
	}
	found := host.Check(ctx, list)
	if err := errors.Join(host.Stop(ctx), cleanup()); err != nil {
		return nil, fmt.Errorf("after the check: %w", err)
	}
	found = slices.DeleteFunc(found, func(p settings.Problem) bool { return isKnown(p.Variable) })
	return append(problems, found...), nil
}

// scratchHost is a plugin host with a folder of its own, beside a host that may be serving.
func (c *cli) scratchHost(ctx context.Context, cfg *config.Config) (host *pluginhost.Host, cleanup func() error, err error) {
	dir, err := os.MkdirTemp("", "rivergate-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder for the plugins: %w", err)
	}
	host, err = pluginhost.New(pluginhost.Options{
		Dir: cfg.PluginDir, RunDir: dir, Attach: cfg.Attached(), MTLS: cfg.PluginMTLS, HostVersion: c.build().Version, Log: hclog.NewNullLogger(),
		Verify: c.scratchVerifier(ctx, cfg), Triggers: cfg.ControlTower != "",
	})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return host, func() error { return os.RemoveAll(dir) }, nil
}

// instances are the enabled pushers as the plugin host wants them.
func instances(cfg *config.Config) []pluginhost.Instance {
	return append(pluginInstances(cfg.Instances), backendInstance(cfg)...)
}

// backendInstance is the storage plugin, where the host runs storage. It starts with the first file.
func backendInstance(cfg *config.Config) []pluginhost.Instance {
	b := cfg.Backend
	if b == nil {
		return nil
	}
	return []pluginhost.Instance{{
		Name: pluginhost.InstanceName(protocol.KindStorage, b.Name), Plugin: b.Name, Kind: protocol.KindStorage, OnDemand: true,
		SHA256: b.SHA256, PassEnv: b.PassEnv, Prefix: b.Prefix, Vars: b.Own, HostVars: config.BackendOwned(b.Prefix),
		Limits: pluginhost.Limits{MemoryMax: int64(b.MemoryMax), CPUMax: b.CPUMax, OpenFiles: b.OpenFiles}, RunAs: b.RunAs,
	}}
}

func pluginInstances(of []config.Instance) []pluginhost.Instance {
	list := make([]pluginhost.Instance, len(of))
	for i := range of {
		in := &of[i]
		list[i] = pluginhost.Instance{
			Name: in.Name, Plugin: in.Plugin(), Kind: protocol.KindPusher, SHA256: in.SHA256, PassEnv: in.PassEnv,
			Prefix: in.Prefix, Vars: in.Own, HostVars: config.HostOwned(in.Prefix),
			Limits: pluginhost.Limits{MemoryMax: int64(in.MemoryMax), CPUMax: in.CPUMax, OpenFiles: in.OpenFiles},
			RunAs:  in.RunAs, Shared: in.Process == "shared",
		}
	}
	return list
}

// checkDataDir tells whether the data folder can be written, or made. It makes nothing.
func checkDataDir(dir string) []settings.Problem {
	const variable = "RIVERGATE_DATA_DIR"
	at, err := filepath.Abs(dir)
	if err != nil {
		return []settings.Problem{{Variable: variable, Reason: err.Error()}}
	}
	for {
		info, err := os.Stat(at)
		switch {
		case err == nil && !info.IsDir():
			return []settings.Problem{{Variable: variable, Reason: at + " is no folder"}}
		case err == nil:
			const write, enter = 2, 1
			if err := syscall.Access(at, write|enter); err != nil {
				return []settings.Problem{{Variable: variable, Reason: fmt.Sprintf("%s cannot be written: %v", at, err)}}
			}
			return nil
		case !errors.Is(err, os.ErrNotExist) || at == filepath.Dir(at):
			return []settings.Problem{{Variable: variable, Reason: err.Error()}}
		}
		at = filepath.Dir(at) // it would be made there
	}
}

// refuse prints problems and ends with the exit code of a mistake.
func (c *cli) refuse(problems, warnings []settings.Problem) error {
	slices.SortStableFunc(problems, func(a, b settings.Problem) int { return strings.Compare(a.Variable, b.Variable) })
	noun := "problems"
	if len(problems) == 1 {
		noun = "problem"
	}
	printProblems(c.Stderr, fmt.Sprintf("rivergate: %d %s with the configuration:", len(problems), noun), problems)
	printProblems(c.Stderr, "Warnings:", warnings)
	return &exitError{code: exitMistake}
}

// printProblems lists problems under a title, each with its variable, the reason and what was probably meant.
func printProblems(w io.Writer, title string, problems []settings.Problem) {
	if len(problems) == 0 {
		return
	}
	fmt.Fprintln(w, title)
	for _, p := range problems {
		name := p.Variable
		if name == "" {
			name = "configuration"
		}
		fmt.Fprintf(w, "  %s: %s\n", name, p.Reason)
		if p.Nearest != "" {
			fmt.Fprintf(w, "    Did you mean %s?\n", p.Nearest)
		}
	}
}

// notNil is for JSON: an empty list is [], not null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
