package plugintest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rivergate/rivergate/sdk/settings"
)

// SettingsTable is the Markdown table of a plugin's settings, one line each, under the variables with this prefix
// ("PLUGIN_ACME_").
func SettingsTable(prefix string, config any) (string, error) {
	fields, err := settings.Fields(prefix, config)
	if err != nil {
		return "", err
	}
	var table strings.Builder
	for _, f := range fields {
		value := ""
		switch {
		case f.Required:
			value = "required"
		case f.Default != "":
			value = "`" + f.Default + "`"
		}
		doc := f.Doc
		if len(f.Enum) > 0 {
			doc = "One of `" + strings.Join(f.Enum, "`, `") + "`. " + doc
		}
		if f.Example != "" {
			doc += " Example: `" + f.Example + "`."
		}
		if f.Secret {
			doc += " Secret."
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", f.Variable, value, doc)
	}
	return table.String(), nil
}

// RequireSettings fails the test unless the README at path holds the table of a plugin's settings. config is the plugin's
// struct, prefix that of its variables.
func RequireSettings(t testing.TB, path, prefix string, config any) {
	t.Helper()
	table, err := SettingsTable(prefix, config)
	if err != nil {
		t.Fatalf("plugintest: %v", err)
	}
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("plugintest: %v", err)
	}
	if !strings.Contains(string(readme), table) {
		t.Errorf("%s does not hold the table of the settings:\n%s", path, table)
	}
}
