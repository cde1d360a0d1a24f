package command

import (
	"bytes"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/config"
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
		Short:  "Print every variable as a Markdown table",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			table, err := variablesTable()
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

func variablesTable() ([]byte, error) {
	host, pusher, err := config.Fields()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "The host:\n\n%s\n", config.Table(host))
	fmt.Fprintf(&b, "Every pusher, `<NAME>` being its name in capitals with `_` for `-`:\n\n%s", config.Table(pusher))
	return b.Bytes(), nil
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
