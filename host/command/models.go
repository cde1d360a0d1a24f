package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

const modelsPath = "/api/v1/storage/models"

func (c *cli) modelsCommand() *cobra.Command {
	models := group("models", "The model registry: register, list, show, download",
		`Models and their versions. A version never changes; its number is never used again.

`+exitCodesHelp,
		c.modelsListCommand(), c.modelsShowCommand(), c.modelsRegisterCommand(), c.modelsGetCommand())
	c.clientFlags(models)
	models.PersistentFlags().Uint64Var(&c.user, "user", 0, "user to act for (default: none)")
	return models
}

func (c *cli) modelsListCommand() *cobra.Command {
	var search string
	var page int
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List models", Args: cobra.NoArgs,
		Example: "  rivergate models ls --search churn",
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			query := url.Values{"page": {strconv.Itoa(page)}}
			if search != "" {
				query.Set("search", search)
			}
			if c.json {
				return c.passJSON(cmd, host, modelsPath, query)
			}
			var list struct {
				Items []struct {
					ID       string    `json:"model_id"`
					Name     string    `json:"model_name"`
					Latest   versionNo `json:"latest_version"`
					Promoted versionNo `json:"promoted_version"`
					Versions int64     `json:"versions_count"`
					Updated  time.Time `json:"updated_at"`
				} `json:"items"`
				Pagination struct {
					Page       int   `json:"page"`
					TotalPages int64 `json:"total_pages"`
					HasNext    bool  `json:"has_next"`
				} `json:"pagination"`
			}
			if _, err := host.call(cmd.Context(), http.MethodGet, modelsPath, query, nil, &list); err != nil {
				return err
			}
			if len(list.Items) == 0 {
				fmt.Fprintln(c.Stdout, "No models. rivergate models register FILE --name NAME makes one.")
				return nil
			}
			rows := make([][]cell, len(list.Items))
			for i, m := range list.Items {
				rows[i] = []cell{
					text(m.ID), text(m.Name), number(count(m.Versions)), text(string(m.Latest)), {text: string(m.Promoted), tone: good},
					text(m.Updated.UTC().Format(time.RFC3339)),
				}
			}
			c.table([]string{"ID", "NAME", "VERSIONS", "LATEST", "PROMOTED", "UPDATED"}, rows)
			if p := list.Pagination; p.HasNext {
				fmt.Fprintf(c.Stdout, "\nPage %d of %d. More: --page %d\n", p.Page, p.TotalPages, p.Page+1)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&search, "search", "", "only models with this in their name")
	cmd.Flags().IntVar(&page, "page", 1, "which page")
	return cmd
}

// versionNo is a version as the list names it: a number, an id or nothing.
type versionNo string

func (v *versionNo) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		*v = versionNo(s)
	} else if string(raw) != "null" {
		*v = versionNo(raw)
	}
	return nil
}

func (c *cli) modelsShowCommand() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "show MODEL", Short: "Show a model with all its versions, as JSON", Args: cobra.ExactArgs(1),
		Example: "  rivergate models show mdl-1a2b3c4d\n  rivergate models show mdl-1a2b3c4d --format mlflow",
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			return c.passJSON(cmd, host, modelsPath+"/"+url.PathEscape(args[0]), url.Values{"include_all_versions": {"true"}, "format": {form}})
		},
	}
	cmd.Flags().StringVar(&form, "format", "standard", "standard or mlflow")
	return cmd
}

func (c *cli) modelsRegisterCommand() *cobra.Command {
	fields := map[string]*string{}
	var promote bool
	cmd := &cobra.Command{
		Use: "register FILE", Short: "Upload a model file as a new model, or as the next version of one",
		Example: "  rivergate models register churn.onnx --name churn --algorithm xgboost --promote\n" +
			"  rivergate models register churn.pkl --name churn --model mdl-1a2b3c4d --metrics '{\"auc\":0.91}'",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			form := map[string]string{}
			for name, value := range fields {
				if *value != "" {
					form[name] = *value
				}
			}
			for _, name := range []string{"hyperparameters", "metrics"} {
				if text := form[name]; text != "" && !json.Valid([]byte(text)) {
					return mistake("--%s is not JSON: %s", name, text)
				}
			}
			if promote {
				form["promote"] = "true"
			}
			host, err := c.client()
			if err != nil {
				return err
			}
			var answer struct {
				ModelID   string      `json:"model_id"`
				VersionID string      `json:"version_id"`
				Number    json.Number `json:"version_number"`
				Promoted  bool        `json:"is_promoted"`
				SHA256    string      `json:"sha256"`
				Size      int64       `json:"file_size_bytes"`
			}
			if err := c.postFile(cmd.Context(), host, modelsPath, args[0], "", form, &answer); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(answer)
			}
			fmt.Fprintf(c.Stdout, "%s  %s  %s  sha256 %s\n", answer.ModelID, answer.VersionID, size(answer.Size), answer.SHA256)
			return nil
		},
	}
	for flag, field := range map[string][2]string{
		"name": {"name", "name of the model (needed)"}, "model": {"model_id", "id of the model that gets another version; without it, a new model"},
		"algorithm": {"algorithm", "how it was made"}, "framework": {"framework", "what it was made with"},
		"format":          {"format", "pkl, onnx, joblib or other (default: by the name of the file)"},
		"hyperparameters": {"hyperparameters", "JSON object"}, "metrics": {"metrics", "JSON object"},
	} {
		fields[field[0]] = cmd.Flags().String(flag, "", field[1])
	}
	cmd.Flags().BoolVar(&promote, "promote", false, "make it the promoted version")
	_ = cmd.MarkFlagRequired("name")
	cmd.PreRun = func(_ *cobra.Command, args []string) {
		if *fields["format"] == "" {
			*fields["format"] = modelFormat(args[0])
		}
	}
	return cmd
}

// modelFormat is the format of a model file by its name.
func modelFormat(name string) string {
	switch ext := filepath.Ext(name); ext {
	case ".pkl", ".onnx", ".joblib":
		return ext[1:]
	case ".pickle":
		return "pkl"
	default:
		return "other"
	}
}

func (c *cli) modelsGetCommand() *cobra.Command {
	var version, output string
	cmd := &cobra.Command{
		Use: "get MODEL", Short: "Download the promoted version of a model, or another one",
		Example: "  rivergate models get mdl-1a2b3c4d --output churn.onnx\n  rivergate models get mdl-1a2b3c4d --version ver-002 --output churn.onnx",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if version != "" {
				query.Set("version_id", version)
			}
			var answer struct {
				VersionID string `json:"version_id"`
				URL       string `json:"download_url"`
				Size      int64  `json:"file_size_bytes"`
				SHA256    string `json:"sha256"`
			}
			if _, err := host.call(cmd.Context(), http.MethodGet, modelsPath+"/"+url.PathEscape(args[0])+"/download", query, nil, &answer); err != nil {
				return err
			}
			if err := c.download(cmd.Context(), host, answer.URL, output, answer.SHA256, answer.Size); err != nil {
				return err
			}
			fmt.Fprintf(c.Stdout, "%s  %s  %s\n", output, answer.VersionID, size(answer.Size))
			return nil
		},
	}
	cmd.Flags().StringVar(&version, "version", "", "id of the version (default: the promoted one)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (needed)")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

// fileSize is that of a regular file.
func fileSize(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is not a regular file", f.Name())
	}
	return info.Size(), nil
}
