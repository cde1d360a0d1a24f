package sdk

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// byHand answers a person who started the binary.
func byHand(p Plugin, d protocol.Description, args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 {
		switch args[0] {
		case "--version", "-version", "version":
			fmt.Fprintf(stdout, "rivergate-%s-%s %s (sdk %s, protocol %s)\n", d.Kind, d.Name, d.Version, Version, versions())
			return 0
		case "--describe", "-describe":
			enc := json.NewEncoder(stdout)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(map[string]any{
				"name": d.Name, "version": d.Version, "kind": d.Kind, "author": d.Author, "summary": d.Summary,
				"needs_trigger": d.NeedsTrigger, "protocol_versions": protocol.Versions(), "sdk": "rivergate-sdk-go/" + Version,
				"config_schema": d.ConfigSchema,
			}); err != nil {
				fmt.Fprintln(stderr, err)
				return 1
			}
			return 0
		case "--help", "-help", "-h", "help":
			explain(p, d, stdout)
			return 0
		}
	}
	explain(p, d, stderr)
	return 1
}

// versions is the list of protocol versions for a person: 2, 1.
func versions() string {
	var words []string
	for _, v := range protocol.Versions() {
		words = append(words, strconv.FormatUint(uint64(v), 10))
	}
	return strings.Join(words, ", ")
}

func explain(p Plugin, d protocol.Description, w io.Writer) {
	prefix := "PLUGIN_" + strings.ToUpper(strings.ReplaceAll(d.Name, "-", "_")) + "_"
	fmt.Fprintf(w, `rivergate-%[1]s-%[2]s %[3]s: %[4]s

This is a plugin of Rivergate. It is not started by hand: put the binary into the host's plugin folder
(RIVERGATE_PLUGIN_DIR, bin/plugins) under the name rivergate-%[1]s-%[2]s, set %[5]sENABLED=true
and start the host.

  --version   print the version
  --describe  print what the plugin is and the JSON Schema of its configuration
`, d.Kind, d.Name, d.Version, d.Summary, prefix)
	fields, err := settings.Fields(prefix, p.Pusher())
	if err != nil || len(fields) == 0 {
		return
	}
	fmt.Fprintln(w, "\nVariables:")
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		about := f.Doc
		if f.Required {
			about += " Required."
		}
		if f.Default != "" {
			about += " Default: " + f.Default + "."
		}
		fmt.Fprintf(tab, "  %s\t%s\t%s\n", f.Variable, f.Type, about)
	}
	_ = tab.Flush()
}
