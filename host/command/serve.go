package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/sdk/settings"
)

func (c *cli) serveCommand() *cobra.Command {
	var hints bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the host: take rows, keep them, forward them",
		Long: `Run the host until SIGTERM or SIGINT. Configuration comes from the environment and from the env file that
RIVERGATE_ENV_FILE or --env-file names; rivergate check validates it. SIGHUP reads the file again and changes only the
instances whose configuration changed.

A signal ends it in good order within RIVERGATE_SHUTDOWN_TIMEOUT: no more requests, those that run are finished, plugins
finish what they have. A second signal ends it at once. Either way no accepted row is lost: what was not delivered is
delivered after the next start.

` + exitCodesHelp,
		Example: `  PLUGIN_FILE_ENABLED=true PLUGIN_FILE_PATH='data/out/{org}/{date}.jsonl' rivergate serve
  RIVERGATE_LISTEN=127.0.0.1:9090 RIVERGATE_LOG_FORMAT=json rivergate serve`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("hints") {
				hints = terminal(c.Stdout)
			}
			return c.serve(cmd.Context(), hints)
		},
	}
	cmd.Flags().BoolVar(&hints, "hints", false, "print what to try (default: on a terminal)")
	return cmd
}

func (c *cli) serve(ctx context.Context, hints bool) (err error) {
	cfg, problems := config.Load(c.Environ)
	if len(problems) > 0 {
		found, err := c.checkPlugins(ctx, cfg, problems)
		if err != nil {
			return err
		}
		return c.refuse(append(problems, found...), cfg.Warnings)
	}
	if problems := checkDataDir(cfg.DataDir); len(problems) > 0 {
		return c.refuse(problems, cfg.Warnings)
	}
	log := c.logger(cfg)
	for _, w := range cfg.Warnings {
		log.Warn("configuration", "variable", w.Variable, "reason", w.Reason, "nearest", w.Nearest)
	}
	if c.env("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(cfg.MemoryLimit))
	}

	// From here on a hang-up no longer ends the process; one that comes while the host starts is answered after that.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	release, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()

	n := &node{cfg: cfg, log: log, build: c.build(), load: c.loadAgain}
	if err := n.open(ctx); err != nil {
		return errors.Join(err, n.close(ctx))
	}
	err = n.run(ctx, hangups, func(address net.Addr) {
		if hints {
			c.printHints(cfg, address)
		}
	})
	err = errors.Join(err, n.close(ctx))
	var bad *problemsError
	if errors.As(err, &bad) {
		return c.refuse(bad.problems, nil)
	}
	switch {
	case err != nil:
	case n.cut:
		log.Info("stopped; what was cut short is delivered after the next start")
	default:
		log.Info("stopped in good order")
	}
	return err
}

// loadAgain reads the configuration of a host that serves. Where something is wrong with it, the plugins are asked too, so
// that all problems are told at once.
func (c *cli) loadAgain(ctx context.Context) (*config.Config, []settings.Problem) {
	cfg, problems := config.Load(c.Environ)
	if len(problems) == 0 {
		return cfg, nil
	}
	found, err := c.checkPlugins(ctx, cfg, problems)
	if err != nil {
		found = []settings.Problem{{Reason: "the plugins could not be asked about their configuration: " + err.Error()}}
	}
	return cfg, append(problems, found...)
}

// problemsError are configuration problems that only the started plugins brought to light.
type problemsError struct{ problems []settings.Problem }

func (e *problemsError) Error() string {
	return fmt.Sprintf("%d problems with the configuration", len(e.problems))
}

func (c *cli) logger(cfg *config.Config) hclog.Logger {
	options := &hclog.LoggerOptions{
		Name: "rivergate", Level: hclog.LevelFromString(cfg.LogLevel), Output: c.Stderr, JSONFormat: cfg.LogFormat == "json",
		Color: hclog.ColorOff,
	}
	if c.colour(c.Stderr) && cfg.LogFormat == "text" {
		options.Color = hclog.ForceColor
	}
	return hclog.New(options)
}

// printHints says where the host listens and what a newcomer can try. Each line works as it is printed.
func (c *cli) printHints(cfg *config.Config, address net.Addr) {
	self, err := os.Executable()
	if err != nil {
		self = "rivergate"
	}
	if wd, err := os.Getwd(); err == nil {
		if near, err := filepath.Rel(wd, self); err == nil && !strings.HasPrefix(near, "..") {
			self = near
		}
	}
	base := config.URL([]string{"RIVERGATE_LISTEN=" + address.String()})
	url := ""
	if base != config.URL(nil) { // another terminal does not have our variables
		url = " --url " + base
	}
	w := c.Stdout
	fmt.Fprintf(w, "\nRivergate %s listens on %s. Try, in another terminal:\n\n", c.build().Version, base)
	fmt.Fprintf(w, "  curl %s/data -H 'Content-Type: application/json' -d '{\"uuid\":\"demo\",\"row\":{\"data\":{\"temperature\":21.5}}}'\n", base)
	for i := range cfg.Instances {
		in := &cfg.Instances[i]
		if path := in.Own[in.Prefix+"PATH"]; in.Plugin() == "file" && path != "" {
			fmt.Fprintf(w, "  cat %s\n", shellPattern(path))
		}
	}
	fmt.Fprintf(w, "  %s pushers list%s\n", self, url)
	fmt.Fprintf(w, "\nThe API: %s/docs. Ctrl-C stops; no accepted row is lost.\n\n", base)
}

// shellPattern makes of a template such as out/{org}/{date}.jsonl what a shell expands to its files.
func shellPattern(template string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(template, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, template, _ = strings.Cut(rest, "}")
		b.WriteByte('*')
	}
}
