package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// The generated part of README.md lies between these lines.
const (
	tableBegin = "<!-- variables: written by `make docs`, checked by a test -->\n"
	tableEnd   = "<!-- end of variables -->\n"
)

// configTableCommand is for the README: the variables as Markdown, from the code that reads them.
func (c *cli) configTableCommand() *cobra.Command {
	var write string
	cmd := &cobra.Command{
		Use:    "config-table",
		Short:  "Print every variable as a Markdown table; those of the plugins come from their binaries",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _ := config.Load(c.Environ)
			table, err := variablesTable(cmd.Context(), cfg.PluginDir)
			if err != nil {
				return err
			}
			if write == "" {
				_, err := c.Stdout.Write(table)
				return err
			}
			document, err := os.ReadFile(write)
			if err != nil {
				return err
			}
			if document, err = replaceTable(document, table); err != nil {
				return fmt.Errorf("%s: %w", write, err)
			}
			return os.WriteFile(write, document, 0o644)
		},
	}
	cmd.Flags().StringVar(&write, "write", "", "put it into this file, between its two marks")
	return cmd
}

// variablesTable is the tables of the host, of every pusher and storage, and of each plugin in dir.
func variablesTable(ctx context.Context, dir string) ([]byte, error) {
	host, pusher, storage, err := config.Fields()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "The host:\n\n%s\n", config.Table(host))
	fmt.Fprintf(&b, "Every pusher, `<NAME>` being its name in capitals with `_` for `-`:\n\n%s", config.Table(pusher))
	if err := pluginTables(ctx, &b, dir, protocol.KindPusher); err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "\nThe storage that `RIVERGATE_STORAGE` names:\n\n%s", config.Table(storage))
	if err := pluginTables(ctx, &b, dir, protocol.KindStorage); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// pluginTables writes the table of each plugin of a kind in dir.
func pluginTables(ctx context.Context, b *bytes.Buffer, dir string, kind protocol.Kind) error {
	binaries, err := filepath.Glob(filepath.Join(dir, pluginhost.BinaryName(kind, "*")))
	if err != nil {
		return err
	}
	slices.Sort(binaries)
	for _, path := range binaries {
		d, err := describe(ctx, path)
		if err != nil {
			return err
		}
		fields, err := schemaFields(pluginhost.VariablePrefix(kind, d.Name), d.ConfigSchema)
		if err != nil {
			return fmt.Errorf("schema of %s: %w", path, err)
		}
		fmt.Fprintf(b, "\nThe %s `%s`:\n\n%s", kind, d.Name, config.Table(fields))
	}
	return nil
}

type description struct {
	Name         string          `json:"name"`
	ConfigSchema json.RawMessage `json:"config_schema"`
}

// describe asks a binary of ours what it is, as a person would.
func describe(ctx context.Context, path string) (d description, err error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return d, err
	}
	out, err := exec.CommandContext(ctx, absolute, "--describe").Output()
	if err != nil {
		return d, fmt.Errorf("%s --describe: %w", path, err)
	}
	if err := json.Unmarshal(out, &d); err != nil {
		return d, fmt.Errorf("%s --describe: %w", path, err)
	}
	return d, nil
}

// schemaFields reads the settings out of a schema as package settings makes it, in their order.
func schemaFields(prefix string, schema []byte) ([]settings.Field, error) {
	var top struct {
		Properties json.RawMessage `json:"properties"`
		Required   []string        `json:"required"`
	}
	if err := json.Unmarshal(schema, &top); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(top.Properties))
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	var fields []settings.Field
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var p struct {
			Type        any    `json:"type"`
			Description string `json:"description"`
			Default     any    `json:"default"`
			Enum        []string
			Examples    []any  `json:"examples"`
			WriteOnly   bool   `json:"writeOnly"`
			Unit        string `json:"x-unit"`
		}
		if err := decoder.Decode(&p); err != nil {
			return nil, err
		}
		f := settings.Field{
			Property: name.(string), Variable: settings.Variable(prefix, name.(string)), Doc: p.Description, Enum: p.Enum,
			Required: slices.Contains(top.Required, name.(string)), Secret: p.WriteOnly, Type: fmt.Sprint(p.Type),
		}
		switch {
		case p.WriteOnly:
			f.Type = "secret"
		case p.Unit == "bytes":
			f.Type = "size"
		case p.Unit != "":
			f.Type = p.Unit
		case p.Type == "array":
			f.Type = "list"
		case p.Type == "object":
			f.Type = "map"
		case p.Type == "boolean":
			f.Type = "bool"
		}
		f.Default = plainText(p.Default)
		if len(p.Examples) > 0 {
			f.Example = plainText(p.Examples[0])
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// plainText writes a JSON value as a variable would hold it.
func plainText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = plainText(item)
		}
		return strings.Join(items, ",")
	default:
		return fmt.Sprint(v)
	}
}

// replaceTable puts table between the marks of a document.
func replaceTable(document, table []byte) ([]byte, error) {
	before, rest, found := bytes.Cut(document, []byte(tableBegin))
	_, after, closed := bytes.Cut(rest, []byte(tableEnd))
	if !found || !closed {
		return nil, fmt.Errorf("has no place for the table: %q and %q", tableBegin, tableEnd)
	}
	return bytes.Join([][]byte{before, []byte(tableBegin), []byte("\n"), table, []byte("\n"), []byte(tableEnd), after}, nil), nil
}
