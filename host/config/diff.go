package config

import (
	"reflect"
	"slices"
	"strings"
)

// clientOnly are variables of the host's struct that a serving host does not look at.
var clientOnly = []string{hostPrefix + "URL"}

// Difference is what another configuration changes.
type Difference struct {
	Restart                 []string // variables of the host that have another value; they count after a restart
	Added, Removed, Changed []string // instances, by name
}

// Diff compares two configurations that Load found valid.
func Diff(before, after *Config) Difference {
	var d Difference
	old, now := reflect.ValueOf(before.Host), reflect.ValueOf(after.Host)
	for i := range old.NumField() {
		tag := old.Type().Field(i).Tag.Get("config")
		variable := hostPrefix + strings.ToUpper(tag)
		if tag == "-" || slices.Contains(clientOnly, variable) {
			continue
		}
		if !reflect.DeepEqual(old.Field(i).Interface(), now.Field(i).Interface()) {
			d.Restart = append(d.Restart, variable)
		}
	}
	if before.TracesURL == after.TracesURL && before.TracesEndpoint != after.TracesEndpoint {
		d.Restart = append(d.Restart, otelAll)
	}
	slices.Sort(d.Restart)
	for i := range after.Instances {
		in := &after.Instances[i]
		switch was := before.Instance(in.Name); {
		case was == nil:
			d.Added = append(d.Added, in.Name)
		case !reflect.DeepEqual(*was, *in):
			d.Changed = append(d.Changed, in.Name)
		}
	}
	for i := range before.Instances {
		if name := before.Instances[i].Name; after.Instance(name) == nil {
			d.Removed = append(d.Removed, name)
		}
	}
	return d
}

// Instance is the enabled instance of this name, or nil.
func (c *Config) Instance(name string) *Instance {
	for i := range c.Instances {
		if c.Instances[i].Name == name {
			return &c.Instances[i]
		}
	}
	return nil
}
