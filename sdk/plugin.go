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
	Name    string // [a-z][a-z0-9-]*; the binary is rivergate-pusher-<name>
	Version string // semantic version
	Author  string
	Summary string // one line
	// NeedsTrigger asks the host to look up the trigger of each uuid and hand it along with the rows.
	NeedsTrigger bool
	// Instances says that one process may serve many instances: nothing in the program is shared between the values that
	// Pusher makes but what is safe to share, and none takes more than its part. The host may then run several instances of
	// this binary in one process; a crash ends all of them.
	Instances bool
	// Parallel is how many batches Deliver may be called for at once; 0 is 1: the next begins when the one before has ended. More
	// keep a destination busy that acknowledges late. See Pusher for what then holds.
	Parallel int
	// Pusher makes one value per instance, a pointer to a struct with config tags (see package settings).
	Pusher func() Pusher

	// Limits that the destination imposes; 0 leaves them to the host and the operator.
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
	if p.Pusher == nil {
		errs = append(errs, errors.New("Pusher is nil"))
	} else {
		pusher := p.Pusher()
		if v := reflect.ValueOf(pusher); v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
			errs = append(errs, fmt.Errorf("Pusher makes a %T, not a pointer to a struct", pusher))
		} else {
			schema, err := settings.Schema(pusher)
			if err != nil {
				errs = append(errs, err)
			}
			d.ConfigSchema = schema
		}
	}
	if err := errors.Join(errs...); err != nil {
		return protocol.Description{}, fmt.Errorf("plugin %q cannot be served: %w", p.Name, err)
	}
	return d, nil
}
