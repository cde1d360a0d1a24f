package command

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/host/pluginstore"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// answerTime bounds the wait for a host when its answer is only welcome.
const answerTime = 2 * time.Second

// pluginEntry is one line of the command: a binary of the plugin folder, and an instance of it that is enabled, if any.
type pluginEntry struct {
	Name       string   `json:"name"` // of the instance, else of the plugin
	Plugin     string   `json:"plugin"`
	Kind       string   `json:"kind"`
	Version    string   `json:"version,omitempty"`
	SHA256     string   `json:"sha256,omitempty"`
	Lock       string   `json:"lock,omitempty"` // what the lock file says of the binary: locked, differs, not locked
	Path       string   `json:"path,omitempty"`
	Enabled    bool     `json:"enabled"`
	State      string   `json:"state,omitempty"`          // as the running host has it, with what follows
	Running    string   `json:"running_sha256,omitempty"` // of the process, which may be older than the file
	Condition  string   `json:"condition,omitempty"`
	Attached   string   `json:"attached,omitempty"` // address of a process that the host did not start
	SharedWith []string `json:"shared_with,omitempty"`
	Problem    string   `json:"problem,omitempty"`
	PID        int      `json:"pid,omitempty"`
	Restarts   int      `json:"restarts,omitempty"`

	Signer *pluginstore.Signer `json:"signer,omitempty"` // where RIVERGATE_PLUGIN_KEYS is set and the signature is right
}

func (c *cli) pluginsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugins",
		Short: "The plugins in the plugin folder, and what the running host does with them",
		Long: `List the plugin binaries of RIVERGATE_PLUGIN_DIR with their kind, version (each is started for a moment and asked) and hash
(for PLUGIN_<NAME>_SHA256), which of them the environment enables and, when a host answers, their state. LOCK says whether
the lock file has the binary: locked, differs (another hash), not locked. SIGNED is the key and the trusted comment of its
signature, where RIVERGATE_PLUGIN_KEYS is set.

` + exitCodesHelp,
		Example: "  rivergate plugins\n  rivergate plugins --json\n  rivergate plugins lock --check",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.plugins(cmd.Context()) },
	}
	c.clientFlags(cmd)
	cmd.AddCommand(c.lockCommand(), c.installCommand(), c.rollbackCommand(), c.upgradeCommand())
	return cmd
}

func (c *cli) plugins(ctx context.Context) error {
	cfg, _ := config.Load(c.Environ) // problems are for check; the folder is known in any case
	entries, trust, err := c.foundPlugins(ctx, cfg)
	if err != nil {
		return err
	}
	host, err := c.client()
	if err != nil {
		return err
	}
	silent := askPlugins(ctx, host, entries)

	list := make([]pluginEntry, 0, len(entries))
	for _, e := range entries {
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b pluginEntry) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	if c.json {
		return c.printJSON(map[string]any{"plugins": list, "host": host.shown(), "host_answers": silent == nil, "trust": trust})
	}
	if len(list) == 0 {
		fmt.Fprintf(c.Stdout, "No plugin in %s. make build builds them; RIVERGATE_PLUGIN_DIR names another folder.\n", cfg.PluginDir)
		return nil
	}
	rows := make([][]cell, len(list))
	for i, e := range list {
		enabled := cell{text: "no", tone: faint}
		if e.Enabled {
			enabled = cell{text: "yes"}
		}
		plugin := e.Plugin
		if plugin == e.Name {
			plugin = ""
		}
		rows[i] = []cell{
			text(e.Name), text(plugin), text(e.Kind), text(e.Version), enabled, e.stateCell(),
			text(short(e.SHA256, 13)), trust.cell(e), signerCell(e), text(short(e.Problem, 80)),
		}
	}
	c.table([]string{"NAME", "PLUGIN", "KIND", "VERSION", "ENABLED", "STATE", "SHA256", "LOCK", "SIGNED", "PROBLEM"}, rows)
	trust.print(c)
	if silent != nil {
		fmt.Fprintf(c.Stdout, "\nNo host answers at %s, so states are not known.\n", host.shown())
	}
	return nil
}

// foundPlugins joins the binaries of the folder with the instances of the configuration, by the instance's name. A plugin is
// started for that only when it might run.
func (c *cli) foundPlugins(ctx context.Context, cfg *config.Config) (map[string]*pluginEntry, *pluginTrust, error) {
	all := func(pluginhost.Found) bool { return true }
	found, err := c.introducer(cfg)(ctx, cfg.PluginDir, c.scratchVerifier(ctx, cfg), all)
	if err != nil {
		return nil, nil, err
	}
	trust := c.trustOf(cfg, found)
	entries := map[string]*pluginEntry{}
	binaries := map[string]pluginEntry{}
	for _, f := range found {
		e := pluginEntry{Name: pluginhost.InstanceName(f.Kind, f.Name), Plugin: f.Name, Kind: string(f.Kind), Version: f.Version, SHA256: f.SHA256, Path: f.Path, Problem: f.Problem}
		e.Lock, e.Signer = trust.states[f.Path].Lock, trust.states[f.Path].Signer
		entries[e.Kind+"/"+e.Name] = &e
		binaries[e.Kind+"/"+e.Plugin] = e
	}
	if b := cfg.Backend; b != nil {
		if e := entries[string(protocol.KindStorage)+"/"+pluginhost.InstanceName(protocol.KindStorage, b.Name)]; e != nil {
			e.Enabled = true
		}
	}
	for i := range cfg.Instances {
		in := &cfg.Instances[i]
		e, ok := binaries[string(protocol.KindPusher)+"/"+in.Plugin()]
		if !ok {
			e = pluginEntry{Kind: string(protocol.KindPusher), Problem: "there is no such binary"}
		}
		e.Name, e.Plugin, e.Enabled = in.Name, in.Plugin(), true
		entries[e.Kind+"/"+e.Name] = &e
	}
	return entries, trust, nil
}

