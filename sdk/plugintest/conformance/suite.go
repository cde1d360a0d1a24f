package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/schema"
	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/sdk/wire"
)

// instance is the name of the instance that the rules configure.
const instance = "conformance"

// suite is one run of the rules: what earlier ones found out, for the later ones.
type suite struct {
	opts    Options
	offered []int // protocol versions, the newest first

	version int // of the handshake line
	hello   protocol.Hello
	desc    protocol.Description
	config  json.RawMessage

	verdicts map[string]Status
	brusque  bool   // a process did not end at SIGTERM: later ones are killed at once
	position uint64 // next free one
	rows     map[string]int
	note     string // remark of the rule that runs
}

func newSuite(opts Options) *suite {
	offered := slices.Sorted(maps.Keys(wire.VersionedPlugins(nil)))
	slices.Reverse(offered)
	return &suite{
		opts: opts, offered: offered, verdicts: map[string]Status{}, rows: map[string]int{},
		// Positions of two runs are not the same, so that a destination that knows rows by them does not know these.
		position: uint64(time.Now().UnixMicro()),
	}
}

func (s *suite) run(ctx context.Context, rules []Rule) (*Report, error) {
	report := &Report{Plugin: filepath.Base(s.opts.Path), Rows: s.rows}
	for _, rule := range rules {
		if rule.Kind != "" && rule.Kind != s.kind() {
			if slices.Contains(s.opts.Rules, rule.ID) {
				report.Results = append(report.Results, Result{Rule: rule.ID, Title: rule.Title, Status: Skipped, Detail: fmt.Sprintf("it is a rule for a %s", rule.Kind)})
			}
			continue
		}
		result, err := s.one(ctx, rule)
		if err != nil {
			return nil, err
		}
		s.verdicts[rule.ID] = result.Status
		report.Results = append(report.Results, result)
		if s.opts.Done != nil {
			s.opts.Done(result)
		}
	}
	if s.desc.Name != "" {
		report.Plugin = s.desc.Name
	}
	report.Version, report.SDK, report.Protocol = s.desc.Version, s.hello.Software, s.version
	return report, nil
}

// kind is that of the plugin; a pusher as long as it has not said it.
func (s *suite) kind() protocol.Kind {
	if s.desc.Kind == "" {
		return protocol.KindPusher
	}
	return s.desc.Kind
}

// one checks one rule. The error ends the run.
func (s *suite) one(ctx context.Context, rule Rule) (Result, error) {
	result := Result{Rule: rule.ID, Title: rule.Title, Status: Skipped}
	for _, needed := range rule.Needs {
		if v := s.verdicts[needed]; v != Pass {
			result.Detail = fmt.Sprintf("cannot be judged: rule %s failed or was not judged", needed)
			return result, nil
		}
	}
	if s.opts.Starting != nil {
		s.opts.Starting(rule)
	}
	s.note = ""
	began := time.Now()
	err := rule.check(ctx, s)
	result.Took = time.Since(began)
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	var mistake *Mistake
	var trouble *troubleError
	var failed *failure
	var skipped *skip
	switch {
	case err == nil:
		result.Status, result.Detail = Pass, s.note
	case errors.As(err, &mistake), errors.As(err, &trouble):
		return Result{}, err
	case errors.As(err, &skipped):
		result.Detail = skipped.why
	case errors.As(err, &failed):
		result.Status, result.Detail, result.Change = Fail, "The contract: "+rule.Contract+"\n"+failed.Error(), failed.change
	default:
		result.Status, result.Detail, result.Change = Fail, "The contract: "+rule.Contract+"\n"+err.Error(), "do as the contract says"
	}
	return result, nil
}

// within bounds one answer.
func (s *suite) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.opts.Timeout)
}

// meet starts a process and shakes hands with it.
func (s *suite) meet(ctx context.Context) (*process, protocol.Hello, error) {
	p, err := s.start(ctx)
	if err != nil {
		return nil, protocol.Hello{}, err
	}
	hello, err := s.greet(ctx, p)
	if err != nil {
		s.end(p)
		return nil, protocol.Hello{}, err
	}
	return p, hello, nil
}

func (s *suite) greet(ctx context.Context, p *process) (protocol.Hello, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	versions := make([]uint32, len(s.offered))
	for i, v := range s.offered {
		versions[i] = uint32(v)
	}
	hello, err := p.client.Handshake(ctx, protocol.Hello{
		Versions: versions, Limits: protocol.Limits{MaxBatchBytes: protocol.MaxMessage}, Software: "rivergate-conformance",
	})
	if err != nil {
		return hello, p.failed("Base.Handshake", err, "serve rivergate.plugin.v1.Base on the address of the handshake line, and answer Handshake with the protocol version")
	}
	return hello, nil
}

// ready is a process with the instance configured.
func (s *suite) ready(ctx context.Context) (*process, error) {
	p, _, err := s.meet(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.configure(ctx, p, instance); err != nil {
		s.end(p)
		return nil, err
	}
	return p, nil
}

func (s *suite) configure(ctx context.Context, p *process, name string) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	problems, err := p.client.Configure(ctx, name, s.config)
	if err != nil {
		return p.failed("Configure", err, "answer Configure, with problems when the instance cannot run; do in the background what takes longer")
	}
	if len(problems) > 0 {
		texts := make([]string, len(problems))
		for i, p := range problems {
			texts[i] = strings.TrimPrefix(p.Field+": "+oneLine(p.Reason), ": ")
		}
		return fail(
			"no problem with a configuration that fits the schema", strings.Join(texts, "; "),
			"give settings with which it can run, such as a destination that is there; or let the schema refuse what the plugin cannot take",
		)
	}
	return nil
}

// makeConfig is what the user gave, typed by the plugin's schema.
func (s *suite) makeConfig() (json.RawMessage, error) {
	name := s.desc.Name
	if kind := s.kind(); kind != protocol.KindPusher {
		name = string(kind) + "_" + name
	}
	prefix := "PLUGIN_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_"
	env := map[string]string{}
	for key, value := range s.opts.Settings {
		env[prefix+strings.TrimPrefix(settings.Variable("", key), prefix)] = value
	}
	text, problems := schema.FromText(s.desc.ConfigSchema, prefix, env)
	if len(problems) > 0 {
		return nil, &Mistake{Reason: "the settings do not fit the plugin's schema", Problems: problems}
	}
	object := map[string]any{}
	for name, value := range s.opts.Config {
		object[name] = value
	}
	var typed map[string]json.RawMessage
	if err := json.Unmarshal(text, &typed); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	for name, value := range typed {
		object[name] = value
	}
	config, err := json.Marshal(object)
	if err != nil {
		return nil, &Mistake{Reason: "the configuration is no JSON: " + err.Error()}
	}
	if problems := schema.Validate(s.desc.ConfigSchema, prefix, config); len(problems) > 0 {
		return nil, &Mistake{Reason: "the settings do not fit the plugin's schema", Problems: problems}
	}
	return config, nil
}

// rowCount says how many rows, for remarks.
func rowCount(n int) string {
	if n == 1 {
		return "1 row"
	}
	return strconv.Itoa(n) + " rows"
}
