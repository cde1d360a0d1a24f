package sdk

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// Version is the version of this SDK.
const Version = "0.2.0"

// Plugin is a binary: what it is, and how to make an instance of what it does.
type Plugin struct {
	Name    string // [a-z][a-z0-9-]*; the binary is rivergate-<kind>-<name>
	Version string // semantic version
	Author  string
	Summary string // one line
	// NeedsTrigger asks the host to look up the trigger of each uuid and hand it along with the rows.
	NeedsTrigger bool
	// Instances says that one process may serve many instances: nothing in the program is shared between the values that
	// it makes but what is safe to share, and none takes more than its part. The host may then run several instances of
	// this binary in one process; a crash ends all of them.
	Instances bool
	// Parallel is how many batches Deliver may be called for at once; 0 is 1: the next begins when the one before has ended. More
	// keep a destination busy that acknowledges late. See Pusher for what then holds.
	Parallel int
	// Pusher or Storage, exactly one, says what kind of plugin it is. It makes one value per instance, a pointer to a struct with
	// config tags (see package settings).
	Pusher  func() Pusher
	Storage func() Storage

	// Of a pusher: limits that the destination imposes; 0 leaves them to the host and the operator.
	MaxBatchRows  int
	MaxBatchBytes int64
	Window        int // batches in flight
}

var (
	pluginName    = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	pluginVersion = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`)
	// go-plugin's own variables begin with the first six, and the kinds' with the rest.
	reservedNames = []string{
		"client", "unix", "multiplex", "min", "max", "protocol",
		string(protocol.KindPusher), string(protocol.KindConnector), string(protocol.KindStorage), string(protocol.KindEngine),
	}
)

// value makes the value of one instance.
func (p Plugin) value() any {
	if p.Storage != nil {
		return p.Storage()
	}
	return p.Pusher()
}

// describe checks p, all at once.
func (p Plugin) describe() (protocol.Description, error) {
	var errs []error
	if !pluginName.MatchString(p.Name) {
		errs = append(errs, fmt.Errorf("name %q is not of the form [a-z][a-z0-9-]*", p.Name))
	}
	if slices.Contains(reservedNames, p.Name) {
		errs = append(errs, fmt.Errorf("name %q is reserved", p.Name))
	}
	if !pluginVersion.MatchString(p.Version) {
		errs = append(errs, fmt.Errorf("version %q is not a semantic version such as 1.0.0", p.Version))
	}
	if p.MaxBatchRows < 0 || p.MaxBatchRows > math.MaxInt32 || p.MaxBatchBytes < 0 || p.Window < 0 || p.Parallel < 0 {
		errs = append(errs, errors.New("a limit is out of range"))
	}
	d := protocol.Description{
		Name: p.Name, Version: p.Version, Kind: protocol.KindPusher, Author: p.Author, Summary: p.Summary, NeedsTrigger: p.NeedsTrigger,
	}
	switch {
	case p.Storage != nil:
		d.Kind = protocol.KindStorage
		if p.NeedsTrigger || p.Parallel != 0 || p.MaxBatchRows != 0 || p.MaxBatchBytes != 0 || p.Window != 0 {
			errs = append(errs, errors.New("NeedsTrigger, Parallel and limits of batches are for a Pusher"))
		}
		fallthrough
	case p.Pusher != nil:
		if p.Pusher != nil && p.Storage != nil {
			errs = append(errs, errors.New("both Pusher and Storage are set: a binary is of one kind"))
		}
		value := p.value()
		if v := reflect.ValueOf(value); v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
			errs = append(errs, fmt.Errorf("a %s is made as a %T, not a pointer to a struct", d.Kind, value))
		} else {
			schema, err := settings.Schema(value)
			if err != nil {
				errs = append(errs, err)
			}
			d.ConfigSchema = schema
		}
	default:
		errs = append(errs, errors.New("neither Pusher nor Storage is set"))
	}
	if err := errors.Join(errs...); err != nil {
		return protocol.Description{}, fmt.Errorf("plugin %q cannot be served: %w", p.Name, err)
	}
	return d, nil
}
