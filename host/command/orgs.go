package command

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/sdk/settings"
)

const orgsPath = "/internal/orgs"

// orgQuota is an org of GET /internal/orgs.
type orgQuota struct {
	Org      uint64 `json:"organization_id"`
	Limit    int64  `json:"limit_bytes"`
	Own      bool   `json:"own_limit"`
	Used     int64  `json:"used_bytes"`
	Reserved int64  `json:"reserved_bytes"`
}

func (q *orgQuota) limit() string {
	text := "unlimited"
	if q.Limit >= 0 {
		text = size(q.Limit)
	}
	if !q.Own {
		text += " (default)"
	}
	return text
}

func (c *cli) orgsCommand() *cobra.Command {
	orgs := group("orgs", "Organisations: what they keep, what they may, and their keys",
		`Organisations that keep files, and their quotas. Against a host that does not listen on loopback alone these commands need
RIVERGATE_INTERNAL_TOKEN.

`+exitCodesHelp,
		c.orgsListCommand(), c.orgsSetQuotaCommand(), c.orgsNewKeyCommand(), c.orgsDeleteKeyCommand())
	c.clientFlags(orgs)
	return orgs
}

func (c *cli) orgsListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List organisations with what they keep", Args: cobra.NoArgs,
		Example: "  rivergate orgs ls",
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			all := []orgQuota{}
			for query := (url.Values{"limit": {"1000"}}); ; {
				var page struct {
					Items      []orgQuota `json:"items"`
					NextCursor string     `json:"next_cursor"`
				}
				if _, err := host.call(cmd.Context(), http.MethodGet, orgsPath, query, nil, &page); err != nil {
					return err
				}
				all = append(all, page.Items...)
				if page.NextCursor == "" {
					break
				}
				query.Set("cursor", page.NextCursor)
			}
			if c.json {
				return c.printJSON(all)
			}
			if len(all) == 0 {
				fmt.Fprintln(c.Stdout, "No organisation keeps anything yet.")
				return nil
			}
			rows := make([][]cell, len(all))
			for i, q := range all {
				rows[i] = []cell{number(strconv.FormatUint(q.Org, 10)), number(size(q.Used)), number(size(q.Reserved)), number(q.limit())}
			}
			c.table([]string{"ORG", "USED", "RESERVED", "LIMIT"}, rows)
			return nil
		},
	}
}

func (c *cli) orgsSetQuotaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set-quota ORG SIZE", Short: "Set what an organisation may keep",
		Long: `Set what an organisation may keep: a size such as 50GiB, unlimited, or default for RIVERGATE_STORAGE_QUOTA of the host.
A quota below what it keeps already removes nothing; it can only add again when there is room.

` + exitCodesHelp,
		Example: "  rivergate orgs set-quota 7 50GiB\n  rivergate orgs set-quota 7 default",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			org, err := orgArgument(args[0])
			if err != nil {
				return err
			}
			body := map[string]any{"limit_bytes": nil}
			switch args[1] {
			case "default":
			case "unlimited":
				body["limit_bytes"] = -1
			default:
				bytes, err := settings.ParseBytes(args[1])
				if err != nil {
					return mistake("%q is no size such as 50GiB: %v", args[1], err)
				}
				body["limit_bytes"] = int64(bytes)
			}
			host, err := c.client()
			if err != nil {
				return err
			}
			var q orgQuota
			if _, err := host.call(cmd.Context(), http.MethodPut, orgsPath+"/"+args[0]+"/quota", nil, body, &q); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(q)
			}
			fmt.Fprintf(c.Stdout, "organisation %d may keep %s; it keeps %s\n", org, q.limit(), size(q.Used+q.Reserved))
			return nil
		},
	}
}

func orgArgument(text string) (uint64, error) {
	org, err := strconv.ParseUint(text, 10, 53)
	if err != nil || org == 0 {
		return 0, mistake("%q is no organisation: a number above 0", text)
	}
	return org, nil
}

func (c *cli) orgsNewKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "new-key ORG", Short: "Encrypt what an organisation stores from now on with a new key", Args: cobra.ExactArgs(1),
		Example: "  rivergate orgs new-key 7",
		RunE: func(cmd *cobra.Command, args []string) error {
			org, err := orgArgument(args[0])
			if err != nil {
				return err
			}
			host, err := c.client()
			if err != nil {
				return err
			}
			var made struct {
				Org   uint64 `json:"organization_id"`
				KeyID string `json:"key_id"`
			}
			if _, err := host.call(cmd.Context(), http.MethodPost, fmt.Sprintf("%s/%d/key", orgsPath, org), nil, nil, &made); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(made)
			}
			fmt.Fprintf(c.Stdout, "organisation %d has key %s; what it has stored can be read as before\n", org, made.KeyID)
			return nil
		},
	}
}

func (c *cli) orgsDeleteKeyCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete-key ORG", Short: "Make everything that an organisation stores unreadable, for ever",
		Long: `Make everything that an organisation stores unreadable, for ever: its keys are deleted. Other hosts notice within seconds. The
files stay in the books, and count, until they are deleted. Copies of the database that were made before still have the keys, wrapped by
the master key of that time: rotate that one and destroy it to make them useless, too.

` + exitCodesHelp,
		Example: "  rivergate orgs delete-key 7 --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			org, err := orgArgument(args[0])
			if err != nil {
				return err
			}
			if !yes {
				return mistake("nobody could ever read the files of organisation %d again; --yes says that this is meant", org)
			}
			host, err := c.client()
			if err != nil {
				return err
			}
			var done struct {
				Org     uint64 `json:"organization_id"`
				Deleted int64  `json:"keys_deleted"`
			}
			if _, err := host.call(cmd.Context(), http.MethodDelete, fmt.Sprintf("%s/%d/key", orgsPath, org), nil, nil, &done); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(done)
			}
			fmt.Fprintf(c.Stdout, "organisation %d: %s deleted\n", org, some(done.Deleted, "key"))
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, for ever")
	return cmd
}
