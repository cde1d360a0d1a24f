package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

type pluginRunOptions struct {
	config     []string
	configFile string
	envPrefix  string
	timeout    time.Duration
	logLevel   string
	ordered    bool
	trigger    string
}

func (c *cli) pluginRunCommand() *cobra.Command {
	var o pluginRunOptions
	cmd := &cobra.Command{
		Use:   "run BINARY",
		Short: "Try a plugin by hand: send rows at a prompt and see their outcomes",
		Long: `Start one plugin as the host would, configure it, and read from standard input: a line of JSON is a row, a line that starts
with a dot is a command (.help lists them). Each row's outcome is shown, with what the host would make of it. The plugin's
log appears in between. Nothing of a running host is touched: no journal, no retry, no dead letter. Ctrl-D ends it in good
order.

` + exitCodesHelp,
		Example: `  rivergate plugin run bin/rivergate-pusher-acme --config url=http://127.0.0.1:8081/rows
  rivergate plugin run bin/rivergate-pusher-acme --env-prefix PLUGIN_ACME_
  rivergate plugin run bin/plugins/rivergate-pusher-riffyn --config-file riffyn.env --trigger trigger.json
  echo '{"keyOne":1}' | rivergate plugin run bin/rivergate-pusher-acme --config-file acme.json --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.pluginRun(cmd.Context(), args[0], o) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.config, "config", nil, "a setting, KEY=VALUE, with the text that its variable would hold; may be repeated")
	flags.StringVar(&o.configFile, "config-file", "", "file with settings: a JSON object, or lines of KEY=VALUE")
	flags.StringVar(&o.envPrefix, "env-prefix", "", "take the settings of the environment and the env file that start so, such as PLUGIN_ACME_")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Second, "longest wait for an acknowledgement, as PLUGIN_<NAME>_TIMEOUT")
	flags.StringVar(&o.logLevel, "log-level", "info", "least level of the plugin's log that is shown: trace, debug, info, warn, error")
	flags.BoolVar(&o.ordered, "ordered", false, "deliver as under ORDER=key")
	flags.StringVar(&o.trigger, "trigger", "", "trigger of the rows, for a plugin that needs them: a JSON object, or a `FILE` with one; its uuid becomes that of the rows")
	return cmd
}

func (c *cli) pluginRun(ctx context.Context, binary string, o pluginRunOptions) (err error) {
	level := hclog.LevelFromString(o.logLevel)
	if level == hclog.NoLevel || o.timeout <= 0 {
		return mistake("--log-level is one of trace, debug, info, warn, error, and --timeout is longer than 0")
	}
	dir, err := os.MkdirTemp("", "rivergate-")
	if err != nil {
		return fmt.Errorf("make a folder for the plugin: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	folder, name, err := pluginFile(binary, dir)
	if err != nil {
		return err
	}
	vars, err := c.pluginVars(pluginhost.VariablePrefix(protocol.KindPusher, name), o)
	if err != nil {
		return err
	}
	screen := c.newScreen(name)
	p := &prompt{c: c, name: name, screen: screen, options: o, uuid: "by-hand", org: 1, position: 1}
	if o.trigger != "" {
		if err := p.setTrigger(o.trigger); err != nil {
			return mistake("--trigger: %v", err)
		}
	}
	p.host, err = pluginhost.New(pluginhost.Options{
		Dir: folder, RunDir: filepath.Join(dir, "run"), HostVersion: c.build().Version, Wrap: p.wrap, Triggers: true,
		Log: hclog.New(&hclog.LoggerOptions{Output: screen.log(), Level: level, DisableTime: true}),
	})
	if err != nil {
		return err
	}
	defer func() {
		// What is in hand is finished although the person has gone.
		p.closeSession()
		err = errors.Join(err, p.host.Stop(context.WithoutCancel(ctx)))
	}()
	problems := p.host.Start(ctx, []pluginhost.Instance{{
		Name: name, Kind: protocol.KindPusher, Vars: vars, HostVars: config.HostOwned(pluginhost.VariablePrefix(protocol.KindPusher, name)),
	}})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(problems) > 0 {
		return c.pluginRefused(problems)
	}
	if _, err := p.running(ctx, 0); err != nil {
		return err
	}
	if err := p.introduce(); err != nil {
		return err
	}
	return p.run(ctx)
}

// pluginRefused prints what is wrong with the file or its settings.
func (c *cli) pluginRefused(problems []settings.Problem) error {
	if c.json {
		if err := c.printJSON(map[string]any{"event": "refused", "problems": problems}); err != nil {
			return err
		}
		return &exitError{code: exitMistake}
	}
	printProblems(c.Stderr, "rivergate: the plugin cannot be started so (--config takes a setting by the end of its variable's name):", problems)
	return &exitError{code: exitMistake}
}

// pluginFile is the folder and the name under which the plugin host finds the binary. A file of another name is linked
// under one that fits.
func pluginFile(binary, scratch string) (folder, name string, err error) {
	path, err := filepath.Abs(binary)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", "", mistake("there is no plugin to run: %v", err)
	}
	prefix := pluginhost.BinaryName(protocol.KindPusher, "")
	if name, ok := strings.CutPrefix(filepath.Base(path), prefix); ok {
		if err := pluginhost.CheckName(name); err != nil {
			return "", "", mistake("%s: %v", binary, err)
		}
		return filepath.Dir(path), name, nil
	}
	name = "unnamed"
	if err := os.Symlink(path, filepath.Join(scratch, prefix+name)); err != nil {
		return "", "", fmt.Errorf("link the plugin under a plugin's name: %w", err)
	}
	return scratch, name, nil
}

// pluginVars gathers the plugin's settings as variables. What is on the command line wins over the file, and that over
// the environment.
func (c *cli) pluginVars(prefix string, o pluginRunOptions) (map[string]string, error) {
	vars := map[string]string{}
	if o.envPrefix != "" {
		environment, wrong := config.Environment(c.Environ)
		if len(wrong) > 0 {
			return nil, mistake("%s: %s", wrong[0].Variable, wrong[0].Reason)
		}
		for name, value := range environment {
			if rest, ok := strings.CutPrefix(name, o.envPrefix); ok {
				vars[prefix+rest] = value
			}
		}
		for _, name := range config.HostOwned(prefix) {
			delete(vars, name)
		}
	}
	if o.configFile != "" {
		text, err := os.ReadFile(o.configFile)
		if err != nil {
			return nil, mistake("--config-file: %v", err)
		}
		found, err := fileVars(prefix, text)
		if err != nil {
			return nil, mistake("--config-file %s: %v", o.configFile, err)
		}
		maps.Copy(vars, found)
	}
	for _, pair := range o.config {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, mistake("--config is KEY=VALUE, such as url=http://127.0.0.1:8081")
		}
		vars[variableOf(prefix, key)] = value
	}
	return vars, nil
}

// variableOf takes a property (request_timeout), the end of a variable (REQUEST_TIMEOUT), or all of it.
func variableOf(prefix, key string) string {
	if strings.HasPrefix(key, prefix) {
		return key
	}
	if key == strings.ToUpper(key) {
		return prefix + key
	}
	return settings.Variable(prefix, key)
}

// fileVars reads a JSON object, or lines of KEY=VALUE. Its errors quote no value.
func fileVars(prefix string, text []byte) (map[string]string, error) {
	vars := map[string]string{}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil {
			return nil, fmt.Errorf("is not a JSON object: %w", err)
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			value := string(object[key])
			var s string
			if json.Unmarshal(object[key], &s) == nil {
				value = s
			}
			vars[variableOf(prefix, key)] = value
		}
		return vars, nil
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("line %d is not KEY=VALUE", n)
		}
		vars[variableOf(prefix, strings.TrimSpace(key))] = strings.TrimSpace(value)
	}
	return vars, nil
}

// wrap keeps the connection of the newest process, for .health.
func (p *prompt) wrap(_ string, _ hclog.Logger, _ json.RawMessage, client protocol.Client) protocol.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client = client
	return client
}

// running waits until a process other than the one with the pid runs, and returns its pid.
func (p *prompt) running(ctx context.Context, other int) (pid int, err error) {
	for {
		s := p.status()
		switch {
		case s.State == pluginhost.StateRunning && s.PID != other:
			return s.PID, nil
		case s.State == pluginhost.StateFailed:
			return 0, fmt.Errorf("the plugin does not start: %s", s.Reason)
		case s.State == pluginhost.StateCrashLoop:
			return 0, fmt.Errorf("the plugin crashes again and again: %s", s.Reason)
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

func (p *prompt) status() pluginhost.Status {
	for _, s := range p.host.Status() {
		if s.Name == p.name {
			return s
		}
	}
	return pluginhost.Status{}
}

// introduce shows what the plugin says of itself.
func (p *prompt) introduce() error {
	s := p.status()
	if p.c.json {
		return p.event("plugin", map[string]any{"plugin": s})
	}
	title := strings.TrimSpace(s.Plugin + " " + visible(s.Version))
	if s.Summary != "" {
		title += ": " + visible(s.Summary)
	}
	p.printf("%s\n", title)
	if s.Author != "" {
		p.printf("  by        %s\n", visible(s.Author))
	}
	p.printf("  file      %s\n  sha256    %s\n  protocol  %d, %s\n  process   %d\n", s.Binary, s.SHA256, s.Protocol, visible(s.SDK), s.PID)
	if s.Reason != "" {
		p.printf("  health    %s\n", s.Reason)
	}
	if p.screen.interactive() {
		p.printf("A line of JSON is a row. .help lists the commands, Ctrl-D ends.\n")
	}
	return nil
}

// event prints one JSON object on a line.
func (p *prompt) event(name string, fields map[string]any) error {
	fields["event"] = name
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(fields); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err := p.screen.Write(b.Bytes())
	return err
}

func (p *prompt) printf(format string, args ...any) { fmt.Fprintf(p.screen, format, args...) }

var _ io.Writer = (*screen)(nil)
