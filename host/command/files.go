package command

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

const (
	filesPath   = "/api/v1/storage/files"
	objectsPath = "/api/v1/storage/objects/"
	usagePath   = "/api/v1/storage/usage"
)

// storedFile is an item of GET /api/v1/storage/files.
type storedFile struct {
	ID          int64     `json:"storage_file_id"`
	FileName    string    `json:"file_name"`
	ObjectName  string    `json:"object_name"`
	SizeBytes   int64     `json:"size_bytes"`
	ContentType string    `json:"content_type"`
	Category    string    `json:"file_category"`
	UploadedAt  time.Time `json:"uploaded_at"`
}

func (c *cli) filesCommand() *cobra.Command {
	files := group("files", "Files that the host keeps: put, get, list, remove, URLs",
		`Files that the host keeps for an organisation and a user (--org, --user). An object name is what put prints and ls lists.

`+exitCodesHelp,
		c.filesPutCommand(), c.filesGetCommand(), c.filesListCommand(), c.filesRemoveCommand(), c.filesURLCommand(), c.filesUsageCommand())
	c.clientFlags(files)
	files.PersistentFlags().Uint64Var(&c.user, "user", 0, "user to act for (default: none)")
	return files
}

// objectPath is the address of an object below objectsPath: each of its segments escaped, the slashes kept.
func objectPath(object string) string {
	at := url.URL{Path: object}
	return objectsPath + at.EscapedPath()
}

func (c *cli) filesListCommand() *cobra.Command {
	var category string
	var page, pageSize int
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List files, newest first",
		Example: "  rivergate files ls\n  rivergate files ls --category profile_image --page 2",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"page": {strconv.Itoa(page)}, "page_size": {strconv.Itoa(pageSize)}}
			if category != "" {
				query.Set("file_category", category)
			}
			return c.listFiles(cmd, query)
		},
	}
	cmd.Flags().StringVar(&category, "category", "", "only data_source, profile_image or general")
	cmd.Flags().IntVar(&page, "page", 1, "which page")
	cmd.Flags().IntVar(&pageSize, "page-size", 20, "files on a page, at most 100")
	return cmd
}

func (c *cli) listFiles(cmd *cobra.Command, query url.Values) error {
	host, err := c.client()
	if err != nil {
		return err
	}
	if c.json {
		return c.passJSON(cmd, host, filesPath, query)
	}
	var list struct {
		Items      []storedFile `json:"items"`
		Pagination struct {
			Page       int   `json:"page"`
			TotalPages int64 `json:"total_pages"`
			TotalCount int64 `json:"total_count"`
			HasNext    bool  `json:"has_next"`
		} `json:"pagination"`
	}
	if _, err := host.call(cmd.Context(), http.MethodGet, filesPath, query, nil, &list); err != nil {
		return err
	}
	if len(list.Items) == 0 {
		fmt.Fprintln(c.Stdout, "No files. rivergate files put FILE uploads one.")
		return nil
	}
	rows := make([][]cell, len(list.Items))
	for i, f := range list.Items {
		rows[i] = []cell{
			number(strconv.FormatInt(f.ID, 10)), number(size(f.SizeBytes)), text(f.UploadedAt.UTC().Format(time.RFC3339)),
			text(f.Category), text(f.ContentType), text(f.ObjectName),
		}
	}
	c.table([]string{"ID", "SIZE", "UPLOADED", "CATEGORY", "TYPE", "OBJECT"}, rows)
	if p := list.Pagination; p.HasNext {
		fmt.Fprintf(c.Stdout, "\nPage %d of %d, %s. More: --page %d\n", p.Page, p.TotalPages, some(p.TotalCount, "file"), p.Page+1)
	}
	return nil
}

func (c *cli) filesRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm OBJECT…", Aliases: []string{"delete"}, Short: "Remove files; their bytes go back to the quota",
		Example: "  rivergate files rm organizations/1/files/0/results_20260131_120000_9f86d081.csv",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, objects []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			var failed []error
			for _, object := range objects {
				if _, err := host.call(cmd.Context(), http.MethodDelete, objectPath(object), nil, nil, nil); err != nil {
					failed = append(failed, fmt.Errorf("%s: %w", object, err))
					if cmd.Context().Err() != nil {
						break
					}
					continue
				}
				fmt.Fprintf(c.Stdout, "removed %s\n", visible(object))
			}
			return errors.Join(failed...)
		},
	}
}

func (c *cli) filesURLCommand() *cobra.Command {
	var expires time.Duration
	var method string
	cmd := &cobra.Command{
		Use: "url OBJECT", Short: "Print a URL with which anybody can read (or write) the file for some time",
		Example: "  curl -O \"$(rivergate files url organizations/1/files/0/results_20260131_120000_9f86d081.csv)\"\n" +
			"  rivergate files url --expires 168h OBJECT",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seconds := int64(expires / time.Second)
			if seconds < 1 {
				return mistake("--expires is at least 1s")
			}
			host, err := c.client()
			if err != nil {
				return err
			}
			query := url.Values{"expires_seconds": {strconv.FormatInt(seconds, 10)}, "method": {method}}
			var answer struct {
				URL       string `json:"url"`
				ExpiresIn int64  `json:"expires_in_seconds"`
			}
			if _, err := host.call(cmd.Context(), http.MethodGet, objectPath(args[0])+"/presigned-url", query, nil, &answer); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(answer)
			}
			fmt.Fprintln(c.Stdout, answer.URL)
			if answer.ExpiresIn < seconds {
				fmt.Fprintf(c.Stderr, "rivergate: it ends after %v: no URL outlives the credential that signed it\n", time.Duration(answer.ExpiresIn)*time.Second)
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&expires, "expires", time.Hour, "how long it is good, at most 168h")
	cmd.Flags().StringVar(&method, "method", http.MethodGet, "GET to read the file, PUT to write it")
	return cmd
}

func (c *cli) filesUsageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "usage", Short: "Show how much of its quota the organisation uses", Args: cobra.NoArgs,
		Example: "  rivergate files usage --org 7",
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			if c.json {
				return c.passJSON(cmd, host, usagePath, nil)
			}
			var u struct {
				Used       int64            `json:"used_bytes"`
				Reserved   int64            `json:"reserved_bytes"`
				Limit      int64            `json:"limit_bytes"`
				Available  int64            `json:"available_bytes"`
				Percentage float64          `json:"usage_percentage"`
				Files      int64            `json:"file_count"`
				Categories map[string]int64 `json:"by_category"`
			}
			if _, err := host.call(cmd.Context(), http.MethodGet, usagePath, nil, nil, &u); err != nil {
				return err
			}
			fmt.Fprintf(c.Stdout, "%s of %s used (%.1f %%), %s reserved by uploads that run, %s free, %s\n",
				size(u.Used), size(u.Limit), u.Percentage, size(u.Reserved), size(u.Available), some(u.Files, "file"))
			return nil
		},
	}
}
