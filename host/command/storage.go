package command

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func (c *cli) storageCommand() *cobra.Command {
	storage := group("storage", "Look after what the host keeps: reconcile, rotate-key",
		`Look after what the host keeps. Against a host that does not listen on loopback alone these commands need
RIVERGATE_INTERNAL_TOKEN.

`+exitCodesHelp,
		c.storageReconcileCommand(), c.storageRotateCommand())
	c.clientFlags(storage)
	return storage
}

// comparison is the answer of POST /internal/storage/reconcile.
type comparison struct {
	Exact   bool  `json:"exact"`
	Fixed   bool  `json:"fixed"`
	Orgs    int   `json:"organizations"`
	Files   int64 `json:"files"`
	Objects int64 `json:"objects"`
	Books   []struct {
		Org     uint64 `json:"organization_id"`
		What    string `json:"what"`
		Written int64  `json:"written"`
		Right   int64  `json:"right"`
	} `json:"books"`
	Orphans     foundObjects `json:"orphans"`
	Missing     foundObjects `json:"missing"`
	Sizes       foundObjects `json:"sizes"`
	StaleHolds  foundObjects `json:"stale_holds"`
	StaleGraves foundObjects `json:"stale_graves"`
}

type foundObjects struct {
	Count int64    `json:"count"`
	Bytes int64    `json:"bytes"`
	Keys  []string `json:"keys"`
}

// shownKeys is how many keys of a finding are printed.
const shownKeys = 10

func (c *cli) storageReconcileCommand() *cobra.Command {
	var fix bool
	cmd := &cobra.Command{
		Use: "reconcile", Short: "Compare the books with the files and with the backend",
		Long: `Compare what each organisation is said to use with its files, and the files with the objects of the backend. Uploads and
downloads go on meanwhile. Nothing found: exit code 0. With --fix, objects that belong to nothing are deleted, files that lost their
object are taken out, dead reservations are released, and the sums are written again.

` + exitCodesHelp,
		Example: "  rivergate storage reconcile\n  rivergate storage reconcile --fix",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			var found comparison
			if _, err := host.call(cmd.Context(), http.MethodPost, "/internal/storage/reconcile", nil, map[string]any{"fix": fix}, &found); err != nil {
				return err
			}
			if c.json {
				if err := c.printJSON(found); err != nil {
					return err
				}
			} else {
				c.printComparison(&found)
			}
			if !found.Exact && !found.Fixed {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "repair what is found")
	return cmd
}

func (c *cli) printComparison(found *comparison) {
	fmt.Fprintf(c.Stdout, "%s, %s, %s\n", some(int64(found.Orgs), "organisation"), some(found.Files, "file"), some(found.Objects, "object"))
	if found.Exact {
		fmt.Fprintln(c.Stdout, "Everything is exact.")
		return
	}
	for _, b := range found.Books {
		fmt.Fprintf(c.Stdout, "organisation %d: %s is written as %s, right is %s\n", b.Org, visible(b.What), count(b.Written), count(b.Right))
	}
	for _, kind := range []struct {
		what  string
		found foundObjects
	}{
		{"objects that belong to no file", found.Orphans},
		{"files without an object", found.Missing},
		{"files whose object has another size", found.Sizes},
		{"reservations of dead uploads", found.StaleHolds},
		{"deleted files whose object is still there", found.StaleGraves},
	} {
		if kind.found.Count == 0 {
			continue
		}
		fmt.Fprintf(c.Stdout, "%s: %s, %s\n", kind.what, count(kind.found.Count), size(kind.found.Bytes))
		for i, key := range kind.found.Keys {
			if i == shownKeys {
				fmt.Fprintf(c.Stdout, "  and %s more\n", count(kind.found.Count-shownKeys))
				break
			}
			fmt.Fprintf(c.Stdout, "  %s\n", visible(key))
		}
	}
	if found.Fixed {
		fmt.Fprintln(c.Stdout, "All of this is repaired now, but for sizes: those need a person.")
	} else {
		fmt.Fprintln(c.Stdout, "rivergate storage reconcile --fix repairs it.")
	}
}

func (c *cli) storageRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rotate-key", Short: "Wrap the organisations' keys with a new master key",
		Long: `Wrap the organisations' keys with a new master key. Files are not touched, and reading and writing go on.

A host that was given no master key makes a new one in its data folder. Otherwise set RIVERGATE_MASTER_KEY to the new one and
RIVERGATE_MASTER_KEY_PREVIOUS to the present one on every host that shares the database, restart them, run this once, and take
RIVERGATE_MASTER_KEY_PREVIOUS away. Until then either is enough, whatever is cut off where.

` + exitCodesHelp,
		Example: "  rivergate storage rotate-key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			var done struct {
				Former    string `json:"former"`
				Master    string `json:"master"`
				Rewrapped int64  `json:"rewrapped"`
			}
			if _, err := host.call(cmd.Context(), http.MethodPost, "/internal/storage/rotate-key", nil, nil, &done); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(done)
			}
			fmt.Fprintf(c.Stdout, "master key %s took the place of %s; it wraps %s\n", done.Master, done.Former, some(done.Rewrapped, "key"))
			return nil
		},
	}
}
