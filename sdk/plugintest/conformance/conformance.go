// Package conformance runs any plugin binary, written in any language, and tells for each rule of the plugin contract
// whether it is kept. It starts the binary as a host would, with a clean environment and a private folder for sockets, and
// speaks the real protocol to it. Each rule gets a process of its own.
//
// Rules is the list of all rules. Package plugintest runs them as subtests, the command "rivergate conformance" for a
// person or a build.
package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk/settings"
)

// DefaultTimeout is what the plugin gets for a start, an answer or an acknowledgement.
const DefaultTimeout = 10 * time.Second

// Options say what is checked, and how.
type Options struct {
	Path string // the binary
	// Config is the configuration of the instance. Settings are settings as text, named as properties ("url") or variables
	// ("URL", "PLUGIN_ACME_URL"), typed by the plugin's schema as the host does it; they win over Config.
	Config   map[string]any
	Settings map[string]string
	// Trigger is the JSON object that a plugin with needs_trigger gets with each frame, with the frame's own uuid as "uuid";
	// nil: a plain one.
	Trigger json.RawMessage
	Env     []string      // variables that the process gets beside those that every plugin gets, "NAME=value"
	Rules   []string      // ids of the rules to check; what they need is checked too. Empty: all
	Timeout time.Duration // for each start, answer and acknowledgement; 0: DefaultTimeout
	Log     io.Writer     // gets what the plugin writes on standard error and, stray, on standard output; nil: nobody

	// Starting and Done are called before and after each rule that runs, for progress; nil: nobody listens.
	Starting func(Rule)
	Done     func(Result)

	large int64 // bytes of the rule of that name; 0: largeSize
}

// Mistake is something wrong with the options: nothing can be said about the plugin. Problems are settings that do not
// fit the plugin's schema.
type Mistake struct {
	Reason   string
	Problems []settings.Problem
}

func (m *Mistake) Error() string {
	texts := []string{m.Reason}
	for _, p := range m.Problems {
		text := strings.TrimSpace(p.Variable + " " + p.Reason)
		if p.Nearest != "" {
			text += "; did you mean " + p.Nearest + "?"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "\n  ")
}

// Run checks the rules one after another. What the plugin does wrong is in the report; the error is a *Mistake, the end of
// ctx, or the trouble of this machine. Nothing of the plugin's processes is left afterwards.
func Run(ctx context.Context, opts Options) (*Report, error) {
	path, err := filepath.Abs(opts.Path)
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	switch info, err := os.Stat(path); {
	case opts.Path == "" || errors.Is(err, os.ErrNotExist):
		return nil, &Mistake{Reason: fmt.Sprintf("there is no binary %q", opts.Path)}
	case err != nil:
		return nil, fmt.Errorf("conformance: %w", err)
	case info.IsDir():
		return nil, &Mistake{Reason: fmt.Sprintf("%s is a folder; the path of a plugin binary is wanted", opts.Path)}
	}
	opts.Path = path
	if opts.Trigger == nil {
		opts.Trigger = json.RawMessage(plainTrigger)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(opts.Trigger, &members); err != nil || members == nil {
		return nil, &Mistake{Reason: "the trigger is no JSON object"}
	}
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	rules, err := chosen(opts.Rules)
	if err != nil {
		return nil, err
	}
	return newSuite(opts).run(ctx, rules)
}

// chosen are the rules with these ids and all that they need, in their order.
func chosen(ids []string) ([]Rule, error) {
	all := Rules()
	if len(ids) == 0 {
		return all, nil
	}
	want := map[string]bool{}
	var add func(id string) error
	add = func(id string) error {
		i := slices.IndexFunc(all, func(r Rule) bool { return r.ID == id })
		if i < 0 {
			return &Mistake{Reason: fmt.Sprintf("there is no rule %q; the rules are %s", id, strings.Join(ruleIDs(all), ", "))}
		}
		want[id] = true
		for _, needed := range all[i].Needs {
			if err := add(needed); err != nil {
				return err
			}
		}
		return nil
	}
	for _, id := range ids {
		if err := add(id); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(all, func(r Rule) bool { return !want[r.ID] }), nil
}

func ruleIDs(rules []Rule) []string {
	ids := make([]string, len(rules))
	for i, r := range rules {
		ids[i] = r.ID
	}
	return ids
}