// pluginTrust is what decides which plugins may run.
type pluginTrust struct {
	Policy  string `json:"policy"`
	Lock    string `json:"lock"`
	Exists  bool   `json:"lock_exists"`
	Problem string `json:"problem,omitempty"` // of the lock file

	states map[string]pluginstore.State // by path
}

func (c *cli) trustOf(cfg *config.Config, found []pluginhost.Found) *pluginTrust {
	t := &pluginTrust{Policy: cfg.Policy(), Lock: cfg.LockFile()}
	store, err := pluginstore.Open(cfg.PluginDir, cfg.PluginLock)
	if err == nil {
		t.Lock = store.LockPath()
		_, t.Exists, err = store.ReadLock()
	}
	if err == nil {
		keys, _ := pluginstore.ParseKeys(cfg.PluginKeys) // a problem of theirs is told with each plugin
		t.states, err = store.States(found, keys)
	}
	if err != nil {
		t.Problem = err.Error()
	}
	return t
}

// matters tells whether there is anything to say about trust: neither lock file nor policy is the default of a newcomer.
func (t *pluginTrust) matters() bool {
	return t.Exists || t.Problem != "" || t.Policy != pluginstore.PolicyAny
}

func (t *pluginTrust) cell(e pluginEntry) cell {
	tones := map[string]tone{pluginstore.StateLocked: good, pluginstore.StateDiffers: bad, pluginstore.StateUnlocked: doubtful}
	if !t.matters() {
		return cell{}
	}
	return cell{text: e.Lock, tone: tones[e.Lock]}
}

func signerCell(e pluginEntry) cell {
	if e.Signer == nil {
		return cell{}
	}
	return text(short(strings.TrimSpace(e.Signer.Key+" "+e.Signer.Comment), 60))
}

func (t *pluginTrust) print(c *cli) {
	if t.Problem != "" {
		fmt.Fprintf(c.Stdout, "\nNo plugin runs until this is mended: %s\n", t.Problem)
	} else if t.matters() {
		fmt.Fprintf(c.Stdout, "\nPolicy %s, lock file %s.\n", t.Policy, t.Lock)
	}
}

// askPlugins adds what a running host knows. Its error says that none answered.
func askPlugins(ctx context.Context, host *client, entries map[string]*pluginEntry) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var answer struct {
		Plugins []struct {
			Name, Kind, Binary, Version, SHA256, State, Reason, Condition, Attached string
			PID, Restarts                                                           int
			SharedWith                                                              []string `json:"shared_with"`
		} `json:"plugins"`
	}
	if _, err := host.call(ctx, http.MethodGet, "/api/v1/plugins", nil, nil, &answer); err != nil {
		return err
	}
	for _, p := range answer.Plugins {
		e := entries[p.Kind+"/"+p.Name]
		if e == nil {
			plugin := p.Binary[strings.LastIndex(p.Binary, "/")+1:]
			e = &pluginEntry{Name: p.Name, Plugin: strings.TrimPrefix(plugin, "rivergate-"+p.Kind+"-"), Kind: p.Kind, SHA256: p.SHA256}
			entries[p.Kind+"/"+p.Name] = e
		}
		e.Version, e.State, e.PID, e.Restarts = cmp.Or(p.Version, e.Version), p.State, p.PID, p.Restarts
		e.Running, e.Condition, e.Attached, e.SharedWith = p.SHA256, p.Condition, p.Attached, p.SharedWith
		e.Enabled = e.Enabled || p.PID > 0
		e.Problem = cmp.Or(e.Problem, p.Reason)
	}
	return nil
}

// stateCell is the state with what an operator would ask next: is it well, and whose process is it?
func (e *pluginEntry) stateCell() cell {
	all := cell{text: e.State, tone: stateTones[e.State]}
	if e.Condition != "" {
		all = cell{text: all.text + ", " + e.Condition, tone: doubtful}
	}
	if e.Attached != "" {
		all.text += ", attached to " + e.Attached
	}
	if len(e.SharedWith) > 0 {
		all.text += ", shared with " + strings.Join(e.SharedWith, " ")
	}
	return all
}
