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

// prefix begins the variables of the plugin's own instance.
func prefix(d protocol.Description) string {
	name := d.Name
	if d.Kind != protocol.KindPusher {
		name = string(d.Kind) + "_" + name
	}
	return "PLUGIN_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_"
}

// enabling is the variable that has a host use the plugin.
func enabling(d protocol.Description) string {
	if d.Kind == protocol.KindStorage {
		return "RIVERGATE_STORAGE=" + d.Name
	}
	return prefix(d) + "ENABLED=true"
}

// instanceName is how a host names the plugin's own instance.
func instanceName(d protocol.Description) string {
	if d.Kind == protocol.KindPusher {
		return d.Name
	}
	return string(d.Kind) + "-" + d.Name
}

func explain(p Plugin, d protocol.Description, w io.Writer) {
	try := ""
	if d.Kind == protocol.KindPusher {
		try = fmt.Sprintf("To try it out:   rivergate plugin run rivergate-%s-%s    send rows from a terminal and see what becomes of them\n", d.Kind, d.Name)
	}
	fmt.Fprintf(w, `rivergate-%[1]s-%[2]s %[3]s: %[4]s

This is a plugin of Rivergate. A host starts it: put the binary into the host's plugin folder
(RIVERGATE_PLUGIN_DIR, bin/plugins) under the name rivergate-%[1]s-%[2]s, set %[5]s
and start the host with rivergate serve.

  --version         print the version
  --describe        print what the plugin is and the JSON Schema of its configuration, as JSON
  --listen ADDRESS  serve at 127.0.0.1:7000 or unix:/path until SIGINT or SIGTERM, for a host that is told
                    RIVERGATE_PLUGIN_ATTACH=%[6]s=ADDRESS: so it can run under a debugger
  --help            print this

%[7]sTo check it:     rivergate conformance rivergate-%[1]s-%[2]s   every rule of the plugin contract
Its log goes to standard error; RIVERGATE_LOG_LEVEL (debug) is the lowest level with --listen, else the host says it.
`, d.Kind, d.Name, d.Version, d.Summary, enabling(d), instanceName(d), try)
	fields, err := settings.Fields(prefix(d), p.value())
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
