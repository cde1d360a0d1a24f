package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/sdk/settings"
)

// Masked lists every setting as it stands, secrets as ***. Of a plugin's own configuration only the host's own view is
// known here, so each value of it counts as a secret.
func (c *Config) Masked() ([]settings.Value, error) {
	values, err := settings.Masked(hostPrefix, &c.Host)
	if err != nil {
		return nil, err
	}
	for i := range c.Instances {
		in := &c.Instances[i]
		hosts, err := settings.Masked(in.Prefix, in)
		if err != nil {
			return nil, err
		}
		values = append(values, hosts...)
		for _, variable := range slices.Sorted(maps.Keys(in.Own)) {
			values = append(values, settings.Value{Variable: variable, Value: settings.Secret(in.Own[variable]).String()})
		}
	}
	for i := range values {
		values[i].Value = withoutPassword(values[i].Value)
	}
	return values, nil
}

// withoutPassword hides the password inside an address.
func withoutPassword(value string) string {
	if at, err := url.Parse(value); err == nil && at.User != nil {
		return at.Redacted()
	}
	return value
}

// Fields documents the host's variables and those that the host owns of each pusher.
func Fields() (host, pusher, storage []settings.Field, err error) {
	if host, err = settings.Fields(hostPrefix, Host{}); err != nil {
		return nil, nil, nil, err
	}
	if pusher, err = settings.Fields(pluginPrefix+"<NAME>_", Instance{}); err != nil {
		return nil, nil, nil, err
	}
	storage, err = settings.Fields(pluginPrefix+"STORAGE_<NAME>_", Backend{})
	return host, pusher, storage, err
}

// Table writes fields as a Markdown table.
func Table(fields []settings.Field) string {
	var b strings.Builder
	b.WriteString("| variable | type | default | what it is |\n|---|---|---|---|\n")
	for _, f := range fields {
		doc := f.Doc
		if len(f.Enum) > 0 {
			doc += " One of `" + strings.Join(f.Enum, "`, `") + "`."
		}
		if f.Example != "" {
			doc += " Example: `" + f.Example + "`."
		}
		standard := "`" + f.Default + "`"
		switch {
		case f.Required:
			standard = "required"
		case f.Default == "":
			standard = ""
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Variable, f.Type, standard, strings.ReplaceAll(doc, "|", `\|`))
	}
	return b.String()
}
