package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/schema"
)

func checkHandshake(ctx context.Context, s *suite) error {
	p, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	s.note = fmt.Sprintf("protocol %s over %s", p.line.version, p.line.network)
	if p.line.network == "tcp" {
		s.note += "; a host may start it again with PLUGIN_CLIENT_CERT and ask for mutual TLS, which is not checked here"
	}
	return nil
}

// checkStdout also delivers, so that whatever prints has an occasion.
func checkStdout(ctx context.Context, s *suite) error {
	p, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	if before, _ := p.stdout.noise(); before != "" {
		return fail(
			"the handshake line, and nothing before it", fmt.Sprintf("%q", before),
			"print to standard error, or nothing until the handshake line is written; in Go, importing the SDK does that for all but the package variables of packages that initialise before it",
		)
	}
	return nil
}

func checkVersion(ctx context.Context, s *suite) error {
	p, hello, err := s.meet(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	if len(hello.Versions) != 1 || fmt.Sprint(hello.Versions[0]) != p.line.version {
		return fail(
			fmt.Sprintf("protocol version %s, which the handshake line says", p.line.version), fmt.Sprint(hello.Versions),
			"answer Handshake with the version that was chosen at the start",
		)
	}
	s.version, s.hello = int(hello.Versions[0]), hello
	s.note = fmt.Sprintf("version %d of %v", s.version, s.offered)
	return nil
}

var (
	nameForm    = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	versionForm = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`)
	// go-plugin's variables begin with the first six, those of the kinds with the rest.
	reservedNames = []string{"client", "unix", "multiplex", "min", "max", "protocol", "pusher", "connector", "storage", "engine"}
)

func checkDescribe(ctx context.Context, s *suite) error {
	p, _, err := s.meet(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	first, err := s.describe(ctx, p)
	if err != nil {
		return err
	}
	other, _, err := s.meet(ctx)
	if err != nil {
		return err
	}
	defer s.end(other)
	for _, again := range []*process{p, other} {
		second, err := s.describe(ctx, again)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(first, second) {
			return fail("the same description each time and in every process", "two that differ", "describe the binary, and nothing that changes")
		}
	}
	switch {
	case !nameForm.MatchString(first.Name):
		return fail("a name of the form [a-z][a-z0-9-]*", fmt.Sprintf("%q", first.Name), "choose such a name; the binary is called rivergate-<kind>-<name>")
	case slices.Contains(reservedNames, first.Name):
		return fail("a name that is free", fmt.Sprintf("%q, which is reserved", first.Name), "choose another name")
	case !versionForm.MatchString(first.Version):
		return fail("a semantic version, such as 1.0.0", fmt.Sprintf("%q", first.Version), "say the version of this binary")
	case first.Kind != protocol.KindPusher && first.Kind != protocol.KindStorage:
		return fail("the kind pusher or storage", string(first.Kind), "say one of these kinds: this version of Rivergate runs no others")
	}
	s.desc = first
	return nil
}

func (s *suite) describe(ctx context.Context, p *process) (protocol.Description, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	d, err := p.client.Describe(ctx)
	if err != nil {
		return d, p.failed("Describe", err, "answer Describe at once, with a kind of the protocol: it needs no configuration and no network")
	}
	return d, nil
}

// checkSchema also makes the configuration of the rules that follow.
func checkSchema(_ context.Context, s *suite) error {
	const change = `give a JSON Schema such as {"type":"object","properties":{},"additionalProperties":false}`
	if err := schema.Check(s.desc.ConfigSchema); err != nil {
		return fail("a JSON Schema 2020-12", oneLine(err.Error()), change)
	}
	if len(schema.Validate(s.desc.ConfigSchema, "", json.RawMessage(`[]`))) == 0 {
		return fail("a schema of an object", "one that takes a list", change)
	}
	config, err := s.makeConfig()
	if err != nil {
		return err
	}
	s.config = config
	return nil
}

// checkUnknownFields sends what a later host may send.
func checkUnknownFields(ctx context.Context, s *suite) error {
	p, _, err := s.meet(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	ask := func(field []byte) ([]byte, error) {
		ctx, cancel := s.within(ctx)
		defer cancel()
		return p.invoke(ctx, "Describe", field)
	}
	known, err := ask(nil)
	if err != nil {
		return p.failed("Describe", err, "answer Describe")
	}
	const change = "ignore fields that are not known: generated protobuf code does, when nothing asks it not to"
	got, err := ask(textField(1000, "from the future"))
	if err != nil {
		return p.failed("Describe with a field that is not known", err, change)
	}
	// Equal descriptions may be encoded in more than one way.
	if len(got) != len(known) {
		return fail("the same answer with and without an unknown field", fmt.Sprintf("%d bytes instead of %d", len(got), len(known)), change)
	}
	return nil
}

func checkConfigure(ctx context.Context, s *suite) error {
	p, err := s.ready(ctx)
	if err != nil {
		return err
	}
	s.end(p)
	return nil
}

func checkBadConfiguration(ctx context.Context, s *suite) error {
	bad := s.badConfigurations()
	if len(bad) == 0 {
		return skipf("the schema permits any property of any type; additionalProperties false would let the host find misspelt names")
	}
	p, _, err := s.meet(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	for _, b := range bad {
		if err := s.refuses(ctx, p, b); err != nil {
			return err
		}
	}
	if err := s.configure(ctx, p, instance); err != nil {
		return during(err, "after configurations that were refused")
	}
	return nil
}

func (s *suite) refuses(ctx context.Context, p *process, b badConfiguration) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	problems, err := p.client.Configure(ctx, instance, b.config)
	const change = "check the configuration against the schema once more (not every host does), and answer Configure with a problem for each field that is wrong"
	if err != nil {
		return p.failed("Configure with "+b.what, err, change)
	}
	for _, problem := range problems {
		if problem.Field == b.field {
			return nil
		}
	}
	got := "no problem"
	if len(problems) > 0 {
		got = fmt.Sprintf("a problem of %q: %s", problems[0].Field, oneLine(problems[0].Reason))
	}
	return fail(fmt.Sprintf("a problem whose field is %q, for %s", b.field, b.what), got, change)
}

type badConfiguration struct {
	what, field string
	config      json.RawMessage
}

// badConfigurations are the good one with something wrong that the schema forbids.
func (s *suite) badConfigurations() []badConfiguration {
	var out []badConfiguration
	add := func(what, field string, value any) bool {
		var object map[string]any
		decoder := json.NewDecoder(bytes.NewReader(s.config))
		decoder.UseNumber()
		if decoder.Decode(&object) != nil {
			return false
		}
		object[field] = value
		config, err := json.Marshal(object)
		if err != nil || len(schema.Validate(s.desc.ConfigSchema, "", config)) == 0 {
			return false
		}
		out = append(out, badConfiguration{what, field, config})
		return true
	}
	add("a property that the schema does not know", "conformance_unknown_property", "x")
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(s.desc.ConfigSchema, &schema) != nil {
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		for _, value := range []any{[]any{map[string]any{}}, map[string]any{"a": []any{}}, true} {
			if add("a value of the wrong type", name, value) {
				return out
			}
		}
	}
	return out
}

// checkDeadlines leaves Drain and Deliver to their own rules.
func checkDeadlines(ctx context.Context, s *suite) error {
	p, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	const change = "answer within the deadline of the call, whatever the destination does; do not hold a lock while waiting for it"
	calls := []struct {
		name string
		call func(context.Context) error
	}{
		{"Describe", func(ctx context.Context) error { _, err := p.client.Describe(ctx); return err }},
		{"Health", func(ctx context.Context) error { return p.client.Health(ctx, instance) }},
	}
	ask := func(when string) error {
		for _, c := range calls {
			ctx, cancel := s.within(ctx)
			err := c.call(ctx)
			cancel()
			var unhealthy *protocol.Unhealthy
			if err != nil && !errors.As(err, &unhealthy) && !errors.Is(err, protocol.ErrUnknownInstance) {
				return p.failed(c.name+when, err, change)
			}
		}
		return nil
	}
	for range 3 {
		if err := ask(""); err != nil {
			return err
		}
	}
	for range 8 {
		for _, c := range calls {
			cancelled, cancel := context.WithCancel(ctx)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = c.call(cancelled) // answered or cancelled: both are right
			}()
			cancel()
			<-ended
		}
	}
	return ask(" after calls that were cancelled")
}

func checkHealth(ctx context.Context, s *suite) error {
	p, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	for range 2 {
		if err := s.healthy(ctx, p, instance); err != nil {
			return err
		}
	}
	return s.unknown(ctx, p, "conformance-unknown", "an instance that was never configured")
}

// healthy waits until the instance is: it may still be connecting.
func (s *suite) healthy(ctx context.Context, p *process, name string) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	var unhealthy *protocol.Unhealthy // its last word
	for {
		err := p.client.Health(ctx, name)
		switch {
		case err == nil:
			return nil
		case errors.As(err, &unhealthy):
		case unhealthy != nil && (ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)):
			// The time is over. The plugin's end of the call may notice that before this one.
		default:
			return p.failed("Health of a configured instance", err, "keep an instance until it is drained, and say whether it can do its work")
		}
		if ctx.Err() != nil || closedWithin(p.dead, pollTime) {
			return fail(
				fmt.Sprintf("an instance that is healthy within %s of Configure", s.opts.Timeout), "not healthy: "+oneLine(unhealthy.Reason),
				"give a configuration with which it can work, and say healthy when it does",
			)
		}
	}
}

// unknown demands that an instance is none, for Health and for what its kind does.
func (s *suite) unknown(ctx context.Context, p *process, name, what string) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	const change = "answer with the gRPC status NOT_FOUND for an instance that was not configured, or was drained"
	if err := p.client.Health(ctx, name); !errors.Is(err, protocol.ErrUnknownInstance) {
		return unknownFailure(p, "Health", what, err, change)
	}
	if s.kind() == protocol.KindStorage {
		if _, err := p.client.Stat(ctx, name, "conformance"); !errors.Is(err, protocol.ErrUnknownInstance) {
			return unknownFailure(p, "Stat", what, err, change)
		}
		return nil
	}
	raw, err := p.client.Deliver(ctx, name)
	if err == nil {
		_, err = raw.Recv()
	}
	if !errors.Is(err, protocol.ErrUnknownInstance) {
		return unknownFailure(p, "Deliver", what, err, change)
	}
	return nil
}

func unknownFailure(p *process, call, what string, err error, change string) error {
	expected := fmt.Sprintf("NOT_FOUND from %s of %s", call, what)
	var unhealthy *protocol.Unhealthy
	switch {
	case err == nil:
		return fail(expected, "an answer as for one that is there", change)
	case errors.As(err, &unhealthy):
		return fail(expected, "not healthy: "+oneLine(unhealthy.Reason), change)
	}
	failed := &failure{}
	if errors.As(p.failed(call, err, change), &failed) {
		failed.expected = expected
		return failed
	}
	return err
}
