package command

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what this binary was made from.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Time     string `json:"commit_time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// build joins what the linker was told (make build) with what Go noted by itself (go build, go install).
func (p *Program) build() build {
	b := build{Version: p.Version, Commit: p.Commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			if b.Commit == "" {
				b.Commit = s.Value
			}
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "dev"
	}
	return b
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Version, commit and Go release of this binary",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := c.build()
			if c.json {
				return c.printJSON(b)
			}
			line := "rivergate " + b.Version
			if b.Commit != "" {
				line += " (commit " + b.Commit
				if b.Modified {
					line += ", modified"
				}
				line += ")"
			}
			fmt.Fprintf(c.Stdout, "%s, %s, %s\n", line, b.Go, b.Platform)
			return nil
		},
	}
}
