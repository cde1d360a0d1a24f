package pluginhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/schema"
	"github.com/rivergate/rivergate/sdk/settings"
)

var pinForm = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// check finds what is wrong with an instance before anything is started.
func (in Instance) check() []settings.Problem {
	var problems []settings.Problem
	if err := CheckName(in.bareName()); err != nil {
		problems = append(problems, settings.Problem{Variable: in.enabling(), Reason: err.Error()})
	}
	if err := CheckName(in.Plugin); err != nil && in.Plugin != in.bareName() {
		problems = append(problems, settings.Problem{Variable: in.Prefix + "USE", Reason: err.Error()})
	}
	if in.Kind != protocol.KindPusher && in.Kind != protocol.KindStorage {
		problems = append(problems, settings.Problem{Variable: in.enabling(), Reason: fmt.Sprintf("plugins of the kind %q cannot be run by this version of Rivergate", in.Kind)})
	}
	if in.Name != InstanceName(in.Kind, in.bareName()) {
		problems = append(problems, settings.Problem{Variable: in.enabling(), Reason: fmt.Sprintf("the instance is called %q, and not %q", in.Name, InstanceName(in.Kind, in.bareName()))})
	}
	if in.SHA256 != "" && !pinForm.MatchString(in.SHA256) {
		problems = append(problems, settings.Problem{Variable: in.Prefix + "SHA256", Reason: "must be a SHA-256 of 64 hexadecimal digits"})
	}
	for _, name := range in.PassEnv {
		if err := checkPassEnv(name); err != nil {
			problems = append(problems, settings.Problem{Variable: in.Prefix + "PASS_ENV", Reason: err.Error()})
		}
	}
	return append(problems, in.checkLimits()...)
}

// checkDoubles finds names that are given twice, also such as differ by "-" and "_" only: their variables are the same.
func checkDoubles(list []Instance) []settings.Problem {
	var problems []settings.Problem
	seen := map[string]bool{}
	for _, in := range list {
		in = in.withDefaults()
		if seen[in.Prefix] {
			problems = append(problems, settings.Problem{Variable: in.enabling(), Reason: fmt.Sprintf("two instances are called %q", in.Name)})
		}
		seen[in.Prefix] = true
	}
	return problems
}

// config makes the object that Configure takes out of the instance's variables, by the plugin's own schema. A schema that
// is none is the plugin's fault, and no problem of the operator's.
func (in Instance) config(declared json.RawMessage) (json.RawMessage, error) {
	if err := schema.Check(declared); err != nil {
		return nil, fmt.Errorf("the plugin's configuration schema is broken: %w", err)
	}
	config, problems := schema.Read(declared, in.Prefix, in.Vars, schema.Leave(in.HostVars...))
	if len(problems) > 0 {
		return nil, &invalidError{problems: problems}
	}
	return config, nil
}

// variableProblems is what is wrong with the variables by the plugin's schema. A broken schema is none of the operator's.
func (in Instance) variableProblems(declared json.RawMessage) []settings.Problem {
	_, err := in.config(declared)
	var invalid *invalidError
	if errors.As(err, &invalid) {
		return invalid.problems
	}
	return nil
}

// equal tells whether nothing of the instance has changed.
func (in Instance) equal(other Instance) bool {
	return in.Name == other.Name && in.Plugin == other.Plugin && in.Kind == other.Kind && in.SHA256 == other.SHA256 &&
		in.Prefix == other.Prefix && in.Limits == other.Limits && in.RunAs == other.RunAs && in.Shared == other.Shared && in.OnDemand == other.OnDemand &&
		slices.Equal(in.PassEnv, other.PassEnv) && slices.Equal(in.HostVars, other.HostVars) && maps.Equal(in.Vars, other.Vars)
}

// check finds what is wrong with an instance before anything is started, also with where it is attached.
func (h *Host) check(in Instance) []settings.Problem {
	problems := in.check()
	if at, ok := h.opts.Attach[in.Name]; ok {
		problems = append(problems, checkAttach(in.Name, at)...)
	}
	return problems
}

// startProblems is why an instance cannot run, as problems of its variables.
func (in Instance) startProblems(err error) []settings.Problem {
	if errors.Is(err, errNoTriggers) {
		return []settings.Problem{{Variable: controlTower, Reason: fmt.Sprintf("is not set, and pusher %s: %v", in.Name, err)}}
	}
	variable := in.enabling()
	var invalid *invalidError
	var wrong *hashError
	var missing *missingError
	switch {
	case errors.As(err, &invalid):
		return invalid.problems
	case errors.As(err, &wrong):
		variable = in.Prefix + "SHA256"
	case errors.As(err, &missing) && in.Plugin != in.bareName():
		variable = in.Prefix + "USE"
	}
	return []settings.Problem{{Variable: variable, Reason: "plugin " + in.Plugin + ": " + err.Error()}}
}

// configured tells whether an error is the operator's to mend: it keeps the host from serving at all.
func configured(err error) bool {
	var invalid *invalidError
	var missing *missingError
	return errors.As(err, &invalid) || errors.As(err, &missing) || errors.Is(err, errNoTriggers)
}

// controlTower is the variable that says where triggers are looked up.
const controlTower = "RIVERGATE_CONTROL_TOWER_URL"

var errNoTriggers = errors.New("the plugin needs the trigger of each row: set " + controlTower + " to the address of the control tower and start the host again")

// invalidError: the variables do not fit the plugin's schema.
type invalidError struct{ problems []settings.Problem }

func (e *invalidError) Error() string {
	p := e.problems[0]
	text := p.Variable + ": " + p.Reason
	if more := len(e.problems) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// problemsError is what only the plugin could find out about its configuration.
type problemsError struct {
	prefix   string
	problems []protocol.ConfigProblem
}

func (e *problemsError) Error() string {
	var texts []string
	for i, p := range e.problems {
		if i == maxProblems {
			texts = append(texts, fmt.Sprintf("and %d more", len(e.problems)-i))
			break
		}
		text := quotable(p.Reason)
		if p.Field != "" {
			text = settings.Variable(e.prefix, quotable(p.Field)) + ": " + text
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}
