package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/settings"
)

func TestTheReadmeListsEverySetting(t *testing.T) {
	fields, err := settings.Fields("PLUGIN_HTTP_", HTTP{})
	require.NoError(t, err)
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
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), table.String())
}
