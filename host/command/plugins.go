package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// answerTime bounds the wait for a host when its answer is only welcome.
const answerTime = 2 * time.Second

// pluginEntry is one line of the command: a binary of the plugin folder, and an instance of it that is enabled, if any.
type pluginEntry struct {
	Name     string `json:"name"` // of the instance, else of the plugin
	Plugin   string `json:"plugin"`
	Kind     string `json:"kind"`
	Version  string `json:"version,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Path     string `json:"path,omitempty"`
	Enabled  bool   `json:"enabled"`
	State    string `json:"state,omitempty"` // as the running host has it
	Problem  string `json:"problem,omitempty"`
	PID      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
}

func (c *cli) pluginsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugins",
		Short: "The plugins in the plugin folder, and what the running host does with them",
		Long: `List the plugin binaries of RIVERGATE_PLUGIN_DIR with their kind, version (each is started for a moment and asked) and hash
(for PLUGIN_<NAME>_SHA256), which pushers the environment enables and, when a host answers, their state.

` + exitCodesHelp,
		Example: "  rivergate plugins\n  rivergate plugins --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.plugins(cmd.Context()) },
	}
	c.clientFlags(cmd)
	return cmd
}

func (c *cli) plugins(ctx context.Context) error {
	cfg, _ := config.Load(c.Environ) // problems are for check; the folder is known in any case
	entries, err := c.foundPlugins(ctx, cfg)
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
		return c.printJSON(map[string]any{"plugins": list, "host": host.base, "host_answers": silent == nil})
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
			text(e.Name), text(plugin), text(e.Kind), text(e.Version), enabled, {text: e.State, tone: stateTones[e.State]},
			text(short(e.SHA256, 13)), text(short(e.Problem, 80)),
		}
	}
	c.table([]string{"NAME", "PLUGIN", "KIND", "VERSION", "ENABLED", "STATE", "SHA256", "PROBLEM"}, rows)
	if silent != nil {
		fmt.Fprintf(c.Stdout, "\nNo host answers at %s, so states are not known.\n", host.base)
	}
	return nil
}

// foundPlugins joins the binaries of the folder with the instances of the configuration, by the instance's name.
func (c *cli) foundPlugins(ctx context.Context, cfg *config.Config) (map[string]*pluginEntry, error) {
	host, cleanup, err := c.scratchHost(cfg)
	if err != nil {
		return nil, err
	}
	found, err := host.Discover()
	if err == nil {
		err = host.Introduce(ctx, found)
	}
	if err := errors.Join(err, host.Stop(ctx), cleanup()); err != nil {
		return nil, err
	}
	entries := map[string]*pluginEntry{}
	binaries := map[string]pluginEntry{}
	for _, f := range found {
		e := pluginEntry{Name: f.Name, Plugin: f.Name, Kind: string(f.Kind), Version: f.Version, SHA256: f.SHA256, Path: f.Path, Problem: f.Problem}
		entries[e.Kind+"/"+e.Name] = &e
		binaries[e.Kind+"/"+e.Name] = e
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
	return entries, nil
}

// askPlugins adds what a running host knows. Its error says that none answered.
func askPlugins(ctx context.Context, host *client, entries map[string]*pluginEntry) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var answer struct {
		Plugins []struct {
			Name, Kind, Binary, Version, SHA256, State, Reason string
			PID, Restarts                                      int
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
		e.Enabled = e.Enabled || p.PID > 0
		e.Problem = cmp.Or(e.Problem, p.Reason)
	}
	return nil
}
